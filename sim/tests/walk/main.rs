//! Packets through simulated hosts.

mod connections;
mod contract;
mod host;
mod network;
mod rig;
mod router;
mod routing;
mod tables;
mod translation;
