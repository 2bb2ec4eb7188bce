//! T19: an external endpoint has one owner in the whole cluster.

use std::time::Duration;

use serde_json::{Value, json};
use smartnat::lab::wait_until;

use crate::fleet::{Fleet, condition, is_true};
use crate::station::PATIENCE;

/// Creation times have seconds: the next object is younger.
fn a_second_later(mapping: &Value) {
    let created = &mapping["metadata"]["creationTimestamp"];
    let passed = wait_until(PATIENCE, || {
        let now = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
        let now = String::from_utf8_lossy(&now.ok()?.stdout).trim().to_owned();
        (created.as_str()? < now.as_str()).then_some(())
    });
    assert!(passed.is_some(), "time stands still");
    std::thread::sleep(Duration::from_millis(10));
}

fn namespaces(fleet: &Fleet) {
    for namespace in ["a", "b"] {
        fleet.plane.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace },
        }));
    }
    // The older one is in the namespace that comes later.
    fleet.echo("b", &[1]);
    fleet.echo("a", &[2]);
}

fn loses_to_b(mapping: &Value) -> bool {
    let invalid = mapping["status"]["invalid"].as_str().unwrap_or_default();
    condition(mapping, "Accepted") == Some(("False".into(), "Conflict".into()))
        && invalid.contains("b/echo")
}

fn the_older_serves(fleet: &Fleet) {
    fleet.wait_answer(1, Some("pod1"));
    fleet.wait_mapping("b", "echo", |m| is_true(m, "Programmed"));
    fleet.wait_mapping("a", "echo", loses_to_b);
}

/// The objects are there before the gateway is; then the winner goes and the loser takes over.
#[test]
fn the_older_of_two_namespaces_serves_and_the_younger_says_who_won() {
    let Some(fleet) = Fleet::new(1) else { return };
    namespaces(&fleet);
    fleet.map("b", "echo", &[1]);
    a_second_later(&fleet.mapping("b", "echo").expect("it is there"));
    fleet.map("a", "echo", &[1]);
    let run = fleet.serve(1);
    the_older_serves(&fleet);

    fleet.delete("b", "echo");
    fleet.wait_gone("b", "echo");
    fleet.wait_answer(1, Some("pod2"));
    fleet.wait_mapping("a", "echo", |m| is_true(m, "Programmed"));
    run.terminate();
}

/// The gateway is there before the objects are, and is told of the younger one first.
#[test]
fn the_older_wins_though_the_younger_came_first() {
    let Some(fleet) = Fleet::new(1) else { return };
    namespaces(&fleet);
    let run = fleet.serve(1);
    // Older, and elsewhere at first.
    let elsewhere = crate::fleet::mapping_of("b", "echo", &["192.0.2.200".into()], 8080);
    fleet.plane.apply(&elsewhere);
    a_second_later(&fleet.mapping("b", "echo").expect("it is there"));
    fleet.map("a", "echo", &[1]);
    fleet.wait_answer(1, Some("pod2"));
    fleet.map("b", "echo", &[1]);
    the_older_serves(&fleet);
    run.terminate();
}
