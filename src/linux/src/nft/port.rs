//! Who changed something, as notifications tell it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The address of our client's socket (`nlmsg_pid`), shared with whoever watches notifications,
/// possibly before there is a client. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct OwnPort(Arc<AtomicU32>);

impl OwnPort {
    /// From now on it is this client's.
    pub fn set(&self, port: u32) {
        self.0.store(port, Ordering::Relaxed);
    }

    /// Whether a notification's sender is our client; nobody is as long as there is none.
    pub(crate) fn is(&self, port: u32) -> bool {
        // The kernel's own is 0.
        port != 0 && self.0.load(Ordering::Relaxed) == port
    }
}
