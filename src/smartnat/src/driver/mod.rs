//! The loop that feeds the core with what happens and executes what it asks for.

mod changes;
pub mod host;
mod journal;
mod kernel_thread;
mod settle;
pub mod sources;

#[cfg(test)]
mod tests;

pub use journal::Journal;
pub use kernel_thread::{Counters, CountingKernel, Done, Job, KernelThread, ThreadEnded, execute};
pub use settle::{MAX_STEPS, Settled, settle};

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use smartnat_core::explain::Scene;
use smartnat_core::gateway::{Gateway, Input, Output};
use smartnat_core::model::{ClusterObject, Family, HostState, Timestamp};
use tokio::sync::{mpsc, oneshot};

/// Shortest wait, so that a time in the past can't keep the processor busy.
const MIN_WAIT: Duration = Duration::from_millis(1);
/// So late may a notification of our own change arrive. What somebody else changes in this
/// time is found by the regular reading.
const NOTICE_DELAY: Duration = Duration::from_millis(20);
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

/// The loop.
#[derive(Debug)]
pub struct Driver {
    gateway: Gateway,
    kernel: KernelThread,
    journal: Journal,
    busy: Busy,
    /// When the kernel was last asked what it holds.
    read_from: Option<Instant>,
}

impl Driver {
    /// A driver of `gateway` on `kernel`.
    pub fn new(gateway: Gateway, kernel: KernelThread, journal: Journal) -> Self {
        Self { gateway, kernel, journal, busy: Busy::No, read_from: None }
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
                    self.journal.status(report);
                    continue;
                }
                Output::Event(event) => {
                    self.journal.event(&event);
                    continue;
                }
            };
            assert!(self.busy == Busy::No, "the core asks for one thing at a time");
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
        }
        Ok(())
    }

    fn finish(&mut self, done: Done) {
        self.busy = Busy::No;
        self.journal.end(&done);
        self.input(done.input);
    }

    fn take(&mut self, event: Incoming) {
        match event {
            Incoming::Cluster(objects) => self.input(Input::Cluster(objects)),
            Incoming::Host(host) => self.input(Input::Host(host)),
            // The kernel tells of our own changes too, and those are read back anyway.
            Incoming::KernelChanged(at) => {
                let read_since = self.read_from.is_some_and(|from| at < from + NOTICE_DELAY);
                if self.busy != Busy::Applying && !read_since {
                    self.input(Input::KernelChanged);
                }
            }
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
        Ok(())
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(at.0.saturating_sub(now.0)).max(MIN_WAIT)
}
