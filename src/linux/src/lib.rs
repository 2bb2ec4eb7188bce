//! Executes the core's operations on the running Linux kernel and reads it back.
//!
//! Everything here acts on the network namespace of the calling thread, so one process
//! can serve several namespaces from one thread each. [`LinuxKernel`] is the whole;
//! the modules are its parts.

mod command;
pub mod conntrack;
pub mod fuzz_targets;
pub mod host;
pub mod ipset;
pub mod kernel;
mod lock;
mod namespace;
pub mod netlink;
pub mod nft;
pub mod predecessor;
mod privilege;
pub mod routing;
pub mod survey;
pub mod sysctl;
pub mod watch;
pub mod xtables;

pub use conntrack::{ConntrackClient, FlowCount, FlowCounters};
pub use host::observe_host;
pub use kernel::{LinuxKernel, LinuxOptions, OpenError, RecordError, StateDir};
pub use lock::{InstanceLock, LockError};
pub use namespace::NetworkNamespace;
pub use nft::{ElementCounter, NftClient, OwnPort};
pub use privilege::is_privileged;
pub use routing::Routing;
pub use watch::{ChangeWatch, Changes};
pub use xtables::{Flavour, RuleCounter, Xtables, XtablesError, XtablesSettings};
