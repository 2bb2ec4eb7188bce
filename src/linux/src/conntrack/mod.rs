//! Conntrack entries over netlink: lists those with a mark, deletes single ones.

mod client;
pub(crate) mod decode;
mod encode;
mod protocol;

pub use client::ConntrackClient;
pub use decode::{FlowCount, FlowCounters};
