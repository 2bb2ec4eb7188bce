//! T20, T21: several gateways of which one dies again and again, and one that is waited for.

use std::time::{Duration, Instant};

use serde_json::Value;
use smartnat::lab::wait_until;

use crate::fleet::{Fleet, is_true};
use crate::station::PATIENCE;

/// Kills, in turn of the leader and of the other one.
const KILLS: usize = 10;

fn served_by_both(mapping: &Value) -> bool {
    let entries = mapping["status"]["addresses"].as_array();
    let serves = |e: &&Value| {
        let conditions = e["conditions"].as_array();
        let programmed = conditions.into_iter().flatten().find(|c| c["type"] == "Programmed");
        programmed.is_some_and(|c| {
            c["status"] == "True" && c["observedGeneration"] == mapping["metadata"]["generation"]
        })
    };
    entries.into_iter().flatten().filter(serves).count() == 2 && is_true(mapping, "Programmed")
}

/// Whoever is killed and whenever, the status comes true again, and a deletion comes to its end.
#[test]
fn two_gateways_of_which_one_is_killed_again_and_again() {
    let Some(fleet) = Fleet::new(2) else { return };
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1, 2]);
    let mut runs = [fleet.serve(1), fleet.serve(2)].map(Some);
    for round in 0..KILLS {
        let victim = round % 2;
        let pod = 1 + round % 3;
        runs[victim].take().expect("it runs").kill();
        fleet.endpoints("default", &[pod]);
        runs[victim] = Some(fleet.start(victim + 1));
        for gateway in [1, 2] {
            fleet.wait_answer(gateway, Some(&format!("pod{pod}")));
        }
        let told = |m: &Value| {
            let pods = &m["status"]["configuredAddresses"][crate::fleet::external(1)]["podIPs"];
            served_by_both(m) && pods[0] == crate::fleet::pod_address(pod)
        };
        fleet.wait_mapping("default", "echo", told);
    }
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    for run in runs.into_iter().flatten() {
        run.terminate();
    }
}

/// A dead gateway holds a deletion up for the configured time, here a minute, and no longer.
#[test]
fn a_dead_gateway_is_waited_for_as_long_as_configured() {
    let Some(fleet) = Fleet::new(2) else { return };
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1, 2]);
    let patient = |gateway: usize| {
        let mut command = fleet.command(gateway);
        command.env("SMARTNAT_MAX_FINALIZE_WAIT_MINUTES", "1");
        fleet.station.start_on(&crate::fleet::name(gateway), command)
    };
    let (first, second) = (patient(1), patient(2));
    fleet.wait_mapping("default", "echo", served_by_both);
    second.kill();
    fleet.delete("default", "echo");
    let begin = Instant::now();
    let waits = |m: &Value| m["status"].to_string().contains("waiting for gw2");
    fleet.wait_mapping("default", "echo", waits);
    let gone = wait_until(Duration::from_mins(1) + PATIENCE, || {
        fleet.mapping("default", "echo").is_none().then_some(())
    });
    assert!(gone.is_some(), "{:#}", fleet.mapping("default", "echo").unwrap_or_default());
    assert!(begin.elapsed() >= Duration::from_secs(50), "{:?}", begin.elapsed());
    first.terminate();
}
