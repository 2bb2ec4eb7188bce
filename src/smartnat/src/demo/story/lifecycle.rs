//! The controller's own life: start, crash and restart, clean-up.

use smartnat_core::model::Protocol;
use smartnat_sim::topology::addresses::{EXT1_V4, EXT1_V6, EXT2_V4, EXT2_V6};

use super::{Finding, in_words, stop_streams};
use crate::demo::DemoError;
use crate::demo::stage::{Comparison, Stage, end};
use crate::lab::traffic::{Outcome, StreamKind};

/// Answers on each stream that are awaited while no controller runs, and again while it restarts.
const ANSWERS: u64 = 100;

/// The first start.
pub(super) fn start(stage: &mut impl Stage) -> Result<Finding, DemoError> {
    let started = stage.start_controller()?;
    let processes =
        started.processes.map_or_else(String::new, |count| format!(", {count} child processes"));
    Ok(Finding::passed(format!(
        "read back and serving{}: {} operations{processes}",
        in_words(" ", started.took, " ms after its start"),
        started.operations,
    )))
}

/// T15: it is gone without warning, it comes back, and traffic does not notice.
pub(super) fn restart(stage: &mut impl Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    stage.start_streams(&[
        ("client1", StreamKind::Established, EXT1_V4[0], 8080),
        ("client2", StreamKind::NewConnections, EXT2_V6[0], 8080),
        ("client1", StreamKind::Datagrams, EXT1_V6[0], 5353),
        ("client2", StreamKind::NewFlows, EXT2_V4[0], 5353),
    ])?;
    let before = stage.retransmissions()?;
    await_answers(&mut finding, stage, "before");
    stage.kill_controller();
    await_answers(&mut finding, stage, "without a controller");
    let started = stage.start_controller()?;
    await_answers(&mut finding, stage, "after the restart");
    let (sent, lost) = stop_streams(&mut finding, stage);
    let counted = before.zip(stage.retransmissions()?).map(|(before, after)| after - before);
    let repeated = counted.map_or_else(String::new, |count| {
        finding.require(count == 0, || format!("TCP had to repeat {count} segments"));
        format!(", {count} TCP segments repeated")
    });
    let operations = started.operations;
    finding.require(operations == 0, || format!("the restart issued {operations} operations"));
    finding.measured = format!(
        "ready again{} with {operations} operations\n\
         {sent} requests meanwhile, on old and on new connections: {lost} lost{repeated}",
        in_words(" after ", started.took, " ms"),
    );
    Ok(finding)
}

/// T15, T16: what it made serves on when it ends, and goes with `smartnat cleanup`.
pub(super) fn clean_up(stage: &mut impl Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    stage.end_controller()?;
    let to = end(EXT1_V6[0], 8080);
    let outcome = stage.ask("client1", None, Protocol::Tcp, to);
    finding.require(outcome.is_answered(), || format!("after the controller's end: {outcome}"));
    stage.clean_up()?;
    let Comparison { lines, differences } = stage.compare_host()?;
    for difference in &differences {
        finding.require(false, || difference.clone());
    }
    // From the link itself: without us, the gateway has no way back to the other clients.
    let outcome = stage.ask("neighbour", None, Protocol::Tcp, to);
    finding.require(outcome == Outcome::Refused, || {
        format!("the gateway's own kernel does not answer: {outcome}")
    });
    finding.measured = format!(
        "{lines} lines of nftables, iptables, ipset, rules, routes and sysctls compared, {} differ",
        differences.len()
    );
    Ok(finding)
}

fn await_answers(finding: &mut Finding, stage: &mut impl Stage, when: &str) {
    let wanted: Vec<u64> = stage.streams().iter().map(|s| s.answered + ANSWERS).collect();
    let came = stage.wait_until(|stage| {
        let reports = stage.streams();
        reports
            .iter()
            .zip(&wanted)
            .all(|(report, wanted)| report.answered >= *wanted || report.ended)
    });
    finding.require(came, || format!("{when}: too few answers: {:?}", stage.streams()));
}
