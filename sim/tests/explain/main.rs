//! `explain` says delivered exactly when the packet walk delivers (P1, P2, P4): over generated
//! clusters, on hosts with links down, uplinks without a gateway, and rules of others in the way.
//! `PROPTEST_CASES` says how many of them; regressions are kept in `tests/regressions`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../properties/world.rs"]
#[allow(dead_code, reason = "the generator of clusters is one part of it")]
mod world;

mod host;
mod verdicts;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Few by default: each case walks some 300 packets, several times, each through a host of its own.
fn few() -> ProptestConfig {
    let regressions = FileFailurePersistence::Direct("tests/regressions/explain.txt");
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 24 };
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(regressions)),
        max_shrink_iters: 500,
        ..asked
    }
}

proptest! {
    #![proptest_config(few())]

    /// T1, T2, T3, T4, T6, T7, T11, T12, T13.
    #[test]
    fn explain_says_what_the_packet_walk_does(
        objects in world::cluster(),
        circumstances in host::circumstances(),
    ) {
        verdicts::assert_explained(&objects, &circumstances);
    }
}
