//! T11, T3: path-MTU errors in both directions find whom they concern, without any default route in
//! main. On Linux alone: simulated links take packets of any size.

use smartnat::lab::traffic::{BRIEF, PATIENT, Server};
use smartnat::lab::{Direction, Lab, Packet, Sniffer, Transport};
use smartnat_core::model::{Family, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions, Ruleset};

use super::common::{SIDES, Side, at, conversation, echo_on, ip, pod, servers};
use super::rulesets::all_rulesets;

/// A request that fits no link of 1400 octets.
const LONG: usize = 1420;

/// A request that fits a link of 1400 octets, while its answer, which repeats it, does not.
fn long_answer(side: Side) -> usize {
    if side.source.contains('.') { 1370 } else { 1350 }
}

fn rig(ruleset: Ruleset, masquerade: bool) -> Rig {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external)).tcp(8080).udp(5353);
    let objects = [echo_on(&[1]), vec![all.masquerade(masquerade).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(ruleset), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    rig
}

/// Makes a link small, at all its ends: they drop what they receive beyond it.
fn shrink(lab: &Lab, ends: &[(&str, &str)]) {
    for (host, interface) in ends {
        lab.command(host, &["ip", "link", "set", interface, "mtu", "1400"]).expect("an MTU");
    }
}

/// "Fragmentation needed", "packet too big".
fn too_big(packet: &Packet) -> bool {
    let kinds = [Transport::Icmp { kind: 3, code: 4 }, Transport::Icmp { kind: 2, code: 0 }];
    kinds.contains(&packet.transport)
}

/// A datagram that does not fit on its way, or whose answer does not, is lost with an error to its
/// sender; the next one arrives in pieces.
fn assert_datagrams_adapt(lab: &Lab, side: Side, length: usize) {
    // With masquerade the pod has learned it of the same peer, for another client.
    for family in ["-4", "-6"] {
        lab.command("pod1", &["ip", family, "route", "flush", "cache"])
            .expect("routes are forgotten");
    }
    let mut opened =
        conversation(lab, Protocol::Udp, side.client, at(side.source, 0), at(side.external, 5353));
    let first = opened.ask(&"x".repeat(length), BRIEF);
    assert!(!first.is_answered(), "{side:?}: {first}");
    let second = opened.ask(&"y".repeat(length), PATIENT);
    assert_eq!(second.server(), Some("pod1"), "{side:?}: {second}");
}

fn assert_segments_adapt(lab: &Lab, side: Side) {
    let mut opened =
        conversation(lab, Protocol::Tcp, side.client, at(side.source, 0), at(side.external, 8080));
    let outcome = opened.ask(&"z".repeat(4000), PATIENT);
    assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
}

all_rulesets!(a_client_learns_of_a_small_link_to_the_pods, |ruleset| {
    for masquerade in [true, false] {
        let rig = rig(ruleset, masquerade);
        let _servers = servers(&rig.lab);
        let pods = ["pod1", "pod2", "pod3"].map(|p| (p, "eth0"));
        shrink(&rig.lab, &[&[("gateway", "eth0")][..], &pods].concat());
        for side in SIDES {
            let told = Sniffer::start(&rig.lab, "gateway", side.uplink).expect("a sniffer");
            assert_datagrams_adapt(&rig.lab, side, LONG);
            assert_segments_adapt(&rig.lab, side);
            let error = told.wait_for(PATIENT, too_big).expect("the client is told");
            let (way, to) = (error.direction, error.destination);
            assert_eq!((way, to), (Direction::Out, ip(side.source)), "{side:?}");
            assert!(rig.lab.addresses("gateway").contains(&error.source), "{side:?}: {error}");
        }
    }
});

all_rulesets!(a_pod_learns_of_a_small_uplink, |ruleset| {
    for masquerade in [true, false] {
        let rig = rig(ruleset, masquerade);
        let _servers = servers(&rig.lab);
        let uplinks =
            [("gateway", "ext1"), ("router1", "outer"), ("gateway", "ext2"), ("router2", "outer")];
        shrink(&rig.lab, &uplinks);
        for side in SIDES {
            let told = Sniffer::start(&rig.lab, "pod1", "eth0").expect("a sniffer");
            assert_datagrams_adapt(&rig.lab, side, long_answer(side));
            assert_segments_adapt(&rig.lab, side);
            let error = told.wait_for(PATIENT, too_big).expect("the pod is told");
            let pod = pod(1, Family::of(&ip(side.source)));
            assert_eq!((error.direction, error.destination), (Direction::In, ip(&pod)), "{side:?}");
        }
    }
});

all_rulesets!(a_pod_learns_of_a_small_link_far_away, |ruleset| {
    for masquerade in [true, false] {
        let rig = rig(ruleset, masquerade);
        let _servers = servers(&rig.lab);
        let far =
            [("client1", "eth0"), ("router1", "inner"), ("client2", "eth0"), ("router2", "inner")];
        shrink(&rig.lab, &far);
        for side in SIDES {
            // The router's error reaches the external address, through the guard.
            assert_datagrams_adapt(&rig.lab, side, long_answer(side));
            assert_segments_adapt(&rig.lab, side);
        }
    }
});

all_rulesets!(the_host_itself_learns_of_a_small_link_far_away, |ruleset| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    for (net, via) in [("192.0.2.0/24", "198.51.100.1"), ("2001:db8:2::/64", "2001:db8:51::1")] {
        lab.command("gateway", &["ip", "route", "add", net, "via", via]).expect("a route");
    }
    shrink(&lab, &[("client1", "eth0"), ("router1", "inner")]);
    let (rig, first) = Rig::start_in(lab, RigOptions::new(ruleset), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    let _far = Server::start(&rig.lab, "client1", &[], &[5353]).expect("a server");
    for (from, to) in [("198.51.100.10", "192.0.2.10"), ("2001:db8:51::10", "2001:db8:2::10")] {
        let mut opened =
            conversation(&rig.lab, Protocol::Udp, "gateway", at(from, 0), at(to, 5353));
        let first = opened.ask(&"x".repeat(LONG), BRIEF);
        assert!(!first.is_answered(), "{to}: {first}");
        let second = opened.ask(&"y".repeat(LONG), PATIENT);
        assert_eq!(second.server(), Some("client1"), "{to}: {second}");
    }
});
