//! The gateway's state machine on the simulated kernel's objects.

#[path = "../common/mod.rs"]
mod common;

mod clean_up;
mod connections;
mod contested;
mod crashes;
mod drift;
mod drift_nftables;
mod failures;
mod order;
mod proportion;
mod sync;
mod takeover;
mod wakeups;
