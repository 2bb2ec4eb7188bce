//! Our table of nftables, by netlink: one socket, kept open, no child process.

mod batch;
mod client;
pub(crate) mod decode;
mod encode;
mod error;
mod port;
mod protocol;
mod types;

pub use client::NftClient;
pub use port::OwnPort;
