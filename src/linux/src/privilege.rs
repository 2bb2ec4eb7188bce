//! Whether this process may change the network.

use rustix::thread::CapabilitySet;

/// Whether the calling thread has `CAP_NET_ADMIN` in its user namespace.
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}
