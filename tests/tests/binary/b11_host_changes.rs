//! The host changes under the running program, and settings change over a restart.

use smartnat::lab::wait_until;
use smartnat_core::model::IptablesFlavour;
use smartnat_core::status::StatusReport;

use crate::common::{SIDES, at, both_flavours, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{GATEWAY, PATIENCE, Station};

fn echo(station: &Station) {
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
}

/// Addresses at which a Mapping is served.
fn held(report: &StatusReport, name: &str) -> Vec<String> {
    let mut all = report.mappings.iter().filter(|(key, _)| *key.name == *name);
    let addresses = all.next().map(|(_, status)| status.configured_addresses.keys());
    addresses.into_iter().flatten().map(ToString::to_string).collect()
}

both_flavours!(an_address_that_comes_is_served_and_one_that_goes_is_not, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    echo(&station);
    station.write("late.yaml", &mapping("late", &["198.51.100.20"], 8080, "echo"));
    let run = station.serve();
    run.wait_status(|status| status.in_sync && held(status, "late").is_empty());
    station.sh("ip address add 198.51.100.20/24 dev ext1");
    run.wait_status(|status| status.in_sync && held(status, "late") == ["198.51.100.20"]);
    assert!(station.wait_answer("client1", at("198.51.100.20", 8080), Some("pod1")));
    station.sh("ip address del 198.51.100.20/24 dev ext1");
    let status = run.wait_status(|status| status.in_sync && held(status, "late").is_empty());
    assert_eq!(held(&status, "echo"), [SIDES[0].external]);
    assert!(station.wait_answer("client1", at("198.51.100.20", 8080), None));
    assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod1")));
});

both_flavours!(a_link_that_was_down_serves_again, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    echo(&station);
    let run = station.serve();
    for _ in 0..2 {
        station.sh("ip link set ext1 down");
        run.wait_status(|status| status.in_sync && !status.uplinks.is_empty());
        station.sh("ip link set ext1 up");
        assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod1")));
    }
    let table = wait_until(PATIENCE, || {
        let found = station.lab.output(GATEWAY, &["ip", "route", "show", "table", "7001"]);
        let text = String::from_utf8_lossy(&found.expect("ip runs").stdout).into_owned();
        text.contains("default via 198.51.100.1").then_some(text)
    });
    assert!(table.is_some(), "{}", run.log());
});

both_flavours!(what_changed_while_nobody_ran_is_caught_up_with, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    echo(&station);
    station.write("gone.yaml", &mapping("gone", &[SIDES[0].external], 9000, "echo"));
    station.serve().kill();
    assert!(station.wait_answer("client1", at(SIDES[0].external, 9000), Some("pod1")));
    station.delete("gone.yaml");
    station.write("service.yaml", &service("echo", &["10.244.1.12"]));
    station.sh("ip address del 203.0.113.11/24 dev ext2");
    let run = station.serve();
    assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod2")));
    assert!(station.wait_answer("client1", at(SIDES[0].external, 9000), None));
    let text = station.host_text();
    assert!(!text.contains("9000"), "{text}");
    run.terminate();
});

both_flavours!(settings_that_changed_over_a_restart_take_effect, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    echo(&station);
    station.serve().terminate();
    let seen = || {
        let to = at(SIDES[0].external, 8080);
        let patience = smartnat::lab::traffic::PATIENT;
        let from = Some(crate::common::ip(SIDES[0].source));
        let outcome =
            smartnat::lab::traffic::connect_tcp(&station.lab, "client1", from, to, patience);
        outcome.answer().map(|answer| answer.seen_peer.ip().to_string())
    };
    assert_eq!(seen().as_deref(), Some("10.244.1.1"), "the gateway's address");
    let mut command = station.serving("run");
    command.args(["--masquerade", "false", "--table-base", "8000", "--rule-priority", "300"]);
    let mut run = station.start(command);
    run.wait_ready();
    assert_eq!(seen().as_deref(), Some(SIDES[0].source), "the client's address");
    let rules = station.sh("ip rule");
    assert!(rules.contains("lookup 8001"), "{rules}");
    assert!(!rules.contains("lookup 7001") && !rules.contains("20000:"), "{rules}");
    run.terminate();
});

/// Whether a flavour holds chains of ours.
fn has_ours(station: &Station, flavour: &str) -> bool {
    ["iptables", "ip6tables"]
        .iter()
        .any(|program| station.sh(&format!("{program}-{flavour}-save")).contains("SMARTNAT"))
}

both_flavours!(a_change_of_flavour_leaves_nothing_in_the_other, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    echo(&station);
    station.serve().terminate();
    let (old, new) = match flavour {
        IptablesFlavour::Legacy => ("legacy", "nft"),
        _ => ("nft", "legacy"),
    };
    assert!(has_ours(&station, old) && !has_ours(&station, new));
    // Without a word about the flavour it stays.
    let mut command = station.serving("run");
    command.env_remove("SMARTNAT_IPTABLES_FLAVOUR");
    let mut run = station.start(command);
    run.wait_ready();
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    run.terminate();
    let mut command = station.serving("run");
    command.args(["--iptables-flavour", new]);
    let mut run = station.start(command);
    run.wait_ready();
    assert!(has_ours(&station, new));
    assert!(!has_ours(&station, old), "both at once:\n{}", run.log());
    assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod1")));
    run.terminate();
});

both_flavours!(clean_up_finds_the_flavour_that_was_used, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let (old, other) = match flavour {
        IptablesFlavour::Legacy => ("legacy", "nft"),
        _ => ("nft", "legacy"),
    };
    // Told the other flavour, it must not say that all is removed while something is left.
    station.serve().terminate();
    let said = station.finish(station.command(&["cleanup", "--iptables-flavour", other]));
    assert!(said.code == Some(1) || !has_ours(&station, old), "{said}");
    // Told nothing, it finds out.
    station.serve().terminate();
    let mut command = station.command(&["cleanup"]);
    command.env_remove("SMARTNAT_IPTABLES_FLAVOUR");
    station.finish(command).expect(0);
    assert!(!has_ours(&station, old) && !has_ours(&station, other));
    assert!(!station.host_text().contains("smartnat"));
});
