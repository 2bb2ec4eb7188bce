//! When to look at a directory again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tracing::warn;

/// So long nothing may happen before the directory is looked at: an editor's save or a copy
/// of many files is one change.
const QUIET: Duration = Duration::from_millis(100);
/// The longest that changes without a pause are held back.
const LONGEST: Duration = Duration::from_secs(1);
/// How often it is checked that the watched directory is still the one of that name.
const CHECK: Duration = Duration::from_secs(1);

/// A directory that cannot be watched.
#[derive(Debug, Error)]
#[error("watching {}: {source}", path.display())]
pub struct WatchError {
    /// The directory.
    pub path: PathBuf,
    /// Why not.
    pub source: notify::Error,
}

/// Tells when a directory of manifests may have changed. It survives that the directory is
/// deleted, replaced or created again; where the kernel cannot watch it (limits of inotify),
/// it says so and asks for a look once a second.
#[derive(Debug)]
pub struct ManifestWatcher {
    changes: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl ManifestWatcher {
    /// Watches `root` and what is below it. Must be called within a tokio runtime with time.
    ///
    /// The first [`Self::changed`] comes for a change after this call, so whoever loads the
    /// directory after it misses nothing.
    pub fn start(root: impl Into<PathBuf>) -> Result<Self, WatchError> {
        let root = root.into();
        let stirred = Arc::new(Notify::new());
        let notifier =
            watcher(&stirred).map_err(|source| WatchError { path: root.clone(), source })?;
        let mut watch = Watch { root, stirred, notifier, watched: None, complained: false };
        // What is found at the start is no change.
        watch.check();
        let (sender, changes) = mpsc::channel(1);
        let task = tokio::spawn(watch.run(sender));
        Ok(Self { changes, task })
    }

    /// Waits until the directory may have changed; several changes are told as one. Nothing
    /// is lost when the future is dropped.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // The task ends only with this watcher; should it fail, nothing more will come.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for ManifestWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A notifier that stirs at whatever may change what the files say.
fn watcher(stirred: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let stirred = Arc::clone(stirred);
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error (an overflow, say) may have swallowed changes.
        if event.map_or(true, |event| event.need_rescan() || matters(event.kind)) {
            stirred.notify_one();
        }
    })
}

/// Whether the contents may have changed. Our own reading must not count.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What tells one directory from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino() })
}

struct Watch {
    root: PathBuf,
    stirred: Arc<Notify>,
    notifier: RecommendedWatcher,
    /// The directory that the notifier watches.
    watched: Option<Identity>,
    complained: bool,
}

impl Watch {
    async fn run(mut self, changes: mpsc::Sender<()>) {
        let stirred = Arc::clone(&self.stirred);
        let mut checks = interval(CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let look = tokio::select! {
                () = stirred.notified() => {
                    settle(&stirred).await;
                    self.check();
                    true
                }
                _ = checks.tick() => self.check(),
            };
            // A full channel means that the receiver has yet to look; it will see this too.
            if look && matches!(changes.try_send(()), Err(mpsc::error::TrySendError::Closed(()))) {
                return;
            }
        }
    }

    /// Watches the directory that has the name now. Returns whether it needs a look.
    fn check(&mut self) -> bool {
        let now = identity(&self.root);
        if now == self.watched {
            return false;
        }
        if self.watched.take().is_some() {
            // Fails when the kernel has dropped the watch along with the directory.
            let _ = self.notifier.unwatch(&self.root);
        }
        if now.is_none() {
            return true;
        }
        match self.notifier.watch(&self.root, RecursiveMode::Recursive) {
            Ok(()) => {
                self.watched = now;
                self.complained = false;
            }
            Err(error) if !self.complained => {
                warn!(directory = %self.root.display(), %error,
                    "cannot watch the manifests; looking at them every second instead");
                self.complained = true;
            }
            Err(_) => {}
        }
        true
    }
}

/// Waits for a pause, but not for ever.
async fn settle(stirred: &Notify) {
    let latest = Instant::now() + LONGEST;
    loop {
        let quiet = (Instant::now() + QUIET).min(latest);
        let paused = timeout_at(quiet, stirred.notified()).await.is_err();
        if paused || Instant::now() >= latest {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
