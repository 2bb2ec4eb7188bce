//! A pod goes while traffic flows.

use std::time::{Duration, Instant};

use smartnat_sim::topology::addresses::{EXT1_V4, EXT1_V6, EXT2_V4, EXT2_V6};

use super::{Finding, in_words, stop_streams};
use crate::demo::DemoError;
use crate::demo::manifests::EndpointEdit;
use crate::demo::stage::{Stage, end};
use crate::lab::traffic::{StreamKind, StreamReport};

/// The pod that goes.
const LEAVING: &str = "pod2";

/// Connections that are opened at most until one leads to a certain pod.
const ATTEMPTS: usize = 100;

/// Answers in a row from other pods after which the leaving one gets no new connections: by chance it
/// would be (2/3)^60, less than one in ten thousand million.
const ABSENCE: u64 = 60;

/// T9, T10: drained, it keeps its connections and gets no new ones; removed, its connections end,
/// and nobody else notices.
pub(super) fn remove_pod(stage: &mut impl Stage) -> Result<Finding, DemoError> {
    let mut finding = Finding::default();
    stage.start_streams(&[
        ("client1", StreamKind::NewConnections, EXT1_V4[0], 8080),
        ("client2", StreamKind::NewConnections, EXT2_V6[0], 8080),
        ("client1", StreamKind::NewFlows, EXT1_V6[0], 5353),
        ("client2", StreamKind::NewFlows, EXT2_V4[0], 5353),
    ])?;
    let mut of_leaving = connection_to(stage, |pod| pod == LEAVING)?;
    let mut of_other = connection_to(stage, |pod| pod != LEAVING)?;

    let drained = drain(stage, &mut finding, &mut of_leaving)?;
    let ended = remove(stage, &mut finding, &mut of_leaving)?;
    let outcome = stage.ask_on(&mut of_other, "still there");
    finding.require(outcome.is_answered(), || format!("the connection of another pod: {outcome}"));
    let (sent, lost) = stop_streams(&mut finding, stage);
    finding.measured = format!(
        "draining, {LEAVING} got no new connections{} and kept its old one\n\
         removed, its old one ended{} and that of another pod did not\n\
         {sent} new connections meanwhile: {lost} lost",
        in_words(" after ", drained, " ms"),
        in_words(" within ", ended, " ms"),
    );
    Ok(finding)
}

/// How long it took until the draining pod got no new connections.
fn drain<S: Stage>(
    stage: &mut S,
    finding: &mut Finding,
    of_leaving: &mut S::Conversation,
) -> Result<Option<Duration>, DemoError> {
    let begin = Instant::now();
    stage.edit_pod(LEAVING, EndpointEdit::Drain)?;
    let drained = wait_for_absence(stage);
    let took = begin.elapsed();
    finding.require(drained, || format!("{LEAVING} still gets new connections while it drains"));
    let outcome = stage.ask_on(of_leaving, "still there");
    finding.require(outcome.is_answered(), || format!("its connection while it drains: {outcome}"));
    Ok(S::KERNEL.real_time(took))
}

/// How long it took until the connection of the removed pod ended.
fn remove<S: Stage>(
    stage: &mut S,
    finding: &mut Finding,
    of_leaving: &mut S::Conversation,
) -> Result<Option<Duration>, DemoError> {
    let begin = Instant::now();
    stage.edit_pod(LEAVING, EndpointEdit::Remove)?;
    let ended = stage.wait_until(|stage| !stage.ask_on_ending(of_leaving).is_answered());
    finding.require(ended, || "its connection lives on after its removal".into());
    Ok(S::KERNEL.real_time(begin.elapsed()))
}

/// An open connection of client1 to a pod that `wanted` accepts.
fn connection_to<S: Stage>(
    stage: &mut S,
    wanted: impl Fn(&str) -> bool,
) -> Result<S::Conversation, DemoError> {
    for _ in 0..ATTEMPTS {
        let Ok(mut conversation) = stage.open("client1", end(EXT1_V4[0], 8080))? else { continue };
        if stage.ask_on(&mut conversation, "who").server().is_some_and(&wanted) {
            return Ok(conversation);
        }
    }
    Err(DemoError::Unserved(format!("{ATTEMPTS} connections did not lead to the pod wanted")))
}

/// Waits until no stream has met the leaving pod in its last answers.
fn wait_for_absence(stage: &mut impl Stage) -> bool {
    let seen = |report: &StreamReport| {
        (report.answered, report.servers.get(LEAVING).copied().unwrap_or_default())
    };
    let mut marks: Vec<(u64, u64)> = stage.streams().iter().map(seen).collect();
    stage.wait_until(|stage| {
        let mut all = true;
        for (report, mark) in stage.streams().iter().zip(&mut marks) {
            let latest = seen(report);
            if latest.1 != mark.1 {
                *mark = latest;
            }
            all &= latest.0 - mark.0 >= ABSENCE;
        }
        all
    })
}
