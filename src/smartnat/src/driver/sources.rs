//! The tasks that tell the driver what happens outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use smartnat_cluster::manifests::{
    ManifestError, ManifestProblem, ManifestStore, ManifestWatcher, Reload, WatchError,
};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use super::Incoming;

/// Why a source can't be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The manifests can't be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// The directory can't be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// Writes what is wrong with manifests to the log.
pub fn log_problems(problems: &[ManifestProblem]) {
    for problem in problems {
        if problem.is_error() {
            tracing::error!("{problem}; the last good version stays");
        } else {
            tracing::warn!("{problem}");
        }
    }
}

/// A directory of manifests that is watched.
#[derive(Debug)]
pub struct Manifests {
    store: ManifestStore,
    watcher: ManifestWatcher,
    first: Reload,
}

impl Manifests {
    /// Begins to watch a directory, and reads it.
    pub fn open(directory: &Path) -> Result<Self, SourceError> {
        let directory = PathBuf::from(directory);
        let watcher = ManifestWatcher::start(&directory)?;
        let (store, first) = ManifestStore::load(directory)?;
        log_problems(&first.problems);
        Ok(Self { store, watcher, first })
    }

    /// Hands on everything, then what changes.
    pub async fn follow(self, to: mpsc::Sender<Incoming>, reload: Arc<Notify>) {
        let Self { mut store, mut watcher, first } = self;
        let mut changes = first.changes;
        let mut complete = false;
        loop {
            // The first one counts even when it is empty: it says that nothing is missing.
            if (!complete || !changes.is_empty())
                && to.send(Incoming::Cluster(std::mem::take(&mut changes))).await.is_err()
            {
                return;
            }
            complete = true;
            tokio::select! {
                () = watcher.changed() => {}
                () = reload.notified() => {}
            }
            let read = tokio::task::spawn_blocking(move || {
                let reload = store.reload();
                (store, reload)
            });
            let Ok((read, reload)) = read.await else {
                tracing::error!("reading the manifests failed; they are no longer followed");
                return;
            };
            log_problems(&reload.new_problems);
            store = read;
            changes = reload.changes;
        }
    }
}

/// Signals that the program takes.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they do not end the program by themselves.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Hands on the end, and asks for everything to be read anew at each SIGHUP.
    pub async fn follow(mut self, to: mpsc::Sender<Incoming>, reload: Arc<Notify>) {
        loop {
            let incoming = tokio::select! {
                _ = self.terminate.recv() => Incoming::Stop,
                _ = self.interrupt.recv() => Incoming::Stop,
                _ = self.hangup.recv() => {
                    tracing::info!("reading everything anew");
                    reload.notify_one();
                    Incoming::ReadAnew
                }
            };
            let ends = matches!(incoming, Incoming::Stop);
            if to.send(incoming).await.is_err() || ends {
                return;
            }
        }
    }
}
