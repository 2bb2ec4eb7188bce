//! The steps of the demo, in order.

mod change;
mod clients;
mod lifecycle;
mod uplinks;

use std::time::Duration;

use super::DemoError;
use super::stage::{Stage, end};
use crate::lab::traffic::{Stream, StreamKind};

/// What a step found.
#[derive(Clone, Debug, Default)]
pub(super) struct Finding {
    /// What was measured.
    pub(super) measured: String,
    /// What was not as it should be; empty: it passed.
    pub(super) problems: Vec<String>,
}

/// Most problems that one step lists.
const PROBLEMS_MAX: usize = 10;

impl Finding {
    pub(super) fn passed(measured: String) -> Self {
        Self { measured, problems: Vec::new() }
    }

    /// Notes a problem, unless `condition` holds.
    pub(super) fn require(&mut self, condition: bool, problem: impl FnOnce() -> String) {
        if !condition && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem());
        }
    }
}

/// Pause between two requests of a stream.
const INTERVAL: Duration = Duration::from_millis(2);

/// A client, its kind of traffic, where it goes.
type Flow = (&'static str, StreamKind, &'static str, u16);

/// Traffic in the background, each stream with its first answer.
fn start_streams(stage: &Stage, flows: [Flow; 4]) -> Result<Vec<Stream>, DemoError> {
    let start = |(client, kind, external, port)| {
        Ok(Stream::start(stage.lab(), client, kind, None, end(external, port), INTERVAL)?)
    };
    flows.into_iter().map(start).collect()
}

/// Ends it; how many requests were sent and lost.
fn stop_streams(finding: &mut Finding, streams: Vec<Stream>) -> (u64, u64) {
    let (mut sent, mut lost) = (0, 0);
    for report in streams.into_iter().map(Stream::stop) {
        sent += report.sent;
        lost += report.lost();
        finding.require(report.lost() == 0, || format!("requests were lost: {:?}", report.losses));
    }
    (sent, lost)
}

/// One step.
pub(super) struct Step {
    pub(super) title: &'static str,
    /// If it cannot be played to its end, the rest has no meaning.
    pub(super) essential: bool,
    pub(super) play: fn(&mut Stage) -> Result<Finding, DemoError>,
}

/// The story.
pub(super) const STEPS: [Step; 8] = [
    Step { title: "the controller programs the gateway", essential: true, play: lifecycle::start },
    Step {
        title: "allowed clients are served: TCP and UDP, IPv4 and IPv6",
        essential: false,
        play: |stage| Ok(clients::allowed(stage)),
    },
    Step {
        title: "refused clients get no answer at all",
        essential: false,
        play: |stage| Ok(clients::refused(stage)),
    },
    Step {
        title: "connections spread over the pods",
        essential: false,
        play: |stage| Ok(clients::spread(stage)),
    },
    Step {
        title: "replies leave by the uplink that the connection came in on",
        essential: false,
        play: uplinks::replies,
    },
    // Before any connection is ended, since TCP repeats segments of an ended one.
    Step {
        title: "the controller is killed and restarted, and no packet is lost",
        essential: true,
        play: lifecycle::restart,
    },
    Step {
        title: "a pod is removed while traffic flows",
        essential: false,
        play: change::remove_pod,
    },
    Step {
        title: "clean-up leaves the gateway as it was before",
        essential: false,
        play: lifecycle::clean_up,
    },
];
