//! Packets through simulated hosts.

mod bench_host;
mod dnat;
