//! A pod goes while traffic flows.

use std::time::{Duration, Instant};

use smartnat_core::model::Protocol;
use smartnat_sim::topology::addresses::{EXT1_V4, EXT1_V6, EXT2_V4, EXT2_V6};

use super::{Finding, start_streams, stop_streams};
use crate::demo::DemoError;
use crate::demo::manifests::EndpointEdit;
use crate::demo::stage::{Stage, end};
use crate::lab::traffic::{self, Conversation, PATIENT, Stream, StreamKind};
use crate::lab::wait_until;

/// The pod that goes.
const LEAVING: &str = "pod2";

/// Connections that are opened at most until one leads to a certain pod.
const ATTEMPTS: usize = 100;

/// Answers in a row from other pods after which the leaving one gets no new connections: by chance it
/// would be (2/3)^60, less than one in ten thousand million.
const ABSENCE: u64 = 60;

/// Wait for an answer on a connection that is about to end.
const QUICK: Duration = Duration::from_millis(100);

/// T9, T10: drained, it keeps its connections and gets no new ones; removed, its connections end,
/// and nobody else notices.
pub(super) fn remove_pod(stage: &mut Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    let streams = start_streams(
        stage,
        [
            ("client1", StreamKind::NewConnections, EXT1_V4[0], 8080),
            ("client2", StreamKind::NewConnections, EXT2_V6[0], 8080),
            ("client1", StreamKind::NewFlows, EXT1_V6[0], 5353),
            ("client2", StreamKind::NewFlows, EXT2_V4[0], 5353),
        ],
    )?;
    let mut of_leaving = connection_to(stage, |pod| pod == LEAVING)?;
    let mut of_other = connection_to(stage, |pod| pod != LEAVING)?;

    let drained = drain(stage, &mut finding, &streams, &mut of_leaving)?;
    let ended = remove(stage, &mut finding, &mut of_leaving)?;
    let outcome = of_other.ask("still there", PATIENT);
    finding.require(outcome.is_answered(), || format!("the connection of another pod: {outcome}"));
    let (sent, lost) = stop_streams(&mut finding, streams);
    finding.measured = format!(
        "draining, {LEAVING} got no new connections after {} ms and kept its old one\n\
         removed, its old one ended within {} ms and that of another pod did not\n\
         {sent} new connections meanwhile: {lost} lost",
        drained.as_millis(),
        ended.as_millis(),
    );
    Ok(finding)
}

/// How long it took until the draining pod got no new connections.
fn drain(
    stage: &Stage,
    finding: &mut Finding,
    streams: &[Stream],
    of_leaving: &mut Conversation,
) -> Result<Duration, DemoError> {
    let begin = Instant::now();
    stage.edit_pod(LEAVING, EndpointEdit::Drain)?;
    let drained = wait_for_absence(streams, PATIENT);
    let took = begin.elapsed();
    finding.require(drained, || format!("{LEAVING} still gets new connections while it drains"));
    let outcome = of_leaving.ask("still there", PATIENT);
    finding.require(outcome.is_answered(), || format!("its connection while it drains: {outcome}"));
    Ok(took)
}

/// How long it took until the connection of the removed pod ended.
fn remove(
    stage: &Stage,
    finding: &mut Finding,
    of_leaving: &mut Conversation,
) -> Result<Duration, DemoError> {
    let begin = Instant::now();
    stage.edit_pod(LEAVING, EndpointEdit::Remove)?;
    let ended = wait_until(PATIENT, || {
        let outcome = of_leaving.ask("still there", QUICK);
        (!outcome.is_answered()).then_some(())
    });
    finding.require(ended.is_some(), || "its connection lives on after its removal".into());
    Ok(begin.elapsed())
}

/// An open connection of client1 to a pod that `wanted` accepts.
fn connection_to(stage: &Stage, wanted: impl Fn(&str) -> bool) -> Result<Conversation, DemoError> {
    for _ in 0..ATTEMPTS {
        let to = end(EXT1_V4[0], 8080);
        let opened = traffic::open(stage.lab(), "client1", Protocol::Tcp, None, to, PATIENT)?;
        let Ok(mut conversation) = opened else { continue };
        if conversation.ask("who", PATIENT).server().is_some_and(&wanted) {
            return Ok(conversation);
        }
    }
    Err(DemoError::Unserved(format!("{ATTEMPTS} connections did not lead to the pod wanted")))
}

/// Waits until no stream has met the leaving pod in its last answers.
fn wait_for_absence(streams: &[Stream], patience: Duration) -> bool {
    let seen = |stream: &Stream| {
        let report = stream.report();
        (report.answered, report.servers.get(LEAVING).copied().unwrap_or_default())
    };
    let mut marks: Vec<(u64, u64)> = streams.iter().map(seen).collect();
    let absent = wait_until(patience, || {
        let mut all = true;
        for (stream, mark) in streams.iter().zip(&mut marks) {
            let now = seen(stream);
            if now.1 != mark.1 {
                *mark = now;
            }
            all &= now.0 - mark.0 >= ABSENCE;
        }
        all.then_some(())
    });
    absent.is_some()
}
