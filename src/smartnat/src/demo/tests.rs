//! The teller; the story itself is played
//! on Linux by the integration tests, which have the program.

use std::time::Duration;

use smartnat_core::model::{GatewayConfig, IptablesFlavour};

use super::report::{Kernel, Report, StepReport};
use super::stage::SimulatedStage;
use super::story::Finding;
use super::{Teller, play};

fn step(problems: &[&str]) -> StepReport {
    let mut finding = Finding::passed("two of two".into());
    for problem in problems {
        finding.require(false, || (*problem).into());
    }
    StepReport::of("packets pass", finding, Some(Duration::from_millis(12)))
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

fn simulated(uplink_pattern: &str) -> Report {
    let mut report = Report { kernel: Kernel::Simulated, ..Report::default() };
    let config =
        GatewayConfig { uplink_pattern: uplink_pattern.into(), ..GatewayConfig::default() };
    let set_up = || SimulatedStage::with_config(IptablesFlavour::Auto, config);
    play(&Teller { json: true }, &mut report, set_up).unwrap();
    report
}

#[test]
fn the_story_passes_on_the_simulated_kernel_and_tells_no_times() {
    let report = simulated("ext[0-9]");
    assert!(report.passed, "{report:#?}");
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains(r#""kernel":"simulated""#), "{json}");
    assert!(!json.contains("milliseconds") && !json.contains(" ms"), "{json}");
}

#[test]
fn a_gateway_that_does_not_serve_an_uplink_fails_the_story_on_the_simulated_kernel() {
    let report = simulated("ext1");
    assert!(!report.passed);
    let failed = |words| report.steps.iter().any(|s| s.title.contains(words) && !s.passed);
    for words in ["allowed clients", "spread", "replies leave"] {
        assert!(failed(words), "{words}: {report:#?}");
    }
}
