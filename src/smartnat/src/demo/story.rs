//! The steps of the demo, in order.

mod change;
mod clients;
mod lifecycle;
mod uplinks;

use std::time::Duration;

use super::DemoError;
use super::stage::Stage;

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

/// Ends the traffic in the background; how many requests were sent and lost.
fn stop_streams(finding: &mut Finding, stage: &mut impl Stage) -> (u64, u64) {
    let (mut sent, mut lost) = (0, 0);
    for report in stage.stop_streams() {
        sent += report.sent;
        lost += report.lost();
        finding.require(report.lost() == 0, || format!("requests were lost: {:?}", report.losses));
    }
    (sent, lost)
}

/// A span of time in a sentence; nothing where time is not real.
fn in_words(before: &str, took: Option<Duration>, after: &str) -> String {
    took.map_or_else(String::new, |took| format!("{before}{}{after}", took.as_millis()))
}

/// One step.
pub(super) struct Step<S> {
    pub(super) title: &'static str,
    /// If it cannot be played to its end, the rest has no meaning.
    pub(super) essential: bool,
    pub(super) play: fn(&mut S) -> Result<Finding, DemoError>,
}

/// The story.
pub(super) fn steps<S: Stage>() -> [Step<S>; 8] {
    [
        Step {
            title: "the controller programs the gateway",
            essential: true,
            play: lifecycle::start,
        },
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
    ]
}
