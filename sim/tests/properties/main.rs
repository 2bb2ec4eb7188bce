//! Properties P1 to P14 of the gateway over generated clusters and histories on the simulated
//! kernel, judged by packets and by an oracle that shares no code with what it judges.
//! `PROPTEST_CASES` says how many cases; regressions are kept in `tests/regressions`.

#[path = "../common/mod.rs"]
mod common;

mod change;
mod difference;
mod history;
mod host_events;
mod incremental;
mod isolation;
mod objects;
mod order;
mod probes;
mod renumber;
mod setup;
mod story;
mod story_tests;
mod traffic;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use story::Story;

/// Cases of a property without `PROPTEST_CASES`: all of them take some ten seconds then, in a
/// debug build on two cores.
const CASES: u32 = 32;

/// `share`: what a case costs, in cases of the cheapest property.
fn cases(share: u32) -> ProptestConfig {
    let regressions = FileFailurePersistence::Direct("tests/regressions/properties.txt");
    let asked = ProptestConfig::default();
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked_for { asked.cases } else { CASES.div_ceil(share) };
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(regressions)),
        max_shrink_iters: 2_000,
        ..asked
    }
}

/// Tells a story whose property does not hold, with what went wrong.
fn told(story: &Story, property: impl FnOnce() -> Result<(), String>) -> Result<(), TestCaseError> {
    let outcome = catch_unwind(AssertUnwindSafe(property)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
    });
    outcome.map_err(|what| TestCaseError::fail(format!("\n{story}{what}")))
}
