//! T13: with egress a Mapping's pods leave by the uplink of its first local address, from that address.

use smartnat::lab::traffic::{self, BRIEF, Outcome, PATIENT, Server, open};
use smartnat::lab::{Direction, Packet, Sniffer};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{MappingBuilder, mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, ask_briefly, at, both_flavours, echo_on, ip};

const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const CLIENT1: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];

fn leaving(name: &str, created: u64, v4: &str, v6: &str) -> MappingBuilder {
    mapping(name).service("echo").created(created).address(v4).address(v6).egress(true).port(
        Protocol::Tcp,
        1000,
        None,
        Some("http"),
    )
}

fn first() -> Vec<ClusterObject> {
    vec![leaving("first", 1, "198.51.100.11", "2001:db8:51::11").build()]
}

both_flavours!(pods_leave_with_the_external_address, |flavour| {
    let topology = standard(StandardOptions { office: true });
    let younger = leaving("second", 2, "203.0.113.11", "2001:db8:113::11").build();
    let objects = [echo_on(&[1]), first(), vec![younger]].concat();
    let (rig, start) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(start.status.in_sync, "{:?}", start.events);
    let told = &start.status.mappings[&smartnat_core::model::ObjectKey::new("default", "second")];
    assert!(told.remarks.iter().any(|r| r.contains("default/first")), "{told:?}");
    let _far = Server::start(&rig.lab, "client1", &[8080], &[5353]).expect("a server");
    let _other = Server::start(&rig.lab, "router2", &[8080], &[5353]).expect("a server");
    let expected = ["198.51.100.11", "2001:db8:51::11"];
    for family in 0..2 {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let to = at(CLIENT1[family], port);
            let outcome = ask(&rig.lab, protocol, "pod1", POD[family], to);
            let seen = outcome.answer().map(|a| a.seen_peer.ip());
            assert_eq!(seen, Some(ip(expected[family])), "{to} {protocol}: {outcome}");
            // A pod without egress does not get out of an uplink.
            let outcome = ask_briefly(&rig.lab, protocol, "pod2", &pod2(family), to);
            assert!(!outcome.is_answered(), "{to} {protocol}: {outcome}");
        }
    }
});

fn pod2(family: usize) -> String {
    POD[family].replace("11", "12")
}

both_flavours!(inside_the_cluster_nothing_changes, |flavour| {
    let topology = standard(StandardOptions { office: true });
    let lab = smartnat::lab::Lab::build(&topology).expect("the lab is built");
    lab.set_sysctl("gateway", "net.ipv4.ip_forward", "1").expect("a sysctl");
    lab.set_sysctl("gateway", "net.ipv6.conf.all.forwarding", "1").expect("a sysctl");
    let routes = [
        ["ip", "route", "add", "172.31.0.0/24", "via", "10.244.1.254"],
        ["ip", "route", "add", "fd00:31::/64", "via", "fd00:244:1::fe"],
    ];
    for route in routes {
        lab.command("gateway", &route).expect("a route");
    }
    let objects = [echo_on(&[1]), first()].concat();
    let (rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects);
    let _office = Server::start(&rig.lab, "office", &[8080], &[5353]).expect("a server");
    for (family, office) in [addresses::OFFICE_V4, addresses::OFFICE_V6].into_iter().enumerate() {
        let outcome = ask(&rig.lab, Protocol::Tcp, "pod1", POD[family], at(office, 8080));
        let seen = outcome.answer().map(|a| a.seen_peer.ip());
        assert_eq!(seen, Some(ip(POD[family])), "{outcome}");
    }
});

both_flavours!(a_change_of_egress_ends_what_it_affects, |flavour| {
    let topology = standard(StandardOptions { office: true });
    let objects = [echo_on(&[1]), first()].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _far = Server::start(&rig.lab, "client1", &[8080], &[5353]).expect("a server");
    for family in 0..2 {
        rig.sync(first());
        let from = Some(at(POD[family], 0));
        let to = at(CLIENT1[family], 8080);
        let mut leaving_connection = open(&rig.lab, "pod1", Protocol::Tcp, from, to, PATIENT)
            .expect("the lab")
            .expect("a connection");
        assert!(leaving_connection.ask("1", PATIENT).is_answered());
        let moved = leaving("first", 1, "203.0.113.11", "2001:db8:113::11").build();
        rig.sync(vec![moved]);
        assert!(!leaving_connection.ask("2", BRIEF).is_answered(), "the old address still serves");
    }
});

both_flavours!(without_an_address_of_the_family_nothing_leaves_an_uplink, |flavour| {
    let topology = standard(StandardOptions::default());
    let only_v4 = mapping("echo").address("198.51.100.11").egress(true).tcp(8080).build();
    let objects = [echo_on(&[1]), vec![only_v4]].concat();
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let neighbour = Server::start(&rig.lab, "neighbour", &[8080], &[5353]).expect("a server");
    let to = at("2001:db8:51::77", 5353);
    let outcome = ask_briefly(&rig.lab, Protocol::Udp, "pod1", POD[1], to);
    assert_eq!(outcome, Outcome::TimedOut);
    assert_eq!(neighbour.requests(), 0, "{SIDES:?}");
});

both_flavours!(a_destination_on_the_other_uplinks_subnet_is_reached_by_the_own_uplink, |flavour| {
    let topology = standard(StandardOptions::default());
    let (rig, _) =
        Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), first()].concat());
    let [own, other] =
        ["ext1", "ext2"].map(|i| Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer"));
    let external = ["198.51.100.11", "2001:db8:51::11"];
    let of_other = ["203.0.113.1", "2001:db8:113::1"];
    for family in 0..2 {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // Nobody is there on that way: it is the way that counts.
            ask_briefly(&rig.lab, protocol, "pod1", POD[family], at(of_other[family], 5353));
        }
        let leaves =
            |p: &Packet| p.direction == Direction::Out && p.destination == ip(of_other[family]);
        let left = own.wait_for(PATIENT, leaves).expect("it leaves by its own uplink");
        assert_eq!(left.source, ip(external[family]));
        let strays =
            |p: &&Packet| p.direction == Direction::Out && p.source == ip(external[family]);
        assert_eq!(other.packets().iter().find(strays), None);
    }
});

both_flavours!(a_ping_leaves_as_other_traffic_does, |flavour| {
    let topology = standard(StandardOptions::default());
    let (rig, _) =
        Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), first()].concat());
    let seen = Sniffer::start(&rig.lab, "client1", "eth0").expect("a sniffer");
    for (family, external) in ["198.51.100.11", "2001:db8:51::11"].into_iter().enumerate() {
        let to = ip(CLIENT1[family]);
        let outcome = traffic::ping(&rig.lab, "pod1", Some(ip(POD[family])), to, 56, PATIENT);
        assert!(outcome.is_answered(), "{to}: {outcome}");
        let from = seen.wait_for(PATIENT, |p| p.destination == to && p.direction == Direction::In);
        assert_eq!(from.map(|p| p.source), Some(ip(external)));
    }
});

both_flavours!(when_the_oldest_mapping_goes_the_next_takes_its_pods, |flavour| {
    let topology = standard(StandardOptions::default());
    let younger = leaving("second", 2, "203.0.113.11", "2001:db8:113::11").build();
    let objects = [echo_on(&[1]), first(), vec![younger]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _far =
        ["client1", "client2"].map(|c| Server::start(&rig.lab, c, &[8080], &[]).expect("a server"));
    let leaves = |rig: &Rig, to: [&str; 2], external: [&str; 2]| {
        for family in 0..2 {
            let outcome = ask(&rig.lab, Protocol::Tcp, "pod1", POD[family], at(to[family], 8080));
            let seen = outcome.answer().map(|a| a.seen_peer.ip());
            assert_eq!(seen, Some(ip(external[family])), "{outcome}");
        }
    };
    leaves(&rig, CLIENT1, ["198.51.100.11", "2001:db8:51::11"]);
    let step = rig.sync(vec![without_mapping("first")]);
    let told = &step.status.mappings[&smartnat_core::model::ObjectKey::new("default", "second")];
    assert_eq!(told.remarks, [""; 0]);
    leaves(&rig, ["198.18.2.10", "2001:db8:18::10"], ["203.0.113.11", "2001:db8:113::11"]);
});
