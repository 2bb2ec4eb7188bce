//! Writes the state files on a thread of its own: with thousands of Mappings a status takes longer
//! to write than a change takes to reach the kernel.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, process};

use smartnat_core::model::GatewayConfig;
use smartnat_core::status::StatusReport;

use crate::state_files::{StateFiles, Stats, write_atomically};

/// Rests so many times as long as it wrote, so that it takes a tenth of a processor at most.
const REST: u32 = 9;

/// How often who waits for the thread looks whether it is there: it ends early if it panics.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be written; what comes before it is written replaces what was there.
#[derive(Debug, Default)]
struct Pending {
    status: Option<(Arc<StatusReport>, Vec<String>)>,
    stats: Option<Stats>,
    ready: Option<PathBuf>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.status.is_none() && self.stats.is_none() && self.ready.is_none()
    }
}

#[derive(Debug, Default)]
struct State {
    pending: Pending,
    writing: bool,
    /// Somebody waits for it.
    awaited: bool,
    ending: bool,
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    turned: Condvar,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.turned.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next, once it may be; `None` at the end.
    fn take(&self, not_before: Instant) -> Option<Pending> {
        let mut state = self.state();
        state.writing = false;
        self.turned.notify_all();
        loop {
            let rest = not_before.saturating_duration_since(Instant::now());
            let hurry = state.ending || state.awaited || state.pending.ready.is_some();
            if state.pending.is_empty() {
                if state.ending {
                    return None;
                }
                state.awaited = false;
                state = self.wait(state);
            } else if hurry || rest.is_zero() {
                state.writing = true;
                state.awaited = false;
                return Some(std::mem::take(&mut state.pending));
            } else {
                let waited = self.turned.wait_timeout(state, rest);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// The thread as its owner sees it. Dropping it writes what is left.
#[derive(Debug)]
pub(super) struct StateWriter {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl StateWriter {
    /// Starts the thread; without `files` only the ready file is written.
    pub(super) fn start(files: Option<StateFiles>, config: GatewayConfig) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let of_thread = Arc::clone(&desk);
        let write = move || work(&of_thread, files.as_ref(), &config);
        let thread = Some(thread::Builder::new().name("state-files".into()).spawn(write)?);
        Ok(Self { desk, thread })
    }

    fn put(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.desk.state().pending);
        self.desk.turned.notify_all();
    }

    pub(super) fn status(&self, report: Arc<StatusReport>, foreign: Vec<String>) {
        self.put(|pending| pending.status = Some((report, foreign)));
    }

    pub(super) fn stats(&self, stats: Stats) {
        self.put(|pending| pending.stats = Some(stats));
    }

    /// Whoever waits for the ready file finds the status and the counters written before it.
    pub(super) fn ready(&self, path: PathBuf) {
        self.put(|pending| pending.ready = Some(path));
    }

    /// Waits until all is written, or nothing will be any more.
    pub(super) fn flush(&self) {
        let ended = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        let mut state = self.desk.state();
        while (state.writing || !state.pending.is_empty()) && !ended() {
            state.awaited = true;
            self.desk.turned.notify_all();
            let waited = self.desk.turned.wait_timeout(state, LOOK);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.desk.state().ending = true;
        self.desk.turned.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told where it was.
            drop(thread.join());
        }
    }
}

fn work(desk: &Desk, files: Option<&StateFiles>, config: &GatewayConfig) {
    let mut not_before = Instant::now();
    while let Some(pending) = desk.take(not_before) {
        let begin = Instant::now();
        write(pending, files, config);
        not_before = Instant::now() + begin.elapsed().saturating_mul(REST);
    }
}

/// The status goes first: who waits for the ready file or the counters may read it.
fn write(pending: Pending, files: Option<&StateFiles>, config: &GatewayConfig) {
    let Pending { status, stats, ready } = pending;
    if let Some(files) = files {
        if let Some((report, foreign)) = status {
            let path = files.status_path();
            warn_of(files.write_status(config, &report, &foreign), "status", &path);
        }
        if let Some(stats) = stats {
            warn_of(files.write_stats(&stats), "statistics", &files.stats_path());
        }
    }
    if let Some(path) = ready {
        let content = format!("{}\n", process::id());
        warn_of(write_atomically(&path, content.as_bytes()), "ready", &path);
    }
}

fn warn_of(result: io::Result<()>, what: &str, path: &Path) {
    if let Err(error) = result {
        tracing::warn!("the {what} file {} can't be written: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(instance: usize) -> Arc<StatusReport> {
        Arc::new(StatusReport { instance: instance.to_string(), ..StatusReport::default() })
    }

    fn instance(files: &StateFiles) -> String {
        files.read_status().expect("readable").expect("written").report.instance
    }

    #[test]
    fn what_came_last_is_there_once_it_was_waited_for_and_at_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = || StateFiles::open(dir.path()).expect("proc is mounted");
        let writer = StateWriter::start(Some(files()), GatewayConfig::default()).expect("a thread");
        for number in 0..100 {
            writer.status(report(number), Vec::new());
        }
        writer.flush();
        assert_eq!(instance(&files()), "99");
        for number in 100..200 {
            writer.status(report(number), Vec::new());
        }
        drop(writer);
        assert_eq!(instance(&files()), "199");
    }

    #[test]
    fn what_cannot_be_written_holds_nobody_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let blocked = dir.path().join("a-file");
        std::fs::write(&blocked, "").expect("written");
        let files = StateFiles::open(&blocked).expect("proc is mounted");
        let writer = StateWriter::start(Some(files), GatewayConfig::default()).expect("a thread");
        writer.status(report(1), Vec::new());
        writer.stats(Stats::default());
        let ready = dir.path().join("ready");
        writer.ready(ready.clone());
        writer.flush();
        assert!(ready.exists());
    }
}
