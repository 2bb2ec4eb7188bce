//! One thread that owns the kernel and does one thing after the other: child
//! processes and netlink sockets block, and belong to the namespace of their thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use smartnat_core::gateway::Input;
use smartnat_core::objects::{FlowFilter, ObservationScope};
use smartnat_core::ops::{Kernel, Transaction};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// What a kernel has been asked to do so far, counted where netlink messages and
/// child processes begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations that changed something.
    pub operations: u64,
    /// Child processes.
    pub processes: u64,
}

/// A kernel that counts.
pub trait CountingKernel: Kernel {
    /// What it has been asked to do so far.
    fn counters(&self) -> Counters;
}

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// Read everything of ours.
    Observe(ObservationScope),
    /// Execute.
    Apply(Transaction),
    /// List conntrack entries.
    ListFlows(FlowFilter),
}

/// Something that was done.
#[derive(Debug)]
pub struct Done {
    /// The answer for the gateway.
    pub input: Input,
    /// Counters after it.
    pub counters: Counters,
}

/// The thread is gone, so that nothing can be done any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the thread that talks to the kernel ended unexpectedly")]
pub struct ThreadEnded;

/// The thread as its owner sees it.
#[derive(Debug)]
pub struct KernelThread {
    jobs: SyncSender<Job>,
    done: mpsc::Receiver<Done>,
}

impl KernelThread {
    /// Starts the thread and opens the kernel in it.
    pub async fn start<K, E>(
        open: impl FnOnce() -> Result<K, E> + Send + 'static,
    ) -> Result<Result<Self, E>, ThreadEnded>
    where
        K: CountingKernel + 'static,
        E: Send + 'static,
    {
        let (jobs, jobs_out) = sync_channel(1);
        let (done_in, done) = mpsc::channel(1);
        let (opened_in, opened) = oneshot::channel();
        thread::Builder::new()
            .name("kernel".into())
            .spawn(move || match open() {
                Ok(mut kernel) => {
                    if opened_in.send(Ok(())).is_ok() {
                        work(&mut kernel, &jobs_out, &done_in);
                    }
                }
                Err(error) => drop(opened_in.send(Err(error))),
            })
            .map_err(|_| ThreadEnded)?;
        let opened = opened.await.map_err(|_| ThreadEnded)?;
        Ok(opened.map(|()| Self { jobs, done }))
    }

    /// Hands it something to do. Only one thing at a time.
    pub fn give(&self, job: Job) -> Result<(), ThreadEnded> {
        self.jobs.try_send(job).map_err(|_| ThreadEnded)
    }

    /// Waits for what it was given.
    pub async fn done(&mut self) -> Result<Done, ThreadEnded> {
        self.done.recv().await.ok_or(ThreadEnded)
    }
}

fn work(kernel: &mut impl CountingKernel, jobs: &Receiver<Job>, done: &mpsc::Sender<Done>) {
    while let Ok(job) = jobs.recv() {
        let input = execute(kernel, &job);
        let counters = kernel.counters();
        if done.blocking_send(Done { input, counters }).is_err() {
            return;
        }
    }
}

/// Does one thing on a kernel.
pub fn execute(kernel: &mut impl Kernel, job: &Job) -> Input {
    match job {
        Job::Observe(scope) => Input::Observed(kernel.observe(scope).map(Box::new)),
        Job::Apply(transaction) => Input::Applied(kernel.apply(transaction)),
        Job::ListFlows(filter) => Input::Flows(kernel.flows(filter)),
    }
}
