//! The packet walk: what the kernel's objects do to a packet.
//!
//! A [`SimHost`] is a kernel with sockets. A packet enters one of its interfaces or is sent by
//! a local process, and goes through connection tracking, the tables of iptables and nftables, policy routing,
//! forwarding or delivery as the Linux kernel does it; the result is a [`Trace`]. What the
//! simulation does not understand it refuses with a [`Refusal`]: it never assumes.
//!
//! Not modelled, and without influence here: fragments, sequence numbers, checksums, sizes of
//! links, ICMP redirects and rate limits, neighbour discovery (a next hop is found by its address).

mod address;
mod answer;
mod deliver;
mod hooks;
mod host;
mod matches;
mod nat;
mod network;
mod nft;
mod packet;
mod path;
mod random;
mod refusal;
mod route;
mod sockets;
mod tables;
mod trace;
mod track;

pub use host::{Detail, SimHost};
pub use network::{Answer, Carried, Conversation, Network, NetworkError, RequestOutcome};
pub use packet::{Icmp, IcmpError, Packet, Payload, Quoted, SctpChunk, TcpFlags};
pub use random::Random;
pub use refusal::Refusal;
pub use sockets::{Connection, ConnectionState, Sockets};
pub use trace::{
    Decision, DropCause, Membership, NftAction, Outcome, Receiver, Relation, RulePlace, RuleTable,
    Step, Trace,
};
