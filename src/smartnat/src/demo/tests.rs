//! The teller; the story itself is played by the integration tests, which have the program.

use std::time::Duration;

use super::report::{Report, StepReport};
use super::story::Finding;

fn step(problems: &[&str]) -> StepReport {
    let mut finding = Finding::passed("two of two".into());
    for problem in problems {
        finding.require(false, || (*problem).into());
    }
    StepReport::of("packets pass", finding, Duration::from_millis(12))
}

#[test]
fn a_step_tells_what_was_measured_and_what_was_wrong() {
    assert_eq!(step(&[]).to_string(), "✓ packets pass (12 ms)\n    two of two\n");
    assert_eq!(
        step(&["one was lost"]).to_string(),
        "✗ packets pass (12 ms)\n    two of two\n    ✗ one was lost\n"
    );
}

#[test]
fn one_failed_step_fails_the_whole() {
    let mut report = Report::default();
    report.add(step(&[]));
    report.finish(Duration::from_millis(2345));
    assert_eq!(report.to_string(), "\nAll is well: 1 of 1 steps passed, in 2.3 s.\n");
    report.add(step(&["lost"]));
    report.finish(Duration::from_millis(2345));
    assert!(!report.passed);
    assert_eq!(report.to_string(), "\nSomething is wrong: 1 of 2 steps passed, in 2.3 s.\n");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["steps"][1]["problems"][0], "lost");
    assert_eq!(json["passed"], false);
}
