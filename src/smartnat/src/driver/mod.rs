//! The loop that feeds the core with what happens and executes what it asks for.

mod changes;
pub mod host;
mod journal;
mod kernel_thread;
mod settle;
pub mod sources;
mod state_writer;

#[cfg(test)]
mod tests;

pub use journal::Journal;
pub use kernel_thread::{Counters, CountingKernel, Done, Job, KernelThread, ThreadEnded, execute};
pub use settle::{MAX_STEPS, Settled, settle};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smartnat_core::coordination::ClusterEvent;
use smartnat_core::explain::Scene;
use smartnat_core::gateway::{Event, Gateway, Input, Output};
use smartnat_core::model::{ClusterObject, ClusterState, Family, HostState, Timestamp};
use smartnat_core::status::StatusReport;
use tokio::sync::{mpsc, oneshot, watch};

use crate::membership::events_of_instance;

/// Shortest wait, so that a time in the past can't keep the processor busy.
const MIN_WAIT: Duration = Duration::from_millis(1);
/// So late may a notification of our own change arrive. What somebody else changes in this
/// time is found by the regular reading.
const NOTICE_DELAY: Duration = Duration::from_millis(20);
/// A good cluster is copied for whoever remembers it no more often than this.
const REMEMBER_EVERY: Duration = Duration::from_secs(4);
/// After so many operations what they left free of the heap is handed back: a first sync or a
/// change of everything leaves megabytes, a change of one Mapping nothing that is worth a pause.
const MANY_OPERATIONS: usize = 4096;
/// Longest wait for what was begun when the program is told to end.
const MAX_FINISH: Duration = Duration::from_secs(30);

/// Something that happened outside.
#[derive(Debug)]
pub enum Incoming {
    /// Changed objects; the first time all of them.
    Cluster(Vec<ClusterObject>),
    /// The host as it is now.
    Host(HostState),
    /// The kernel said at this moment that something of netfilter, rules or routes changed.
    KernelChanged(Instant),
    /// Somebody else changed what the kernel may not be asked for again by itself, or a person
    /// wants it read.
    ReadAnew,
    /// Who needs forwarding beside us, for people, by family.
    ForwardingNeeded(BTreeMap<Family, Vec<String>>),
    /// What a survey found that is foreign and matters, for people.
    Foreign(Vec<String>),
    /// Somebody wants to know what decisions depend on.
    Snapshot(oneshot::Sender<Option<Box<Scene>>>),
    /// The program shall end.
    Stop,
}

/// Now, as the core counts time.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}

/// What the kernel thread is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    Reading,
    Applying,
}

/// Who else is told what the gateway does, where this instance is a member of a cluster.
#[derive(Debug)]
pub struct Listeners {
    /// Its latest status.
    pub reports: watch::Sender<Option<Arc<StatusReport>>>,
    /// What it was told of the cluster, when that was last good.
    pub clusters: watch::Sender<Option<Arc<ClusterState>>>,
    /// Events for the cluster.
    pub events: mpsc::Sender<ClusterEvent>,
}

/// The loop.
#[derive(Debug)]
pub struct Driver {
    gateway: Gateway,
    kernel: KernelThread,
    journal: Journal,
    busy: Busy,
    /// When the kernel was last asked what it holds.
    read_from: Option<Instant>,
    listeners: Option<Listeners>,
    /// The cluster changed since it was last told as good.
    unremembered: bool,
    remembered: Option<Instant>,
    /// Operations since the heap was last trimmed.
    operations: usize,
}

impl Driver {
    /// A driver of `gateway` on `kernel`.
    pub fn new(gateway: Gateway, kernel: KernelThread, journal: Journal) -> Self {
        Self {
            gateway,
            kernel,
            journal,
            busy: Busy::No,
            read_from: None,
            listeners: None,
            unremembered: false,
            remembered: None,
            operations: 0,
        }
    }

    /// Tells others too.
    pub fn with_listeners(mut self, listeners: Listeners) -> Self {
        self.listeners = Some(listeners);
        self
    }

    /// Runs until it is told to stop. What was begun is finished, and the dataplane
    /// is left as it is (T15).
    pub async fn run(mut self, mut incoming: mpsc::Receiver<Incoming>) -> Result<(), ThreadEnded> {
        loop {
            self.act()?;
            let timeout = self.gateway.poll_timeout().map(|at| until(at, now()));
            let tick = tokio::time::sleep(timeout.unwrap_or(Duration::MAX));
            tokio::select! {
                done = self.kernel.done(), if self.busy != Busy::No => self.finish(done?),
                event = incoming.recv() => match event {
                    None | Some(Incoming::Stop) => break,
                    Some(event) => self.take(event),
                },
                () = tick, if timeout.is_some() => self.input(Input::Tick),
            }
        }
        self.stop().await
    }

    /// Executes all that the core asks for now.
    fn act(&mut self) -> Result<(), ThreadEnded> {
        while let Some(output) = self.gateway.poll_output() {
            let job = match output {
                Output::Observe(scope) => Job::Observe(scope),
                Output::Apply(transaction) => Job::Apply(transaction),
                Output::ListFlows(filter) => Job::ListFlows(filter),
                Output::Status(report) => {
                    let report = Arc::from(report);
                    if let Some(listeners) = &self.listeners {
                        listeners.reports.send_replace(Some(Arc::clone(&report)));
                    }
                    self.journal.status(report);
                    continue;
                }
                Output::Event(event) => {
                    self.journal.event(&event);
                    self.tell_cluster(&event);
                    continue;
                }
            };
            assert!(self.busy == Busy::No, "the core asks for one thing at a time");
            if let Job::Apply(transaction) = &job {
                self.operations += transaction.ops.len();
            }
            self.journal.begin(&job);
            self.busy = match job {
                Job::Apply(_) => Busy::Applying,
                Job::Observe(_) | Job::ListFlows(_) => Busy::Reading,
            };
            if self.busy == Busy::Reading {
                self.read_from = Some(Instant::now());
            }
            self.kernel.give(job)?;
        }
        if self.gateway.is_idle() {
            self.journal.rest(self.gateway.status());
            self.tell_good_cluster();
            self.release_memory();
        }
        Ok(())
    }

    fn release_memory(&mut self) {
        if self.operations >= MANY_OPERATIONS {
            self.operations = 0;
            smartnat_heap::release();
        }
    }

    fn tell_cluster(&self, event: &Event) {
        let Some(listeners) = &self.listeners else { return };
        if let Some(event) = events_of_instance(event) {
            // The log has it too; a full queue must not hold the driver up.
            drop(listeners.events.try_send(event));
        }
    }

    /// A cluster whose dataplane was read back is worth remembering, yet not at each change: what
    /// comes too soon goes with a later reading of the kernel.
    fn tell_good_cluster(&mut self) {
        let Some(listeners) = &self.listeners else { return };
        let status = self.gateway.status();
        let good = status.is_some_and(|status| status.read_back && status.unpublished.is_empty());
        let soon = self.remembered.is_some_and(|at| at.elapsed() < REMEMBER_EVERY);
        if good && self.unremembered && !soon {
            listeners.clusters.send_replace(self.gateway.cluster().cloned().map(Arc::new));
            self.unremembered = false;
            self.remembered = Some(Instant::now());
        }
    }

    fn finish(&mut self, done: Done) {
        self.busy = Busy::No;
        self.journal.end(&done);
        self.input(done.input);
    }

    fn take(&mut self, event: Incoming) {
        match event {
            Incoming::Cluster(objects) => {
                self.unremembered = true;
                self.input(Input::Cluster(objects));
            }
            Incoming::Host(host) => self.input(Input::Host(host)),
            // The kernel tells of our own changes too, and those are read back anyway.
            Incoming::KernelChanged(at) => {
                let read_since = self.read_from.is_some_and(|from| at < from + NOTICE_DELAY);
                if self.busy != Busy::Applying && !read_since {
                    self.input(Input::KernelChanged);
                }
            }
            Incoming::ReadAnew => self.input(Input::KernelChanged),
            Incoming::ForwardingNeeded(needed) => self.input(Input::ForwardingNeeded(needed)),
            Incoming::Foreign(found) => self.journal.foreign(found, self.gateway.status()),
            // Whoever asked may have gone.
            Incoming::Snapshot(answer) => drop(answer.send(self.gateway.scene().map(Box::new))),
            Incoming::Stop => {}
        }
    }

    fn input(&mut self, input: Input) {
        self.journal.input(&input);
        let since = Instant::now();
        self.gateway.handle_input(now(), input);
        self.journal.decided(since);
    }

    async fn stop(mut self) -> Result<(), ThreadEnded> {
        self.journal.ending();
        if self.busy != Busy::No {
            if let Ok(done) = tokio::time::timeout(MAX_FINISH, self.kernel.done()).await {
                self.finish(done?);
            } else {
                tracing::warn!("the last operation did not end within {MAX_FINISH:?}");
            }
        }
        self.journal.finish();
        self.remembered = None;
        self.tell_good_cluster();
        Ok(())
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(at.0.saturating_sub(now.0)).max(MIN_WAIT)
}
