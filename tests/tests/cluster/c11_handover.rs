//! An address that moves between gateways, or that two of them hold.

use serde_json::Value;

use crate::fleet::{Fleet, external, is_true};

fn entries(mapping: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = mapping["status"]["addresses"].as_array();
    let mut all: Vec<(String, String)> =
        all.into_iter().flatten().map(|e| (text(&e["address"]), text(&e["instance"]))).collect();
    all.sort();
    all
}

fn shared(mapping: &Value) -> usize {
    let all = mapping["status"]["addresses"].as_array();
    let says = |e: &&Value| {
        e["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Shared")
    };
    all.into_iter().flatten().filter(says).count()
}

/// Moves the first gateway's address, or adds it.
fn ip(fleet: &Fleet, gateway: &str, what: &str) {
    let address = external(1) + "/24";
    let words = ["ip", "address", what, &address, "dev", "ext1"];
    let lab = &fleet.station.lab;
    lab.command(gateway, &words).expect("ip succeeds");
    // Whoever moves an address tells its neighbours; that is not the program's part.
    lab.command("client", &["ip", "neighbour", "flush", "dev", "eth0"]).expect("ip succeeds");
}

fn two() -> Option<(Fleet, Vec<crate::station::Run>)> {
    let fleet = Fleet::new(2)?;
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1]);
    let runs = vec![fleet.serve(1), fleet.serve(2)];
    fleet.wait_answer(1, Some("pod1"));
    fleet.wait_mapping("default", "echo", |m| entries(m) == [(external(1), "gw1".into())]);
    Some((fleet, runs))
}

#[test]
fn an_address_moves_and_the_old_owner_lets_go_first() {
    let Some((fleet, runs)) = two() else { return };
    ip(&fleet, "gw1", "del");
    ip(&fleet, "gw2", "add");
    let moved = |m: &Value| entries(m) == [(external(1), "gw2".into())] && is_true(m, "Programmed");
    let mapping = fleet.wait_mapping("default", "echo", moved);
    assert_eq!(shared(&mapping), 0, "{mapping:#}");
    assert!(!fleet.rules(1).contains(&external(1)), "{}", fleet.rules(1));
    fleet.wait_answer(1, Some("pod1"));
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    for run in runs {
        run.terminate();
    }
}

#[test]
fn an_address_on_two_gateways_is_served_by_both_and_told() {
    let Some((fleet, runs)) = two() else { return };
    ip(&fleet, "gw2", "add");
    let mapping = fleet.wait_mapping("default", "echo", |m| shared(m) == 2);
    assert_eq!(entries(&mapping), [(external(1), "gw1".into()), (external(1), "gw2".into())]);
    assert!(fleet.rules(2).contains(&external(1)), "{}", fleet.rules(2));
    ip(&fleet, "gw1", "del");
    fleet.wait_mapping("default", "echo", |m| shared(m) == 0 && entries(m).len() == 1);
    for run in runs {
        run.terminate();
    }
}
