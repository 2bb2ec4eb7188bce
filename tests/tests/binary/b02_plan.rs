//! `smartnat plan` says what would change, and changes nothing.

use crate::common::{SIDES, both_flavours};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{Said, Station};

fn plan(station: &Station, json: bool) -> Said {
    let mut command = station.serving("plan");
    if json {
        command.args(["-o", "json"]);
    }
    station.finish(command).expect(0)
}

fn echo(station: &Station) {
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external, SIDES[1].external]));
}

both_flavours!(before_a_sync_the_plan_lists_what_would_come_and_changes_nothing, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let before = station.host_text();
    let said = plan(&station, false);
    for part in [
        "iptables nat",
        "ip6tables mangle",
        "+ chain SMARTNAT-DNAT",
        "ipset",
        "ip rule",
        "sysctl",
        "0 removed.",
    ] {
        assert!(said.out.contains(part), "{part}: {said}");
    }
    let json = plan(&station, true).json();
    let changes = json["changes"].as_array().expect("a list");
    assert!(changes.iter().any(|change| change["section"] == "ip rule"), "{json}");
    assert!(!json["transactions"].as_array().expect("a list").is_empty());
    assert_eq!(station.host_text(), before);
});

both_flavours!(after_a_sync_the_plan_is_empty, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let run = station.serve();
    let lines = station.host_lines();
    assert_eq!(plan(&station, false).out, "Nothing would change.\n");
    let json = plan(&station, true).json();
    assert_eq!(json["changes"], serde_json::json!([]), "{json}");
    assert_eq!(json["transactions"], serde_json::json!([]), "{json}");
    assert_eq!(json["degraded"], serde_json::json!([]), "{json}");
    run.terminate();
    // Neither is there anything to change when nobody runs.
    assert_eq!(plan(&station, false).out, "Nothing would change.\n");
    assert_eq!(station.host_lines(), lines);
});

both_flavours!(a_plan_names_the_objects_of_a_new_mapping_only, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    station.serve().terminate();
    station.write("other.yaml", &mapping("other", &[SIDES[0].external], 9000, "echo"));
    let json = plan(&station, true).json();
    let changes = json["changes"].as_array().expect("a list");
    assert!(!changes.is_empty());
    assert!(changes.iter().all(|change| change["change"] != "remove"), "{json}");
    let lines = json["changes"].to_string();
    assert!(lines.contains("default/other") || lines.contains("9000"), "{lines}");
    assert!(!changes.iter().any(|change| change["section"] == "ip rule"), "{lines}");
    station.serve().terminate();
    assert_eq!(plan(&station, false).out, "Nothing would change.\n");
});
