//! Whether a run is alive, and whether it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smartnat_core::status::StatusReport;

use super::lock;

/// An event loop that shows nothing for so long hangs; compiling 10,000 Mappings takes a second.
const LOOP_PATIENCE: Duration = Duration::from_secs(30);
/// Reasons that an answer lists; more say nothing new to whoever looks at a probe.
const MAX_REASONS: usize = 20;

/// What a gateway must have been told before it can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Mappings, Services and endpoints.
    Cluster,
    /// Links, addresses and routes.
    Host,
}

impl Source {
    const ALL: [Self; 2] = [Self::Cluster, Self::Host];

    fn missing(self) -> &'static str {
        match self {
            Self::Cluster => "Mappings, Services and endpoints are not known yet",
            Self::Host => "this host's interfaces are not known yet",
        }
    }
}

/// What is known of the state of a run.
#[derive(Debug)]
pub struct Health {
    kernel_patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the event loop last turned.
    turned: Instant,
    /// Since when the kernel has owed an answer.
    kernel_asked: Option<Instant>,
    known: BTreeSet<Source>,
    held_back: BTreeMap<&'static str, String>,
    report: Option<Arc<StatusReport>>,
    ending: bool,
}

impl Health {
    pub(super) fn new(now: Instant, kernel_patience: Duration) -> Self {
        let state = State {
            turned: now,
            kernel_asked: None,
            known: BTreeSet::new(),
            held_back: BTreeMap::new(),
            report: None,
            ending: false,
        };
        Self { kernel_patience, state: Mutex::new(state) }
    }

    /// The event loop has turned.
    pub fn turned(&self, now: Instant) {
        lock(&self.state).turned = now;
    }

    /// The kernel is asked for something.
    pub fn kernel_asked(&self, now: Instant) {
        lock(&self.state).kernel_asked = Some(now);
    }

    /// The kernel has answered.
    pub fn kernel_answered(&self) {
        lock(&self.state).kernel_asked = None;
    }

    /// A source has told all that there is.
    pub fn source_known(&self, source: Source) {
        lock(&self.state).known.insert(source);
    }

    /// `who` says why the run is not ready, or with `None` that it is, as far as that is for
    /// `who` to say. For what the gateway does not know: a watch that is not in sync.
    pub fn hold_back(&self, who: &'static str, why: Option<String>) {
        let held_back = &mut lock(&self.state).held_back;
        match why {
            Some(why) => held_back.insert(who, why),
            None => held_back.remove(who),
        };
    }

    /// The status changed.
    pub fn reported(&self, report: Arc<StatusReport>) {
        lock(&self.state).report = Some(report);
    }

    /// The run ends.
    pub fn ending(&self) {
        lock(&self.state).ending = true;
    }

    /// The latest status.
    pub fn report(&self) -> Option<Arc<StatusReport>> {
        lock(&self.state).report.clone()
    }

    /// Why the run counts as dead; empty: it is alive.
    pub fn why_dead(&self, now: Instant) -> Vec<String> {
        self.why_dead_by(&lock(&self.state), now)
    }

    fn why_dead_by(&self, state: &State, now: Instant) -> Vec<String> {
        let mut reasons = Vec::new();
        let still = now.saturating_duration_since(state.turned);
        if still > LOOP_PATIENCE {
            reasons.push(format!("the event loop has not turned for {} s", still.as_secs()));
        }
        let owed =
            state.kernel_asked.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if owed > self.kernel_patience {
            reasons.push(format!("the kernel has not answered for {} s", owed.as_secs()));
        }
        reasons
    }

    /// Why the run does not serve all that is asked of it; empty: it does.
    pub fn why_not_ready(&self, now: Instant) -> Vec<String> {
        let state = lock(&self.state);
        let mut reasons = self.why_dead_by(&state, now);
        if state.ending {
            reasons.push("the program ends; the dataplane is left serving".into());
        }
        let missing = Source::ALL.into_iter().filter(|source| !state.known.contains(source));
        reasons.extend(missing.map(|source| source.missing().to_owned()));
        reasons.extend(state.held_back.iter().map(|(who, why)| format!("{who}: {why}")));
        match &state.report {
            None => reasons.push("the dataplane has not been programmed yet".into()),
            Some(report) if report.in_sync && report.unpublished.is_empty() => {}
            Some(report) if report.in_sync => {
                let addresses: Vec<String> =
                    report.unpublished.iter().map(ToString::to_string).collect();
                reasons.push(format!(
                    "not yet published in the Lease of this instance: {}",
                    addresses.join(", ")
                ));
            }
            Some(report) if report.degraded.is_empty() => {
                reasons.push("the kernel does not hold what is wanted yet".into());
            }
            Some(report) => reasons.extend(report.degraded.iter().cloned()),
        }
        let more = reasons.len().saturating_sub(MAX_REASONS);
        if more > 0 {
            reasons.truncate(MAX_REASONS);
            reasons.push(format!("and {more} more"));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(100);

    fn ready(now: Instant) -> Health {
        let health = Health::new(now, PATIENCE);
        health.source_known(Source::Cluster);
        health.source_known(Source::Host);
        let report = StatusReport { in_sync: true, ..StatusReport::default() };
        health.reported(Arc::new(report));
        health
    }

    #[test]
    fn a_start_names_all_that_is_missing_and_is_alive() {
        let now = Instant::now();
        let health = Health::new(now, PATIENCE);
        assert!(health.why_dead(now).is_empty());
        let reasons = health.why_not_ready(now).join("\n");
        for part in ["Services and endpoints", "interfaces", "has not been programmed"] {
            assert!(reasons.contains(part), "{part}: {reasons}");
        }
        assert!(ready(now).why_not_ready(now).is_empty());
    }

    #[test]
    fn a_loop_that_hangs_and_a_kernel_that_owes_an_answer_are_dead_and_not_ready() {
        let now = Instant::now();
        let health = ready(now);
        let later = now + LOOP_PATIENCE + Duration::from_secs(1);
        assert_eq!(health.why_dead(later), ["the event loop has not turned for 31 s"]);
        assert_eq!(health.why_not_ready(later), health.why_dead(later));
        health.turned(later);
        assert!(health.why_dead(later).is_empty());
        health.kernel_asked(later);
        assert!(
            health.why_dead(later + LOOP_PATIENCE).is_empty(),
            "an operation may take its time"
        );
        let late = later + PATIENCE + Duration::from_secs(1);
        health.turned(late);
        assert_eq!(health.why_dead(late), ["the kernel has not answered for 101 s"]);
        health.kernel_answered();
        assert!(health.why_not_ready(late).is_empty());
    }

    #[test]
    fn what_is_degraded_is_listed_within_a_bound() {
        let now = Instant::now();
        let health = ready(now);
        let degraded: Vec<String> = (0..25).map(|n| format!("reason {n}")).collect();
        health.reported(Arc::new(StatusReport { degraded, ..StatusReport::default() }));
        let reasons = health.why_not_ready(now);
        assert_eq!(reasons.len(), MAX_REASONS + 1);
        assert_eq!((reasons[0].as_str(), reasons[20].as_str()), ("reason 0", "and 5 more"));
    }

    #[test]
    fn others_can_hold_it_back_and_an_end_does() {
        let now = Instant::now();
        let health = ready(now);
        health.hold_back("watch of Services", Some("is not in sync".into()));
        assert_eq!(health.why_not_ready(now), ["watch of Services: is not in sync"]);
        health.hold_back("watch of Services", None);
        assert!(health.why_not_ready(now).is_empty());
        health.ending();
        assert!(health.why_not_ready(now)[0].contains("the program ends"));
        assert!(health.why_dead(now).is_empty());
    }
}
