//! What a run tells: log lines, the status file, the counters, the ready file, the monitor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smartnat_core::gateway::{Event, Input};
use smartnat_core::model::GatewayConfig;
use smartnat_core::status::{StatusReport, UplinkStatus};
use tokio::sync::oneshot;

use super::kernel_thread::{Counters, Done, Job};
use super::state_writer::StateWriter;
use crate::monitor::{Monitor, Recorder};
use crate::state_files::{StateFiles, Stats};

/// With so many Mappings or fewer, the files are written before anything else is told: whoever
/// reads a log line finds its status. More would hold up the changes that follow.
const WRITTEN_FIRST: usize = 256;

/// Tells what a run does.
#[derive(Debug)]
pub struct Journal {
    writer: StateWriter,
    ready_file: Option<PathBuf>,
    /// Who wants to know the uplinks of the first status.
    first_uplinks: Option<oneshot::Sender<BTreeMap<String, UplinkStatus>>>,
    degraded: BTreeSet<String>,
    /// What is foreign and matters.
    foreign: Vec<String>,
    counters: Counters,
    at_rest: Counters,
    transactions: u64,
    since: Instant,
    syncs: u64,
    recorder: Recorder,
}

impl Journal {
    /// A journal of a run that begins now; without files it logs and keeps the monitor informed.
    /// Fails when no thread can be started.
    pub fn new(
        files: Option<StateFiles>,
        config: GatewayConfig,
        ready_file: Option<PathBuf>,
        monitor: &Monitor,
    ) -> std::io::Result<Self> {
        Ok(Self {
            writer: StateWriter::start(files, config)?,
            ready_file,
            first_uplinks: None,
            degraded: BTreeSet::new(),
            foreign: Vec::new(),
            counters: Counters::default(),
            at_rest: Counters::default(),
            transactions: 0,
            since: Instant::now(),
            syncs: 0,
            recorder: monitor.recorder(),
        })
    }

    /// Tells the uplinks of the first status.
    pub fn first_uplinks(&mut self) -> oneshot::Receiver<BTreeMap<String, UplinkStatus>> {
        let (tell, told) = oneshot::channel();
        self.first_uplinks = Some(tell);
        told
    }

    /// Counters so far.
    pub fn stats(&self) -> Stats {
        Stats {
            operations: self.counters.operations,
            processes_started: self.counters.processes,
            syncs: self.syncs,
        }
    }

    /// The gateway is given something.
    pub(super) fn input(&mut self, input: &Input) {
        self.recorder.input(input);
    }

    /// It has taken in what it was given at `since`.
    pub(super) fn decided(&self, since: Instant) {
        self.recorder.decided(since);
    }

    /// Something is handed to the kernel.
    pub(super) fn begin(&mut self, job: &Job) {
        self.recorder.begin(job);
        if let Job::Apply(transaction) = job {
            if self.transactions == 0 {
                self.since = Instant::now();
            }
            self.transactions += 1;
            for op in &transaction.ops {
                tracing::debug!(domain = ?transaction.domain, ?op, "apply");
            }
        }
    }

    /// The kernel has answered.
    pub(super) fn end(&mut self, done: &Done) {
        self.counters = done.counters;
        self.recorder.end(done);
    }

    /// The status changed.
    pub(super) fn status(&mut self, report: Arc<StatusReport>) {
        let degraded: BTreeSet<String> = report.degraded.iter().cloned().collect();
        for line in degraded.difference(&self.degraded) {
            tracing::warn!("degraded: {line}");
        }
        for line in self.degraded.difference(&degraded) {
            tracing::info!("no longer degraded: {line}");
        }
        self.degraded = degraded;
        if let Some(tell) = self.first_uplinks.take() {
            // Nobody listens when the program ends already.
            let _ = tell.send(report.uplinks.clone());
        }
        self.write_status(&report);
        super::changes::log_changes(&self.recorder.last_status(), &report);
        self.recorder.status(report);
    }

    /// Something worth telling happened: the log has the Mapping it is about first.
    pub(super) fn event(&self, event: &Event) {
        self.recorder.event(event);
        let kind = format!("{:?}", event.kind);
        let mapping = event.mapping.as_ref().map(ToString::to_string);
        let about = mapping.as_ref().map(|mapping| format!("{mapping}: ")).unwrap_or_default();
        if event.kind.is_warning() {
            tracing::warn!(kind, mapping, "{about}{}", event.message);
        } else {
            tracing::info!(kind, mapping, "{about}{}", event.message);
        }
    }

    fn write_status(&self, report: &Arc<StatusReport>) {
        self.writer.status(Arc::clone(report), self.foreign.clone());
        self.flush_if_few(report);
    }

    fn flush_if_few(&self, report: &StatusReport) {
        if report.mappings.len() <= WRITTEN_FIRST {
            self.writer.flush();
        }
    }

    /// A survey told what others have on the uplinks, which are dedicated to us (T14).
    pub(super) fn foreign(&mut self, found: Vec<String>, report: Option<&StatusReport>) {
        for message in &found {
            tracing::warn!("{message}");
        }
        self.foreign = found;
        if let Some(report) = report {
            self.write_status(&Arc::new(report.clone()));
        }
    }

    /// The gateway has nothing more to do for now; `report` is its latest status.
    pub(super) fn rest(&mut self, report: Option<&StatusReport>) {
        let operations = self.counters.operations - self.at_rest.operations;
        let processes = self.counters.processes - self.at_rest.processes;
        let in_sync = report.is_some_and(|report| report.in_sync);
        let first = in_sync && self.syncs == 0;
        self.recorder.rest(in_sync);
        self.tell_ready(report);
        if operations == 0 && !first {
            return;
        }
        self.at_rest = self.counters;
        let transactions = std::mem::take(&mut self.transactions);
        let since = if transactions == 0 { Duration::ZERO } else { self.since.elapsed() };
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mappings = report.map_or(0, |report| report.mappings.len());
        if in_sync {
            self.syncs += 1;
        }
        self.write_stats();
        if let Some(report) = report {
            self.flush_if_few(report);
        }
        if in_sync {
            tracing::info!(operations, transactions, processes, milliseconds, mappings, "in sync");
        } else {
            tracing::warn!(
                operations,
                transactions,
                processes,
                milliseconds,
                mappings,
                "not in sync"
            );
        }
        self.tell_ready(report);
    }

    fn tell_ready(&mut self, report: Option<&StatusReport>) {
        let Some(report) = report.filter(|r| r.in_sync && r.unpublished.is_empty()) else { return };
        if self.syncs > 0
            && let Some(path) = self.ready_file.take()
        {
            self.writer.ready(path);
            self.flush_if_few(report);
        }
    }

    fn write_stats(&self) {
        self.writer.stats(self.stats());
    }

    /// The run will end once what was begun is finished.
    pub(super) fn ending(&self) {
        self.recorder.ending();
    }

    /// The run ends.
    pub(super) fn finish(&mut self) {
        self.write_stats();
        self.writer.flush();
        let Stats { operations, processes_started, syncs } = self.stats();
        tracing::info!(
            operations,
            processes_started,
            syncs,
            "ended; the dataplane is left serving"
        );
    }
}
