//! Packets through simulated hosts.

mod connections;
mod host;
mod network;
mod nftables;
mod router;
mod routing;
mod tables;
mod translation;
