//! `explain` says delivered exactly when the packet walk delivers (P1, P2, P4): over generated
//! clusters, on hosts with links down, uplinks without a gateway, and rules of others in the way.
//! `PROPTEST_CASES` says how many of them; regressions are kept in `tests/regressions`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../properties/objects.rs"]
mod objects;

mod host;
mod verdicts;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use smartnat_core::model::ClusterObject;

/// Few by default: each case walks some 400 packets, several times, each through a host of its own.
fn few() -> ProptestConfig {
    let regressions = FileFailurePersistence::Direct("tests/regressions/explain.txt");
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 12 };
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(regressions)),
        max_shrink_iters: 500,
        ..asked
    }
}

/// Generated objects, mostly beside some that serve and have egress.
fn clusters() -> impl Strategy<Value = Vec<ClusterObject>> {
    (objects::cluster(), proptest::bool::weighted(0.8)).prop_map(|(mut objects, serves)| {
        if serves {
            objects.extend(common::objects());
        }
        objects
    })
}

proptest! {
    #![proptest_config(few())]

    /// T1, T2, T3, T4, T6, T7, T11, T12, T13.
    #[test]
    fn explain_says_what_the_packet_walk_does(
        objects in clusters(),
        circumstances in host::circumstances(),
    ) {
        common::on_both_backends(|| verdicts::assert_explained(&objects, &circumstances));
    }
}

/// The property would say nothing if what is generated never met a verdict or an obstacle.
#[test]
fn what_is_generated_meets_every_verdict_and_obstacle() {
    let mut runner = TestRunner::deterministic();
    let worlds = (clusters(), host::circumstances());
    let mut met = verdicts::Met::default();
    // Partly delivered is the rarest of them: one world in fifty or so.
    for _ in 0..400 {
        if met.missed().is_empty() {
            return;
        }
        let world = worlds.new_tree(&mut runner).expect("a world").current();
        met.add(&world.0, &world.1);
    }
    panic!("never met: {}", met.missed().join(", "));
}
