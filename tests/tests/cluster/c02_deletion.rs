//! T20: a deletion returns once no kernel holds anything of the Mapping.

use crate::fleet::{Fleet, is_true, pod_address};

/// With this many gateways that all serve the Mapping.
fn served_by(gateways: usize) -> Option<(Fleet, Vec<crate::station::Run>)> {
    let fleet = Fleet::new(gateways)?;
    let all: Vec<usize> = (1..=gateways).collect();
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &all);
    let runs = all.iter().map(|n| fleet.serve(*n)).collect();
    for gateway in all {
        fleet.wait_answer(gateway, Some("pod1"));
    }
    let all_told = |m: &serde_json::Value| {
        let entries = m["status"]["addresses"].as_array().map_or(0, Vec::len);
        entries == gateways && is_true(m, "Programmed")
    };
    fleet.wait_mapping("default", "echo", all_told);
    Some((fleet, runs))
}

fn holds_nothing(fleet: &Fleet, gateway: usize) -> bool {
    !fleet.rules(gateway).contains(&pod_address(1))
}

fn it_returns_when_all_kernels_hold_nothing(gateways: usize) {
    let Some((fleet, runs)) = served_by(gateways) else { return };
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    for gateway in 1..=gateways {
        assert!(holds_nothing(&fleet, gateway), "gw{gateway}:\n{}", fleet.rules(gateway));
    }
    for run in runs {
        run.terminate();
    }
}

#[test]
fn with_two_gateways() {
    it_returns_when_all_kernels_hold_nothing(2);
}

#[test]
fn with_three_gateways() {
    it_returns_when_all_kernels_hold_nothing(3);
}

/// One of three is dead: it is not waited for longer than configured, and removes its leftovers
/// when it returns.
#[test]
fn with_a_dead_gateway_of_three_that_returns() {
    let Some((fleet, mut runs)) = served_by(3) else { return };
    runs.remove(2).kill();
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    assert!(holds_nothing(&fleet, 1) && holds_nothing(&fleet, 2));
    assert!(!holds_nothing(&fleet, 3), "it was not there to remove anything");
    let returned = fleet.serve(3);
    let gone = smartnat::lab::wait_until(crate::station::PATIENCE, || {
        holds_nothing(&fleet, 3).then_some(())
    });
    assert!(gone.is_some(), "{}", fleet.rules(3));
    returned.terminate();
}

/// The leader is the one that dies: another takes over and lets the Mapping go.
#[test]
fn with_a_dead_leader_of_two() {
    let Some((fleet, mut runs)) = served_by(2) else { return };
    assert!(!runs[0].lines_with(&["this instance leads now"]).is_empty(), "the first one leads");
    runs.remove(0).kill();
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    assert!(holds_nothing(&fleet, 2));
}
