//! Notifications of a running kernel.

mod common;

use std::future::Future;
use std::time::Duration;

use common::{add_uplink, in_namespace, sh};
use smartnat_linux::{ChangeWatch, Changes};

const HOST: Changes = Changes { host: true, kernel: false, nftables: false };
const KERNEL: Changes = Changes { host: false, kernel: true, nftables: false };
const NFTABLES: Changes = Changes { host: false, kernel: true, nftables: true };

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// What `command` makes the watch report, within 5 s.
fn after(watch: &mut ChangeWatch, command: &str) -> Changes {
    watch.pending().expect("drained");
    sh(command);
    let changed = async { tokio::time::timeout(Duration::from_secs(5), watch.changed()).await };
    block_on(changed).expect("a notification comes").expect("readable")
}

#[test]
fn changes_of_the_host_and_of_ours_are_told_apart() {
    in_namespace(|| {
        add_uplink();
        let mut watch = ChangeWatch::open(false).expect("subscribed");
        let w = &mut watch;
        assert_eq!(after(w, "ip addr add 192.0.2.7/24 dev eth1"), HOST);
        assert_eq!(after(w, "ip route add 10.7.0.0/16 via 192.0.2.1"), HOST);
        assert_eq!(after(w, "ip -6 route add fd00:7::/48 via 2001:db8::1"), HOST);
        for family in ["-4", "-6"] {
            let rule = format!("ip {family} rule add pref 20000 iif eth1 lookup main protocol 83");
            assert_eq!(after(w, &rule), KERNEL);
            let route = format!("ip {family} route add default dev eth1 table 7001 proto 83");
            assert_eq!(after(w, &route), KERNEL);
            let flush = format!("ip {family} route flush table 7001");
            assert_eq!(after(w, &flush), KERNEL);
        }
        // Before the link goes down, which the kernel goes on to tell of for a while.
        w.pending().expect("drained");
        sh("ip rule add pref 100 lookup main; ip route add default dev lo table 99");
        assert_eq!(w.pending().expect("readable"), Changes::default());
        assert_eq!(after(w, "ip link set eth1 down"), Changes::EVERYTHING);
    });
}

#[test]
fn tables_of_the_nft_flavour_are_watched_as_far_as_they_are_ours() {
    in_namespace(|| {
        let mut watch = ChangeWatch::open(true).expect("subscribed");
        let w = &mut watch;
        let changes = after(
            w,
            "iptables-nft -t nat -N SMARTNAT-TEST
             iptables-nft -t nat -A PREROUTING -j SMARTNAT-TEST",
        );
        assert_eq!(changes, NFTABLES);
        assert_eq!(after(w, "iptables-nft -t nat -D PREROUTING 1"), NFTABLES);
        assert_eq!(after(w, "ip6tables-nft -t nat -N SMARTNAT-TEST"), NFTABLES);
        assert_eq!(after(w, "nft flush ruleset"), NFTABLES);
        sh("iptables-nft -t nat -N OTHER; iptables-nft -t nat -A OTHER -j RETURN");
        assert_eq!(w.pending().expect("readable"), Changes::default());
    });
}

#[test]
fn a_dropped_wait_loses_nothing() {
    in_namespace(|| {
        let mut watch = ChangeWatch::open(false).expect("subscribed");
        let short = Duration::from_millis(20);
        let waited = block_on(async { tokio::time::timeout(short, watch.changed()).await });
        waited.expect_err("nothing happens");
        assert!(after(&mut watch, "ip link add eth1 type veth peer name far1").any());
    });
}

#[test]
fn lost_notifications_mean_that_everything_may_have_changed() {
    in_namespace(|| {
        let mut watch = ChangeWatch::open(false).expect("subscribed");
        // More than the queue holds, each of no concern.
        sh("i=0; while [ $i -lt 20000 ]; do \
            echo route add blackhole 10.$((i / 256)).$((i % 256)).0/24 table 99; \
            i=$((i + 1)); done | ip -batch -");
        assert_eq!(watch.pending().expect("readable"), Changes::EVERYTHING);
    });
}
