//! T16 with the program: `smartnat cleanup` leaves what was before. T14: and `--legacy` takes
//! what the Go version left, beside which `run` does not start.

use smartnat::lab::{Lab, traffic};
use smartnat_core::model::{IptablesFlavour, Protocol};

use crate::common::{SIDES, at, both_flavours, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{GATEWAY, Run, Station};
use smartnat_tests::host_text::foreign_objects;

fn echo(station: &Station) {
    station.write("service.yaml", &service("echo", &["10.244.1.11", "10.244.1.12"]));
    let all = SIDES.map(|side| side.external);
    station.write("mapping.yaml", &(echo_mapping(&all) + "  egress: true\n"));
    station.write(
        "restricted.yaml",
        &(mapping("restricted", &all, 9000, "echo") + "  allowedSources: [192.0.2.0/24]\n"),
    );
}

/// Foreign objects of which none needs the host to forward.
fn idle_foreign_objects(station: &Station) {
    let programs = station.programs();
    foreign_objects(&station.lab, &programs);
    for iptables in [programs.v4, programs.v6] {
        station.sh(&format!("{iptables} -t nat -D POSTROUTING 1"));
    }
}

fn restores_the_host(station: &Station, end: impl Fn(Run)) {
    idle_foreign_objects(station);
    let before = station.host_text();
    echo(station);
    let _servers = servers(&station.lab);
    let run = station.serve();
    assert_ne!(station.host_text(), before);
    let side = SIDES[0];
    let open =
        |to| traffic::open(&station.lab, side.client, Protocol::Tcp, None, to, traffic::PATIENT);
    let mut lasting = open(at(side.external, 8080)).expect("the lab").expect("a connection");
    assert!(lasting.ask("1", traffic::PATIENT).is_answered());
    end(run);
    assert!(lasting.ask("2", traffic::PATIENT).is_answered(), "the dataplane serves on");

    let said = station.clean_up().expect(0);
    assert!(said.out.contains("Everything is removed ("), "{said}");
    assert_eq!(station.host_text(), before);
    assert!(!lasting.ask("3", traffic::BRIEF).is_answered(), "a translated connection lives on");
    let again = station.clean_up().expect(0);
    assert!(again.out.contains("There was nothing to remove."), "{again}");
    assert_eq!(station.host_text(), before);
    let left: Vec<_> = std::fs::read_dir(station.state())
        .expect("the state directory")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| !name.to_string_lossy().ends_with("lock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

both_flavours!(clean_up_after_sigterm_restores_every_line_beside_foreign_objects, |flavour| {
    restores_the_host(&Station::new(flavour), |run| {
        run.terminate();
    });
});

both_flavours!(clean_up_after_sigkill_restores_every_line_beside_foreign_objects, |flavour| {
    restores_the_host(&Station::new(flavour), Run::kill);
});

both_flavours!(clean_up_leaves_forwarding_on_where_others_translate_and_says_so, |flavour| {
    let station = Station::new(flavour);
    idle_foreign_objects(&station);
    let rule = "-t nat -A POSTROUTING -s 192.0.2.128/25 -j MASQUERADE";
    station.sh(&format!("{} {rule}", station.programs().v4));
    let before = station.host_text();
    echo(&station);
    station.serve().terminate();
    let said = station.clean_up().expect(0);
    let told = said.out.lines().chain(said.err.lines()).find(|line| line.contains("forward"));
    let told = told.unwrap_or_else(|| panic!("no word of forwarding: {said}"));
    assert!(told.contains("IPv4") && !told.contains("IPv6"), "{told}");
    let expected = before.replace("net.ipv4.ip_forward = 0", "net.ipv4.ip_forward = 1");
    let expected: Vec<String> = expected
        .lines()
        .map(|line| match line.strip_prefix("net.ipv4.conf.") {
            Some(key) => {
                format!("net.ipv4.conf.{}", key.replace("forwarding = 0", "forwarding = 1"))
            }
            None => line.into(),
        })
        .collect();
    let after: Vec<String> = station.host_text().lines().map(str::to_owned).collect();
    assert_eq!(after, expected);
});

both_flavours!(clean_up_beside_a_running_instance_is_refused_and_names_its_pid, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let run = station.serve();
    let lines = station.host_lines();
    for words in [&["cleanup"][..], &["cleanup", "--legacy"]] {
        let said = station.finish(station.command(words)).expect(1);
        assert!(said.err.contains(&format!("pid {}", run.id())), "{said}");
        assert!(said.err.contains("stop it first"), "{said}");
    }
    assert_eq!(station.host_lines(), lines);
    run.terminate();
    station.clean_up().expect(0);
});

both_flavours!(clean_up_where_nothing_ever_ran_changes_nothing, |flavour| {
    let station = Station::new(flavour);
    foreign_objects(&station.lab, &station.programs());
    let before = station.host_text();
    let said = station.clean_up().expect(0);
    assert!(said.out.contains("There was nothing to remove."), "{said}");
    let json = station.finish(station.command(&["cleanup", "-o", "json"])).expect(0).json();
    assert_eq!((&json["complete"], &json["operations"]), (&true.into(), &0.into()), "{json}");
    assert_eq!(station.host_text(), before);
});

both_flavours!(clean_up_finds_everything_by_its_name_when_the_state_is_lost, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    station.serve().kill();
    std::fs::remove_dir_all(station.state()).expect("the state is lost");
    station.clean_up().expect(0);
    let text = station.host_text().to_ascii_lowercase();
    assert!(!text.contains("smartnat"), "{text}");
    assert!(!text.contains("fwmark 0x") && !text.contains("table 700"), "{text}");
});

both_flavours!(clean_up_of_numbers_that_only_the_run_was_told, |flavour| {
    let station = Station::new(flavour);
    let before = station.host_text();
    echo(&station);
    let mut command = station.serving("run");
    command.args(["--mark-mask", "0x1f000000", "--table-base", "9000", "--rule-priority", "1500"]);
    let mut run = station.start(command);
    run.wait_ready();
    assert!(station.sh("ip rule").contains("lookup 900"), "{}", station.sh("ip rule"));
    run.kill();
    station.clean_up().expect(0);
    assert_eq!(used(&station.host_text()), used(&before));
});

/// Lines but those of empty tables: the kernel keeps legacy tables once they were used.
pub(crate) fn used(text: &str) -> Vec<String> {
    let empty = |line: &str| line.starts_with(['*', ':']) || line == "COMMIT";
    text.lines().filter(|line| !empty(line)).map(str::to_owned).collect()
}

const NAME: &str = "ABCDEFGHIJKLMNOPQRSTUV27";

/// What the Go version made for one Mapping of the first uplink's address.
fn leftovers(lab: &Lab, iptables: &str) {
    let script = format!(
        r"set -e
        index=$(ip -o link show ext1 | cut -d: -f1)
        mark=$(printf '0x%x' $((0x800 + index)))
        ipset create DNAT-{NAME} hash:net,port
        ipset add DNAT-{NAME} 0.0.0.0/1,tcp:8080
        ipset add DNAT-{NAME} 128.0.0.0/1,tcp:8080
        ipset create {NAME} hash:ip
        ipset add {NAME} 10.244.1.11
        for chain in SNM-PREROUTING SNM-POSTROUTING-MASQ SNM-POSTROUTING-SNAT MAP-{NAME}; do
            {iptables} -t nat -N $chain
        done
        {iptables} -t nat -A PREROUTING -m comment --comment 'for SNM' -j SNM-PREROUTING
        {iptables} -t nat -A POSTROUTING -m comment --comment 'for SNM' -j SNM-POSTROUTING-MASQ
        {iptables} -t nat -A POSTROUTING -m comment --comment 'for SNM' -j SNM-POSTROUTING-SNAT
        {iptables} -t nat -A SNM-POSTROUTING-MASQ -m mark --mark 0x100000/0x100000 -j MASQUERADE
        {iptables} -t nat -A SNM-POSTROUTING-SNAT -m set --match-set {NAME} src -j SNAT --to-source 198.51.100.10
        {iptables} -t nat -A MAP-{NAME} -j MARK --set-xmark 0x100000/0x100000
        {iptables} -t nat -A MAP-{NAME} -p tcp --dport 8080 -m comment --comment 'for mapping default/echo [tcp:8080:8080]' -j DNAT --to-destination 10.96.0.80:8080
        {iptables} -t nat -A SNM-PREROUTING -d 198.51.100.10/32 -m set --match-set DNAT-{NAME} src,dst -j MAP-{NAME}
        {iptables} -t mangle -N SNM-PREROUTING
        {iptables} -t mangle -A PREROUTING -m comment --comment 'for SNM' -j SNM-PREROUTING
        {iptables} -t mangle -A SNM-PREROUTING -m set --match-set {NAME} src -j MARK --set-xmark $mark/$mark
        ip route add 198.51.100.0/24 dev ext1 table 101
        ip route add default via 198.51.100.1 table 101
        ip rule add fwmark $mark lookup 101
        ip rule add from 198.51.100.10 lookup 101
        "
    );
    lab.command(GATEWAY, &["sh", "-c", &script]).expect("the Go version's objects");
}

both_flavours!(run_refuses_beside_the_go_version_and_legacy_clean_up_opens_the_way, |flavour| {
    let station = Station::new(flavour);
    let programs = station.programs();
    foreign_objects(&station.lab, &programs);
    let before = station.host_text();
    leftovers(&station.lab, programs.v4);
    let beside = station.host_text();
    assert_ne!(beside, before);
    echo(&station);

    let refused = station.finish(station.serving("run")).expect(1);
    assert!(refused.err.contains("smartnat cleanup --legacy"), "{refused}");
    assert!(refused.err.contains("Go version"), "{refused}");
    assert_eq!(station.host_text(), beside, "a refused start changes nothing");
    // The ordinary clean-up does not touch them.
    station.clean_up().expect(0);
    assert_eq!(station.host_text(), beside);

    let said = station.finish(station.command(&["cleanup", "--legacy"])).expect(0);
    for part in ["SNM-PREROUTING", NAME, "found", "Everything is removed"] {
        assert!(said.out.contains(part), "{part}: {said}");
    }
    assert_eq!(station.host_text(), before);
    let again = station.finish(station.command(&["cleanup", "--legacy"])).expect(0);
    assert!(again.out.contains("There was nothing to remove."), "{again}");
    let _servers = servers(&station.lab);
    let _run = station.serve();
    assert!(
        station.wait_answer("client1", at(SIDES[0].external, 9000), Some("pod1"))
            || station.wait_answer("client1", at(SIDES[0].external, 9000), Some("pod2"))
    );
});

both_flavours!(the_go_versions_objects_of_the_other_flavour_are_found_too, |flavour| {
    let station = Station::new(flavour);
    let other = match flavour {
        IptablesFlavour::Legacy => "iptables-nft",
        _ => "iptables-legacy",
    };
    leftovers(&station.lab, other);
    echo(&station);
    let refused = station.finish(station.serving("run")).expect(1);
    assert!(refused.err.contains("smartnat cleanup --legacy"), "{refused}");
    station.finish(station.command(&["cleanup", "--legacy"])).expect(0);
    station.serve().terminate();
});
