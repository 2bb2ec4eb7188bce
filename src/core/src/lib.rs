//! The pure state machine of `SmartNat`.
//!
//! A [`model::Snapshot`] of the cluster and the host goes in; typed kernel
//! operations ([`ops::NetworkOp`]) and status come out. Nothing here reads a
//! clock, a file or a socket, so a simulated kernel, a fuzzer and the Linux
//! kernel all run the same decisions.

pub mod admit;
pub mod compile;
pub mod coordination;
pub mod dataplane;
pub mod diff;
pub mod explain;
pub mod flows;
pub mod gateway;
pub mod lint;
pub mod lower;
pub mod marks;
pub mod model;
pub mod names;
pub mod nft_text;
pub mod objects;
pub mod ops;
mod packed;
pub mod resolve;
pub mod status;
pub mod xtables_text;
