//! Packets through simulated hosts.

mod bench_host;
mod contract;
mod dnat;
mod rig;
