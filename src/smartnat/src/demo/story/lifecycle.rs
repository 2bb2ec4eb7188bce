//! The controller's own life: start, crash and restart, clean-up.

use smartnat_sim::topology::addresses::{EXT1_V4, EXT1_V6, EXT2_V4, EXT2_V6};

use super::{Finding, start_streams, stop_streams};
use crate::demo::DemoError;
use crate::demo::host_state::HostState;
use crate::demo::stage::{GATEWAY, PODS, Stage, end};
use crate::lab::traffic::{self, Outcome, PATIENT, Stream, StreamKind};

/// Answers on each stream that are awaited while no controller runs, and again while it restarts.
const ANSWERS: u64 = 100;

/// The first start.
pub(super) fn start(stage: &mut Stage) -> Result<Finding, DemoError> {
    let started = stage.start_controller()?;
    Ok(Finding::passed(format!(
        "read back and serving {} ms after its start: {} operations, {} child processes",
        started.took.as_millis(),
        started.stats.operations,
        started.stats.processes_started
    )))
}

/// T15: it is gone without warning, it comes back, and traffic does not notice.
pub(super) fn restart(stage: &mut Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    let streams = start_streams(
        stage,
        [
            ("client1", StreamKind::Established, EXT1_V4[0], 8080),
            ("client2", StreamKind::NewConnections, EXT2_V6[0], 8080),
            ("client1", StreamKind::Datagrams, EXT1_V6[0], 5353),
            ("client2", StreamKind::NewFlows, EXT2_V4[0], 5353),
        ],
    )?;
    let before = retransmissions(stage)?;
    await_answers(&mut finding, &streams, "before");
    stage.kill_controller();
    await_answers(&mut finding, &streams, "without a controller");
    let started = stage.start_controller()?;
    await_answers(&mut finding, &streams, "after the restart");
    let (sent, lost) = stop_streams(&mut finding, streams);
    let repeated = retransmissions(stage)? - before;
    finding.require(repeated == 0, || format!("TCP had to repeat {repeated} segments"));
    let operations = started.stats.operations;
    finding.require(operations == 0, || format!("the restart issued {operations} operations"));
    finding.measured = format!(
        "ready again after {} ms with {operations} operations\n\
         {sent} requests meanwhile, on old and on new connections: {lost} lost, {repeated} TCP segments repeated",
        started.took.as_millis(),
    );
    Ok(finding)
}

/// T15, T16: what it made serves on when it ends, and goes with `smartnat cleanup`.
pub(super) fn clean_up(stage: &mut Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    stage.end_controller()?;
    let to = end(EXT1_V6[0], 8080);
    let outcome = traffic::connect_tcp(stage.lab(), "client1", None, to, PATIENT);
    finding.require(outcome.is_answered(), || format!("after the controller's end: {outcome}"));
    stage.clean_up()?;
    let after = HostState::read(stage.lab(), GATEWAY)?;
    let differences = after.differences(stage.before());
    for difference in &differences {
        finding.require(false, || difference.clone());
    }
    // From the link itself: without us, the gateway has no way back to the other clients.
    let outcome = traffic::connect_tcp(stage.lab(), "neighbour", None, to, PATIENT);
    finding.require(outcome == Outcome::Refused, || {
        format!("the gateway's own kernel does not answer: {outcome}")
    });
    finding.measured = format!(
        "{} lines of iptables, ipset, rules, routes and sysctls compared, {} differ",
        stage.before().len(),
        differences.len()
    );
    Ok(finding)
}

fn await_answers(finding: &mut Finding, streams: &[Stream], when: &str) {
    let waited: Vec<u64> = streams.iter().map(|s| s.report().answered + ANSWERS).collect();
    for (stream, wanted) in streams.iter().zip(waited) {
        let came = stream.wait_for(PATIENT, |report| report.answered >= wanted || report.ended);
        finding.require(came, || format!("{when}: too few answers: {:?}", stream.report()));
    }
}

/// TCP segments that clients and pods sent more than once.
fn retransmissions(stage: &Stage) -> Result<u64, DemoError> {
    let hosts = ["client1", "client2"].into_iter().chain(PODS);
    hosts.map(|host| Ok(traffic::retransmissions(stage.lab(), host)?)).sum()
}
