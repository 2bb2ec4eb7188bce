//! Follows the driver and notes what takes how long and how it ends.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use smartnat_core::gateway::{Event, Input};
use smartnat_core::ops::{Domain, OpError};
use smartnat_core::status::StatusReport;

use super::health::Source;
use super::metrics::Stage;
use super::{Metrics, Monitor};
use crate::driver::{Done, Job};

/// What the kernel is asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Observation,
    Application(Domain, u64),
    Flows,
}

/// Follows one driver.
#[derive(Debug)]
pub struct Recorder {
    monitor: Monitor,
    asked: Option<(Instant, Asked)>,
    /// When the gateway was given what it is busy with.
    busy_since: Option<Instant>,
    /// The kernel has been asked for something since then.
    begun: bool,
    /// Something was handed to the kernel since then.
    changed: bool,
    /// The kernel was read since then.
    read: bool,
    processes: u64,
}

impl Recorder {
    pub(super) fn new(monitor: Monitor) -> Self {
        Self {
            monitor,
            asked: None,
            busy_since: None,
            begun: false,
            changed: false,
            read: false,
            processes: 0,
        }
    }

    fn metrics(&self) -> &Metrics {
        self.monitor.metrics()
    }

    /// The gateway is given something.
    pub(crate) fn input(&mut self, input: &Input) {
        // What waits for other sources does not count as busy.
        if !self.begun {
            self.busy_since = Some(Instant::now());
        }
        match input {
            Input::Cluster(_) => self.monitor.health().source_known(Source::Cluster),
            Input::Host(_) => self.monitor.health().source_known(Source::Host),
            _ => {}
        }
    }

    /// It has taken it in.
    pub(crate) fn decided(&self, since: Instant) {
        self.metrics().stage(Stage::Decide, since.elapsed());
    }

    /// The kernel is asked for something.
    pub(crate) fn begin(&mut self, job: &Job) {
        let now = Instant::now();
        self.begun = true;
        self.monitor.health().kernel_asked(now);
        let asked = match job {
            Job::Observe(_) => Asked::Observation,
            Job::ListFlows(_) => Asked::Flows,
            Job::Apply(transaction) => {
                self.changed = true;
                let ops = u64::try_from(transaction.ops.len()).unwrap_or(u64::MAX);
                Asked::Application(transaction.domain, ops)
            }
        };
        self.asked = Some((now, asked));
    }

    /// The kernel has answered.
    pub(crate) fn end(&mut self, done: &Done) {
        self.monitor.health().kernel_answered();
        let started = done.counters.processes.saturating_sub(self.processes);
        self.processes = done.counters.processes;
        self.metrics().child_processes(started);
        let Some((since, asked)) = self.asked.take() else { return };
        let error = error_of(&done.input);
        let stage = match asked {
            Asked::Observation => {
                self.read |= error.is_none();
                self.metrics().read("objects", error);
                Stage::Observe
            }
            Asked::Flows => {
                self.metrics().read("connections", error);
                Stage::Sweep
            }
            Asked::Application(domain, ops) => {
                self.metrics().transaction(domain, ops, error);
                Stage::Apply
            }
        };
        self.metrics().stage(stage, since.elapsed());
    }

    /// The status before the next one; an empty one before the first.
    pub(crate) fn last_status(&self) -> Arc<StatusReport> {
        self.monitor.health().report().unwrap_or_default()
    }

    /// The status changed.
    pub(crate) fn status(&self, report: Arc<StatusReport>) {
        self.monitor.health().reported(report);
    }

    /// Something worth telling happened.
    pub(crate) fn event(&self, event: &Event) {
        self.metrics().event(event.kind);
    }

    /// The gateway has nothing more to do for now.
    pub(crate) fn rest(&mut self, in_sync: bool) {
        let Some(since) = self.busy_since.take() else { return };
        self.begun = false;
        let changed = std::mem::take(&mut self.changed);
        let read = std::mem::take(&mut self.read);
        if in_sync && read {
            self.metrics().verified(SystemTime::now());
        }
        match (changed, in_sync) {
            (true, true) => self.metrics().sync_succeeded(since.elapsed()),
            (true, false) => self.metrics().sync_failed(),
            (false, _) => {}
        }
    }

    /// The run will end soon.
    pub(crate) fn ending(&self) {
        self.monitor.health().ending();
    }
}

fn error_of(input: &Input) -> Option<&OpError> {
    match input {
        Input::Observed(result) => result.as_ref().err(),
        Input::Applied(result) => result.as_ref().err(),
        Input::Flows(result) => result.as_ref().err(),
        _ => None,
    }
}
