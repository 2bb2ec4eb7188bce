//! Our table of nftables, by netlink: one socket, kept open, no child process.

mod batch;
mod client;
mod counter;
pub(crate) mod decode;
mod encode;
mod error;
mod port;
mod protocol;
mod types;

pub use client::NftClient;
pub use counter::ElementCounter;
pub use port::OwnPort;
