//! T13: with egress a Mapping's pods leave by the uplink of its first local address, from that address.

use smartnat::lab::{Direction, Packet};
use smartnat_core::model::{ClusterObject, ObjectKey, Protocol};
use smartnat_sim::scenario::{MappingBuilder, mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::{Arm, config};
use smartnat_tests::on_both_arms;

use super::common::{USUAL, at, echo_on, ip, switch_forwarding_on};

const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const CLIENT1: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
/// Where [`first`] leaves from.
const FIRST: [&str; 2] = ["198.51.100.11", "2001:db8:51::11"];
const SECOND: [&str; 2] = ["203.0.113.11", "2001:db8:113::11"];

fn leaving(name: &str, created: u64, [v4, v6]: [&str; 2]) -> MappingBuilder {
    let m = mapping(name).service("echo").created(created).address(v4).address(v6).egress(true);
    m.port(Protocol::Tcp, 1000, None, Some("http"))
}

fn first() -> Vec<ClusterObject> {
    vec![leaving("first", 1, FIRST).build()]
}

fn second() -> Vec<ClusterObject> {
    vec![leaving("second", 2, SECOND).build()]
}

on_both_arms!(pods_leave_with_the_external_address, |arms| {
    let mut arm = arms.build(&standard(StandardOptions { office: true }));
    let start = arm.start(config(), [echo_on(&[1]), first(), second()].concat());
    assert!(start.status.in_sync, "{:?}", start.events);
    let told = &start.status.mappings[&ObjectKey::new("default", "second")];
    assert!(told.remarks.iter().any(|r| r.contains("default/first")), "{told:?}");
    arm.serve("client1", "far", &[], &USUAL);
    arm.serve("router2", "router2", &[], &USUAL);
    for family in 0..2 {
        for (protocol, port) in USUAL {
            let to = at(CLIENT1[family], port);
            let outcome = arm.ask((protocol, "pod1", POD[family], to));
            let seen = outcome.answer().map(|a| a.seen_peer.ip());
            assert_eq!(seen, Some(ip(FIRST[family])), "{to} {protocol}: {outcome}");
            // A pod without egress does not get out of an uplink.
            let other = POD[family].replace("11", "12");
            let outcome = arm.ask_briefly((protocol, "pod2", &other, to));
            assert!(!outcome.is_answered(), "{to} {protocol}: {outcome}");
        }
    }
});

on_both_arms!(inside_the_cluster_nothing_changes, |arms| {
    let mut arm = arms.build(&standard(StandardOptions { office: true }));
    switch_forwarding_on(&mut arm);
    arm.add_route("gateway", "172.31.0.0/24", "10.244.1.254");
    arm.add_route("gateway", "fd00:31::/64", "fd00:244:1::fe");
    let start = arm.start(config(), [echo_on(&[1]), first()].concat());
    assert!(start.status.in_sync, "{:?}", start.events);
    arm.serve("office", "office", &[], &USUAL);
    for (family, office) in [addresses::OFFICE_V4, addresses::OFFICE_V6].into_iter().enumerate() {
        let outcome = arm.ask((Protocol::Tcp, "pod1", POD[family], at(office, 8080)));
        let seen = outcome.answer().map(|a| a.seen_peer.ip());
        assert_eq!(seen, Some(ip(POD[family])), "{outcome}");
    }
});

on_both_arms!(a_change_of_egress_ends_what_it_affects, |arms| {
    let objects = [echo_on(&[1]), first()].concat();
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), objects);
    arm.serve("client1", "far", &[], &USUAL);
    for family in 0..2 {
        arm.sync(first());
        let (from, to) = (at(POD[family], 0), at(CLIENT1[family], 8080));
        let mut open = arm.converse(Protocol::Tcp, "pod1", from, to);
        arm.sync(vec![leaving("first", 1, SECOND).build()]);
        let outcome = arm.ask_on_briefly(&mut open);
        assert!(!outcome.is_answered(), "the old address still serves");
    }
});

on_both_arms!(without_an_address_of_the_family_nothing_leaves_an_uplink, |arms| {
    let only_v4 = mapping("echo").address("198.51.100.11").egress(true).tcp(8080).build();
    let objects = [echo_on(&[1]), vec![only_v4]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    arm.serve("neighbour", "neighbour", &[], &USUAL);
    arm.assert_silence(&[(Protocol::Udp, "pod1", POD[1], at("2001:db8:51::77", 5353))]);
    assert_eq!(arm.deliveries("neighbour"), 0);
});

on_both_arms!(a_destination_on_the_other_uplinks_subnet_is_reached_by_the_own_uplink, |arms| {
    let objects = [echo_on(&[1]), first()].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    let [own, other] = ["ext1", "ext2"].map(|i| arm.watch("gateway", i));
    let of_other = ["203.0.113.1", "2001:db8:113::1"];
    for family in 0..2 {
        // Nobody is there on that way: it is the way that counts.
        let to = at(of_other[family], 5353);
        arm.ask_all_briefly(&[Protocol::Tcp, Protocol::Udp].map(|p| (p, "pod1", POD[family], to)));
        let leaves = |p: &Packet| p.direction == Direction::Out && p.destination == to.ip();
        let left = arm.seen(&own, leaves).expect("it leaves by its own uplink");
        assert_eq!(left.source, ip(FIRST[family]));
        let strays = |p: &Packet| p.direction == Direction::Out && p.source == ip(FIRST[family]);
        assert_eq!(arm.packets(&other).into_iter().find(strays), None);
    }
});

on_both_arms!(a_ping_leaves_as_other_traffic_does, |arms| {
    let objects = [echo_on(&[1]), first()].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    let seen = arm.watch("client1", "eth0");
    for (family, external) in FIRST.into_iter().enumerate() {
        let to = ip(CLIENT1[family]);
        let outcome = arm.ping("pod1", ip(POD[family]), to);
        assert!(outcome.is_answered(), "{to}: {outcome}");
        let from = arm.seen(&seen, |p| p.destination == to && p.direction == Direction::In);
        assert_eq!(from.map(|p| p.source), Some(ip(external)));
    }
});

on_both_arms!(when_the_oldest_mapping_goes_the_next_takes_its_pods, |arms| {
    let objects = [echo_on(&[1]), first(), second()].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    for client in ["client1", "client2"] {
        arm.serve(client, client, &[], &USUAL);
    }
    assert_leaves(&mut arm, CLIENT1, FIRST);
    let step = arm.sync(vec![without_mapping("first")]);
    let told = &step.status.mappings[&ObjectKey::new("default", "second")];
    assert_eq!(told.remarks, [""; 0]);
    assert_leaves(&mut arm, ["198.18.2.10", "2001:db8:18::10"], SECOND);
});

/// Pod 1 reaches these from this external address.
#[track_caller]
fn assert_leaves(arm: &mut impl Arm, to: [&str; 2], external: [&str; 2]) {
    for family in 0..2 {
        let outcome = arm.ask((Protocol::Tcp, "pod1", POD[family], at(to[family], 8080)));
        let seen = outcome.answer().map(|a| a.seen_peer.ip());
        assert_eq!(seen, Some(ip(external[family])), "{outcome}");
    }
}
