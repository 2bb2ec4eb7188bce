//! One network namespace, and threads inside it.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread::JoinHandle;

use netns_rs::NetNs;

use super::LabError;

/// A named network namespace. Dropping it closes the file only; the registry removes the name.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    netns: NetNs,
}

impl Namespace {
    pub(super) fn create(name: &str) -> Result<Self, LabError> {
        let netns = NetNs::new(name).map_err(|e| LabError::Namespace(name.into(), e))?;
        Ok(Self { name: name.into(), netns })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        self.netns.path().to_owned()
    }

    /// Runs `work` on a thread of its own: a panic must not leave a thread that goes on in here.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(self.name.clone());
            let handle = thread
                .spawn_scoped(scope, || self.netns.enter().map(|()| work()))
                .map_err(LabError::Thread)?;
            let entered = handle.join().unwrap_or_else(|panic| resume_unwind(panic));
            entered.map_err(|e| LabError::Namespace(self.name.clone(), e))
        })
    }

    /// Starts `work` on a thread inside this namespace: threads inherit it from their creator.
    pub(super) fn spawn_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        let thread = std::thread::Builder::new().name(self.name.clone());
        self.run(|| thread.spawn(work))?.map_err(LabError::Thread)
    }
}
