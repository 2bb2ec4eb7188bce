//! The traffic contract T1–T18 on both iptables flavours and both families.
//!
//! A test is described once and runs on two arms, the simulated kernel and the Linux kernel, unless a
//! comment says why it is of Linux alone. Each builds its own network. Without root those on Linux
//! print "skipped"; `SMARTNAT_REQUIRE_PRIVILEGES=1` makes that a failure.

mod common;
mod defects;
mod hardening;
mod others_drop;
mod path_mtu;
mod rulesets;
mod scale;
mod sctp;
mod t01_forward;
mod t02_filter;
mod t03_guard;
mod t04_no_transit;
mod t05_ports;
mod t06_nobody_home;
mod t07_client_address;
mod t08_spread;
mod t09_draining;
mod t10_revoke;
mod t11_return_path;
mod t12_hairpin;
mod t13_egress;
mod t14_ours_only;
mod t15_restart;
mod t16_forwarding;
mod t17_repair;
mod t18_change;
mod topologies;
mod uplink_down;
mod witnesses;
