//! One gateway of a cluster, from the first object to the last.

use crate::fleet::{Fleet, condition, external, is_true};

/// The whole way: objects, traffic, status, events, and the end (T1, T20, T21).
#[test]
fn a_mapping_of_the_cluster_is_served_and_says_so() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1]);
    let run = fleet.serve(1);
    fleet.wait_answer(1, Some("pod1"));
    let mapping = fleet.wait_mapping("default", "echo", |m| is_true(m, "Programmed"));
    assert!(is_true(&mapping, "Accepted"), "{mapping:#}");
    let status = &mapping["status"];
    assert_eq!(status["invalid"], "no");
    assert_eq!(status["endpoints"], 1);
    assert_eq!(status["configuredAddresses"][external(1)]["podIPs"][0], "10.244.1.101");
    assert_eq!(status["addresses"][0]["instance"], "gw1");
    fleet.endpoints("default", &[2]);
    fleet.wait_answer(1, Some("pod2"));

    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    assert!(!fleet.rules(1).contains("10.244.1.102"), "{}", fleet.rules(1));
    fleet.wait_answer(1, None);
    run.terminate();
}

/// A Mapping that no gateway holds an address of is accepted and says what it lacks.
#[test]
fn a_mapping_without_a_gateway_says_so() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.echo("default", &[1]);
    let elsewhere = ["192.0.2.200".to_owned()];
    fleet.plane.apply(&crate::fleet::mapping_of("default", "echo", &elsewhere, 8080));
    let run = fleet.start(1);
    let told = |m: &serde_json::Value| condition(m, "Programmed").is_some();
    let mapping = fleet.wait_mapping("default", "echo", told);
    let programmed = condition(&mapping, "Programmed").expect("told");
    assert_eq!(programmed, ("False".into(), "NoInstance".into()), "{mapping:#}");
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    run.terminate();
}
