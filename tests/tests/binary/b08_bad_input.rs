//! Wrong settings, missing programs, missing rights, a second instance: each is told with its mend.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use smartnat_core::model::IptablesFlavour;

use crate::common::{SIDES, at, both_flavours, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{Said, Station};

fn echo(station: &Station) {
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
}

fn station() -> Option<Station> {
    smartnat::lab::available().then(|| Station::new(IptablesFlavour::Nft))
}

both_flavours!(an_uplink_that_appears_later_is_waited_for_and_taken, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let _servers = servers(&station.lab);
    let mut command = station.command(&["run", "--uplink-pattern", "late[0-9]", "--manifests"]);
    command.arg(station.manifests());
    let run = station.start(command);
    let line = run.wait_line(&["WARN", "no uplink", "late[0-9]"]);
    assert!(line.contains("ext1"), "the interfaces that there are: {line}");
    let status = run.wait_status(|status| !status.degraded.is_empty());
    assert!(!status.in_sync && status.uplinks.is_empty());
    for line in ["ip link set ext1 down", "ip link set ext1 name late1", "ip link set late1 up"] {
        station.sh(line);
    }
    let status = run.wait_status(|status| status.in_sync && status.uplinks.contains_key("late1"));
    assert_eq!(status.degraded, Vec::<String>::new());
    assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod1")));
    run.wait_line(&["no longer degraded"]);
    // And when it goes again, the run goes on.
    for line in ["ip link set late1 down", "ip link set late1 name ext1", "ip link set ext1 up"] {
        station.sh(line);
    }
    run.wait_status(|status| status.uplinks.is_empty() && !status.in_sync);
    run.terminate();
    station.clean_up().expect(0);
});

#[test]
fn wrong_values_name_setting_value_and_what_is_allowed() {
    let Some(station) = station() else { return };
    // Key of the file, flag, variable, value, what is allowed.
    let cases = [
        (
            "backend",
            "--backend",
            "SMARTNAT_BACKEND",
            "ebpf",
            "auto, nftables, iptables or simulated",
        ),
        (
            "iptablesFlavour",
            "--iptables-flavour",
            "SMARTNAT_IPTABLES_FLAVOUR",
            "new",
            "nft or legacy",
        ),
        ("masquerade", "--masquerade", "SNCTRLR_SETUP_MASQUERADE", "maybe", "true or false"),
        ("egress", "--egress", "SNCTRLR_SETUP_SNAT", "2", "true or false"),
        ("gatewayOffset", "--gateway-offset", "SNCTRLR_GW_ADDRESS_OFFSET", "0", "other than 0"),
        ("maxPorts", "--max-ports", "SNCTRLR_MAX_PORTS_PER_MAPPING", "0", "from 1 to 65535"),
        (
            "uplinkPattern",
            "--uplink-pattern",
            "SNCTRLR_INTERFACES_PATTERN",
            "eth[",
            "regular expression",
        ),
        (
            "defaultInterface",
            "--default-interface",
            "SNCTRLR_DEFAULT_GW_INTERFACE",
            "a/b",
            "interface name",
        ),
        ("uplinks", "--uplink", "SMARTNAT_UPLINKS", "much-too-long-a-name", "1 to 15 characters"),
        ("gateways", "--gateway", "SMARTNAT_GATEWAYS", "eth1=0.0.0.0", "INTERFACE=ADDRESS"),
        ("markMask", "--mark-mask", "SMARTNAT_MARK_MASK", "0x3", "5 bits"),
        ("tableBase", "--table-base", "SMARTNAT_TABLE_BASE", "7", "from 256"),
        ("rulePriority", "--rule-priority", "SMARTNAT_RULE_PRIORITY", "40000", "1 to 32000"),
        (
            "lockWaitSeconds",
            "--lock-wait-seconds",
            "SNCTRLR_IPTABLES_TIMEOUT_SEC",
            "-1",
            "1 to 600",
        ),
        ("logFormat", "--log-format", "SMARTNAT_LOG_FORMAT", "xml", "text or json"),
        ("logLevel", "--log-level", "SMARTNAT_LOG_LEVEL", "loud", "debug or trace"),
    ];
    for (key, flag, variable, value, allowed) in cases {
        let check = |said: Said, origin: &str| {
            let said = said.expect(2);
            for part in [origin, value, allowed] {
                assert!(said.err.contains(part), "{part}: {said}");
            }
        };
        let run = || {
            let mut command = station.bare(&["run", "--manifests"]);
            command.arg(station.manifests());
            command
        };
        let mut by_flag = run();
        by_flag.arg(format!("{flag}={value}"));
        check(station.finish(by_flag), flag);
        let mut by_variable = run();
        by_variable.env(variable, value);
        check(station.finish(by_variable), variable);
        let file = station.path("config.yaml");
        fs::write(&file, format!("{key}: {value:?}\n")).expect("written");
        let mut by_file = run();
        by_file.arg("--config").arg(&file);
        let said = station.finish(by_file);
        assert!(said.err.contains("config.yaml"), "{said}");
        check(said, key);
    }
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once() {
    let Some(station) = station() else { return };
    let file = station.path("config.yaml");
    fs::write(&file, "uplinkPatern: eth1\nguard: perhaps\n").expect("written");
    let mut command = station.bare(&["run", "--max-ports", "none", "--config"]);
    command.arg(&file).env("SMARTNAT_EGRESS", "sometimes");
    let said = station.finish(command).expect(2);
    for part in [
        "4 problems",
        "did you mean \"uplinkPattern\"",
        "guard in ",
        "--max-ports: \"none\"",
        "SMARTNAT_EGRESS: \"sometimes\"",
    ] {
        assert!(said.err.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_must_be_configured_is_asked_for() {
    let Some(station) = station() else { return };
    let mut command = station.bare(&["run", "--manifests"]);
    command.arg(station.manifests());
    let said = station.finish(command).expect(2);
    assert!(said.err.contains("--uplink-pattern"), "{said}");
    let said = station.finish(station.bare(&["run", "--uplink", "ext1"])).expect(2);
    assert!(said.err.contains("--manifests"), "{said}");
    let words = ["run", "--uplink", "ext1", "--manifests", "/no/such/place"];
    let said = station.finish(station.bare(&words)).expect(2);
    assert!(said.err.contains("/no/such/place"), "{said}");
    let said = station.finish(station.bare(&["valdate"])).expect(2);
    assert!(said.err.contains("'validate'"), "{said}");
}

#[test]
fn a_misspelt_variable_is_named_with_the_likely_one() {
    let Some(station) = station() else { return };
    echo(&station);
    let mut command = station.serving("run");
    command.env("SMARTNAT_UPLINK_PATERN", "x").env("SNCTRLR_SETUP_SNATT", "true");
    let run = station.start(command);
    run.wait_line(&["WARN", "SMARTNAT_UPLINK_PATERN", "did you mean SMARTNAT_UPLINK_PATTERN"]);
    run.wait_line(&["WARN", "SNCTRLR_SETUP_SNATT", "did you mean SNCTRLR_SETUP_SNAT"]);
}

/// The same words in a mount namespace where the programs of both flavours are no programs.
pub(crate) fn without_iptables(inner: &Command) -> Command {
    let hidden = "for p in xtables-nft-multi xtables-legacy-multi; do \
                  mount --bind /dev/null $(command -v $p) || exit 99; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hidden, "sh"]).arg(inner.get_program());
    command.args(inner.get_args()).env_remove("SMARTNAT_IPTABLES_FLAVOUR");
    command
}

#[test]
fn missing_iptables_is_named_with_its_package() {
    let Some(station) = station() else { return };
    echo(&station);
    let mut command = without_iptables(&station.serving("run"));
    command.env("SMARTNAT_BACKEND", "iptables");
    let said = station.finish(command).expect(1);
    assert!(said.err.contains("apt-get install iptables"), "{said}");
    assert!(said.err.contains("iptables-nft-save"), "{said}");
}

both_flavours!(a_path_without_the_systems_directories_is_enough, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let _servers = servers(&station.lab);
    let mut command = station.serving("run");
    command.env("PATH", "/usr/bin/nowhere");
    let mut run = station.start(command);
    run.wait_ready();
    assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod1")));
});

/// The program for everybody: the build directory need not be readable.
fn public(station: &Station) -> std::path::PathBuf {
    let directory = station.path("public");
    let parent = directory.parent().expect("a temporary directory");
    fs::create_dir(&directory).expect("a directory");
    for path in [parent, &directory, &station.manifests()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("opened");
    }
    let program = directory.join("smartnat");
    fs::copy(smartnat_tests::program(), &program).expect("copied");
    program
}

#[test]
fn without_privileges_each_command_works_or_says_what_it_lacks() {
    let Some(station) = station() else { return };
    echo(&station);
    let program = public(&station);
    let unprivileged = |command: Command| {
        let mut public = Command::new(&program);
        public.args(command.get_args()).uid(65534).gid(65534);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => public.env(name, value),
                None => public.env_remove(name),
            };
        }
        station.finish(public)
    };
    let before = station.host_text();
    for command in [station.serving("run"), station.serving("plan"), station.command(&["cleanup"])]
    {
        let said = unprivileged(command).expect(1);
        assert!(said.err.contains("CAP_NET_ADMIN"), "{said}");
    }
    let said = unprivileged(station.serving("run")).expect(1);
    assert!(said.err.contains("--backend simulated"), "{said}");
    assert_eq!(station.host_text(), before);
    let host = unprivileged(station.bare(&["host"])).expect(0);
    let file = station.path("public").join("host.yaml");
    fs::write(&file, host.out).expect("written");
    let mut plan = station.serving("plan");
    plan.arg("--host").arg(&file);
    assert!(unprivileged(plan).expect(0).out.contains("+ chain SMARTNAT-DNAT"));
    let mut validate = station.bare(&["validate", "-f"]);
    validate.arg(station.manifests());
    unprivileged(validate).expect(0);
}

both_flavours!(a_second_instance_of_one_namespace_is_told_the_pid_of_the_first, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let run = station.serve();
    let operations = run.stats().operations;
    let said = station.finish(station.serving("run")).expect(1);
    assert!(said.err.contains(&format!("pid {}", run.id())), "{said}");
    assert!(said.err.contains("another instance"), "{said}");
    assert_eq!(run.stats().operations, operations);
    run.kill();
    // The lock of a killed instance is no obstacle.
    station.serve().terminate();
});

both_flavours!(instances_of_two_namespaces_share_a_state_directory, |flavour| {
    let (one, mut two) = (Station::new(flavour), Station::new(flavour));
    two.share_state(&one);
    echo(&one);
    two.write("service.yaml", &service("echo", &["10.244.1.12"]));
    two.write("mapping.yaml", &mapping("echo", &[SIDES[0].external], 8080, "echo"));
    let _servers = (servers(&one.lab), servers(&two.lab));
    let before = two.host_text();
    let (first, second) = (one.serve(), two.serve());
    let to = at(SIDES[0].external, 8080);
    assert!(one.wait_answer("client1", to, Some("pod1")));
    assert!(two.wait_answer("client1", to, Some("pod2")));
    for station in [&one, &two] {
        station.finish(station.command(&["status"])).expect(0);
    }
    second.terminate();
    two.clean_up().expect(0);
    if flavour == IptablesFlavour::Nft {
        assert_eq!(two.host_text(), before);
    }
    assert!(one.wait_answer("client1", to, Some("pod1")));
    one.finish(one.command(&["status"])).expect(0);
    first.terminate();
    assert!(one.host_text().contains("SMARTNAT"));
});

#[test]
fn of_several_that_start_at_once_one_runs() {
    let Some(station) = station() else { return };
    echo(&station);
    let mut runs: Vec<_> = (0..4).map(|_| station.start(station.serving("run"))).collect();
    let running = |runs: &mut Vec<crate::station::Run>| {
        let alive = |run: &mut crate::station::Run| {
            run.process().try_wait().expect("a child of ours").is_none()
        };
        runs.iter_mut().map(alive).filter(|alive| *alive).count()
    };
    let one = smartnat::lab::wait_until(crate::station::PATIENCE, || {
        (running(&mut runs) == 1).then_some(())
    });
    assert!(one.is_some(), "{} run", running(&mut runs));
    runs.retain_mut(|run| run.process().try_wait().expect("a child of ours").is_none());
    runs[0].wait_ready();
    station.finish(station.command(&["status"])).expect(0);
}

#[test]
fn a_held_xtables_lock_is_waited_for_and_then_told() {
    let Some(station) = station() else { return };
    echo(&station);
    // The legacy programs share a lock with everybody on the machine; here it is one of our own.
    let path = station.path("xtables.lock");
    let lock = fs::File::create(&path).expect("a file");
    lock.lock().expect("nobody has it");
    let mut command = station.serving("run");
    command.args(["--iptables-flavour", "legacy", "--lock-wait-seconds", "1"]);
    command.env("XTABLES_LOCKFILE", &path);
    let mut run = station.start(command);
    run.wait_line(&["WARN", "xtables.lock", "failed for now"]);
    drop(lock);
    run.wait_ready();
    let status = run.wait_status(|status| status.in_sync);
    assert_eq!(status.degraded, Vec::<String>::new());
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let Some(station) = station() else { return };
    let mut command = Command::new(smartnat_tests::program());
    command.args(["run", "--uplink", "ext1", "--state-dir", "/proc/no/such", "--manifests"]);
    command.arg(station.manifests());
    let said = station.finish(command).expect(1);
    assert!(said.err.contains("/proc/no/such"), "{said}");
}
