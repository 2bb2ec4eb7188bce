//! The program `smartnat` as its user starts it, on real packets in throw-away namespaces.
//!
//! Each test builds its own lab and waits for what it is about: a file, a line of the log, an
//! answer. Without root they print "skipped"; `SMARTNAT_REQUIRE_PRIVILEGES=1` makes that a failure.

#[allow(dead_code, unused_imports, reason = "these tests need some of the words of the contract's")]
#[path = "../contract/common.rs"]
mod common;
mod manifests;
mod station;

mod b01_go_manifests;
mod b02_plan;
mod b03_restart;
mod b04_edits;
mod b05_repair;
mod b06_cleanup;
mod b07_scale;
mod b08_bad_input;
mod b09_commands;
mod b10_signals;
mod b11_host_changes;
mod b12_foreign;
mod b13_explain;
mod b14_monitor;
mod b15_nftables;
mod b16_backend_change;
mod b17_in_the_way;
