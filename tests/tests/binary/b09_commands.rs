//! The commands beside `run`, `plan` and `cleanup`.

use std::fs;
use std::path::Path;
use std::process::Command;

use smartnat_core::model::IptablesFlavour;

use crate::common::{SIDES, both_flavours};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::Station;

fn station() -> Option<Station> {
    smartnat::lab::available().then(|| Station::new(IptablesFlavour::Nft))
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn echo(station: &Station) {
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
}

fn validate(station: &Station, json: bool) -> Command {
    let mut command = station.bare(&["validate", "-f"]);
    command.arg(station.manifests());
    if json {
        command.args(["-o", "json"]);
    }
    command
}

#[test]
fn validate_tells_good_from_bad_by_file_and_line() {
    let Some(station) = station() else { return };
    echo(&station);
    let said = station.finish(validate(&station, false)).expect(0);
    assert!(said.out.contains("accepted  default/echo"), "{said}");
    assert!(said.out.contains("mapping.yaml:1"), "{said}");
    assert!(said.out.contains("1 Mappings: 1 accepted, 0 rejected"), "{said}");

    station.write("wrong.yaml", &("# why\n".to_owned() + &mapping("wrong", &["::1"], 0, "echo")));
    let said = station.finish(validate(&station, false)).expect(1);
    for part in ["rejected  default/wrong", "wrong.yaml:", "::1", "port", "1 rejected"] {
        assert!(said.out.contains(part), "{part}: {said}");
    }
    station.write("clash.yaml", &mapping("zlash", &[SIDES[0].external], 8080, "echo"));
    let json = station.finish(validate(&station, true)).expect(1).json();
    let verdict = |name: &str| {
        let all = json["mappings"].as_array().expect("a list");
        let of_name = |v: &&serde_json::Value| v["mapping"].to_string().contains(name);
        all.iter().find(of_name).unwrap_or_else(|| panic!("{name} in {json}")).clone()
    };
    assert_eq!(verdict("echo")["accepted"], true);
    assert_eq!(verdict("wrong")["accepted"], false);
    assert_eq!(verdict("wrong")["problems"].as_array().map(Vec::len), Some(2), "{json}");
    let lost = verdict("zlash");
    assert!(lost["problems"].to_string().contains("default/echo"), "{json}");
}

#[test]
fn validate_names_file_and_line_of_malformed_yaml() {
    let Some(station) = station() else { return };
    echo(&station);
    station.write("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x\nspec: 1\n");
    let said = station.finish(validate(&station, false)).expect(1);
    let line = said.out.lines().find(|line| line.contains("broken.yaml"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.starts_with("error"), "{line}");
    assert!(["broken.yaml:3", "broken.yaml:4"].iter().any(|place| line.contains(place)), "{line}");
    assert!(said.out.contains("accepted  default/echo"), "the others are judged: {said}");
    let said = station.finish(station.bare(&["validate", "-f", "/no/such.yaml"])).expect(2);
    assert!(said.err.contains("/no/such.yaml"), "{said}");
}

#[test]
fn every_sample_is_valid() {
    let Some(station) = station() else { return };
    let mut command = station.bare(&["validate", "-f"]);
    command.arg(repository().join("deploy/samples"));
    let said = station.finish(command).expect(0);
    assert!(said.out.contains("0 errors, 0 warnings"), "{said}");
}

#[test]
fn crd_prints_the_committed_definition() {
    let Some(station) = station() else { return };
    let file = repository().join("crds/smartnat.aureacentral.com_mappings.yaml");
    let committed = fs::read_to_string(file).expect("the committed definition");
    assert_eq!(station.finish(station.bare(&["crd"])).expect(0).out, committed);
    let json = station.finish(station.bare(&["crd", "-o", "json"])).expect(0).json();
    assert_eq!(json["metadata"]["name"], "mappings.smartnat.aureacentral.com");
}

#[test]
fn the_file_of_a_host_serves_plan_and_validate_elsewhere() {
    let Some(station) = station() else { return };
    echo(&station);
    for format in ["text", "json"] {
        let host = station.finish(station.bare(&["host", "-o", format])).expect(0);
        let file = station.path(format);
        fs::write(&file, host.out).expect("written");
        let mut plan = station.serving("plan");
        plan.arg("--host").arg(&file);
        // On another host, that has no uplink of the pattern.
        let said = station.finish_on("pod1", plan).expect(0);
        assert!(said.out.contains("+ chain SMARTNAT-DNAT"), "{said}");
        assert!(said.out.contains("iif ext1"), "{said}");
        let mut command = validate(&station, false);
        command.args(["--uplink-pattern", "ext[0-9]", "--host"]).arg(&file);
        let said = station.finish_on("pod1", command).expect(0);
        let held = format!("addresses on the host: {}", SIDES[0].external);
        assert!(said.out.contains(&held), "{said}");
    }
    // The same as on the host itself, but for its sysctls, which the file does not have.
    let on_host = station.finish(station.serving("plan")).expect(0).out;
    let mut offline = station.serving("plan");
    offline.arg("--host").arg(station.path("text"));
    let elsewhere = station.finish_on("pod1", offline).expect(0).out;
    let objects = |text: &str| text.split_once("\nsysctl\n").map(|(all, _)| all.to_owned());
    assert!(objects(&on_host).is_some());
    assert_eq!(objects(&elsewhere), objects(&on_host));
}

both_flavours!(status_tells_who_runs_what_is_served_and_what_was, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let status = |words: &[&str]| station.finish(station.command(words));
    let said = status(&["status"]).expect(1);
    assert!(said.err.contains("no instance has run"), "{said}");
    let run = station.serve();
    let said = status(&["status"]).expect(0);
    for part in [&format!("pid {}", run.id()), "in sync", "ext1", "default/echo", "tcp/8080", "yes"]
    {
        assert!(said.out.contains(part), "{part}: {said}");
    }
    let json = status(&["status", "-o", "json"]).expect(0).json();
    assert_eq!(json["running"], true, "{json}");
    assert_eq!(json["status"]["inSync"], true, "{json}");
    assert_eq!(json["status"]["process"]["pid"], run.id(), "{json}");
    let mapping = &json["status"]["mappings"]["default/echo"];
    assert_eq!(mapping["invalid"], "no", "{json}");
    assert_eq!(mapping["configuredAddresses"][SIDES[0].external][0], "10.244.1.11", "{json}");
    run.terminate();
    let said = status(&["status"]).expect(1);
    assert!(said.out.contains("does not run; the dataplane is as it was left"), "{said}");
    assert!(said.out.contains("default/echo"), "{said}");
    let json = status(&["status", "-o", "json"]).expect(1).json();
    assert_eq!(json["running"], false, "{json}");
    station.clean_up().expect(0);
    status(&["status"]).expect(1);
});

#[test]
fn completions_are_a_script_of_the_shell() {
    let Some(station) = station() else { return };
    let script = station.finish(station.bare(&["completions", "bash"])).expect(0).out;
    for word in ["cleanup", "--uplink-pattern", "--legacy", "simulated"] {
        assert!(script.contains(word), "{word}");
    }
    let file = station.path("completions");
    fs::write(&file, script).expect("written");
    let mut check = Command::new("bash");
    check.arg("-n").arg(&file);
    station.finish(check).expect(0);
}

#[test]
fn help_has_examples_for_every_command_of_weight() {
    let Some(station) = station() else { return };
    let help = station.finish(station.bare(&["--help"])).expect(0).out;
    assert!(help.contains("Examples:") && help.contains("Exit code:"), "{help}");
    for command in ["run", "validate", "plan", "cleanup"] {
        let help = station.finish(station.bare(&[command, "--help"])).expect(0).out;
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
}

#[test]
fn a_dry_run_follows_the_manifests_and_touches_nothing() {
    let Some(station) = station() else { return };
    let before = station.host_text();
    let mut command = station.serving("run");
    command.args(["--backend", "simulated"]);
    let mut run = station.start(command);
    run.wait_ready();
    echo(&station);
    let programmed = |status: &smartnat_core::status::StatusReport| {
        status.in_sync && status.mappings.values().any(|m| m.conditions.iter().all(|c| c.status))
    };
    run.wait_status(programmed);
    assert_eq!(station.host_text(), before);
    run.terminate();
}

#[test]
fn a_reader_that_goes_away_is_no_failure_of_the_program() {
    let Some(station) = station() else { return };
    let program = smartnat_tests::program().display().to_string();
    for words in ["crd", "--help", "completions bash", "host"] {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("set -o pipefail; {program} {words} | head -c 1 >/dev/null")]);
        let said = station.finish(shell);
        assert!(!said.err.contains("panicked"), "{words}: {said}");
        assert_eq!(said.err, "", "{words}");
    }
}

#[test]
fn log_lines_are_json_where_that_is_wanted() {
    let Some(station) = station() else { return };
    echo(&station);
    let mut command = station.serving("run");
    command.args(["--log-format", "json", "--log-level", "debug"]);
    let mut run = station.start(command);
    run.wait_ready();
    let log = run.terminate();
    assert!(log.lines().count() > 5, "{log}");
    for line in log.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(value["level"].is_string() && value["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn the_configuration_file_alone_is_enough() {
    let Some(station) = station() else { return };
    echo(&station);
    let file = station.path("config.yaml");
    let text = format!(
        "instance: gw-7\nuplinkPattern: ext[0-9]\nmanifests: {}\nstateDir: {}\n\
         gateways: {{ext1: {{ipv4: 198.51.100.77}}}}\niptablesFlavour: nft\n",
        station.manifests().display(),
        station.state().display()
    );
    fs::write(&file, text).expect("written");
    let mut command = Command::new(smartnat_tests::program());
    command.args(["run", "--config"]).arg(&file);
    let mut run = station.start(command);
    run.wait_ready();
    let status = run.status().expect("a status");
    assert_eq!(status.instance, "gw-7");
    let gateways: Vec<String> =
        status.uplinks["ext1"].gateways.iter().map(ToString::to_string).collect();
    assert!(gateways.contains(&"198.51.100.77".to_owned()), "{gateways:?}");
    run.terminate();
}
