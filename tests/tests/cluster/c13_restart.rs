//! A restart beside a cluster, and what an instance finds that it did not leave itself.

use serde_json::json;

use crate::fleet::{Fleet, external, is_true, mapping_of};

/// A restart that changes nothing does nothing (T15), also when nothing is remembered on disk.
#[test]
fn a_restart_changes_nothing_with_or_without_memory() {
    let Some(fleet) = Fleet::new(1) else { return };
    let run = fleet.serve_echo();
    run.terminate();
    let run = fleet.serve(1);
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    let version = |fleet: &Fleet| {
        let mapping = fleet.mapping("default", "echo").expect("it is there");
        mapping["metadata"]["resourceVersion"].clone()
    };
    let before = version(&fleet);
    run.wait_line(&["this instance leads now"]);
    run.terminate();
    std::fs::remove_dir_all(fleet.station.path("data-1")).expect("the data directory");
    let run = fleet.serve(1);
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    run.wait_line(&["this instance leads now"]);
    assert_eq!(version(&fleet), before, "nothing was to be written");
    fleet.wait_answer(1, Some("pod1"));
    run.terminate();
}

/// What the Go version left in an object is taken over: its finalizer goes with the deletion, its
/// status becomes ours, and an address that nobody holds is no longer in it (T20).
#[test]
fn mappings_of_the_go_version_are_taken_over() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.echo("default", &[1]);
    let mut mapping = mapping_of("default", "echo", &[external(1)], 8080);
    mapping["metadata"]["finalizers"] = json!(["mapping.finalizers.aureacentral.com"]);
    mapping["spec"]["allowedSources"] = json!(["0.0.0.0/0"]);
    mapping["spec"]["mode"] = json!("service");
    fleet.plane.apply(&mapping);
    fleet.plane.merge_status(
        &mapping,
        &json!({
            "invalid": "no",
            "serviceVIP": "10.96.99.99",
            "configuredAddresses": {
                external(1): { "podIPs": ["10.244.9.9"] },
                "192.0.2.99": { "podIPs": ["10.244.9.9"] },
            },
        }),
    );
    let run = fleet.serve(1);
    // What nobody applies any more goes with a second write.
    let ours = json!({ external(1): { "podIPs": ["10.244.1.101"] } });
    let taken_over = |m: &serde_json::Value| {
        is_true(m, "Programmed") && m["status"]["configuredAddresses"] == ours
    };
    let mapping = fleet.wait_mapping("default", "echo", taken_over);
    assert_ne!(mapping["status"]["serviceVIP"], "10.96.99.99");
    fleet.wait_answer(1, Some("pod1"));
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    run.terminate();
}
