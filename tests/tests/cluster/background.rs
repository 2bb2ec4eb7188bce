//! What goes on beside the work of a test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Tells whoever works in the background that the test is done.
#[derive(Debug)]
pub(crate) struct End<'a>(&'a AtomicBool);

impl End<'_> {
    /// Whether it is.
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Sets a flag when it is dropped, by a panic too.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Works while `background` goes on, which has to end when it is told to.
pub(crate) fn meanwhile<T, U: Send>(
    background: impl FnOnce(End<'_>) -> U + Send,
    work: impl FnOnce() -> T,
) -> (U, T) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let set_at_end = SetAtEnd(&done);
        let beside = scope.spawn(|| background(End(&done)));
        let result = work();
        drop(set_at_end);
        match beside.join() {
            Ok(value) => (value, result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
