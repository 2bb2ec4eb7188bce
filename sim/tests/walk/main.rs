//! Packets through simulated hosts.

mod connections;
mod contract;
mod host;
mod rig;
mod router;
mod routing;
mod tables;
mod translation;
