//! ipset over netlink: reads sets of a prefix, creates, fills and destroys sets.

mod client;
pub(crate) mod decode;
mod encode;
mod error;
mod protocol;

pub use client::IpsetClient;
