//! Servers and clients inside a lab. Everything ends by itself within a bounded time.
//!
//! A server answers each request (a line over TCP, a datagram over UDP) with its name, the
//! peer that it saw and the request itself, so that one answer tells where a connection went
//! and what happened to its addresses on the way.

mod client;
mod counters;
mod outcome;
mod ping;
mod server;
mod stream;

use std::time::Duration;

pub use client::{Conversation, ask_udp, connect_tcp, open};
pub use counters::retransmissions;
pub use outcome::{Answer, Outcome};
pub use ping::ping;
pub use server::Server;
pub use stream::{Stream, StreamKind, StreamReport};

/// For what should be answered: a busy machine gets its time.
pub const PATIENT: Duration = Duration::from_secs(5);

/// For what should not be answered: long against a round trip, short against a human.
pub const BRIEF: Duration = Duration::from_millis(400);
