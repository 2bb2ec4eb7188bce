//! T11 return path, T12 hairpin, T13 egress.

use smartnat_core::model::{ClusterObject, Family, ObjectKey, Protocol};
use smartnat_core::objects::SysctlKey;
use smartnat_sim::scenario::{MappingBuilder, mapping};
use smartnat_sim::topology::{StandardOptions, addresses, shared_subnet, standard};
use smartnat_sim::walk::{Network, RequestOutcome};

use crate::rig::{
    FLAVOURS, Rig, SIDES, USUAL, at, config, echo_on, echo_service, first_network, ip,
};

fn on_all_sides(name: &str) -> MappingBuilder {
    SIDES.iter().fold(mapping(name), |m, side| m.address(side.external))
}

/// Replies from the external address went out on this interface and on no other.
#[track_caller]
fn assert_replied_by(rig: &Rig, uplink: &str, external: &str, client: &str) {
    let replies: Vec<_> = rig
        .network
        .carried()
        .filter(|c| c.from.0 == "gateway")
        .filter(|c| c.packet.source == ip(external) && c.packet.destination == ip(client))
        .collect();
    assert!(!replies.is_empty(), "{external} {client}");
    assert!(replies.iter().all(|c| c.from.1 == uplink), "{external} {client}: {replies:#?}");
}

#[test]
fn t11_one_pod_behind_two_uplinks_answers_through_each() {
    for masquerade in [true, false] {
        let all = on_all_sides("echo").tcp(8080).udp(5353).masquerade(masquerade);
        let objects = [echo_on(&[1]), vec![all.build()]].concat();
        let topology = standard(StandardOptions { office: true });
        let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
        rig.servers();
        for side in SIDES {
            rig.network.forget_carried();
            for (protocol, port) in USUAL {
                let to = at(side.external, port);
                let outcome = rig.ask(protocol, side.client, side.source, to);
                assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
            }
            assert_replied_by(&rig, side.uplink, side.external, side.source);
        }
    }
}

#[test]
fn t11_a_client_on_the_link_is_answered_directly() {
    let objects = [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).udp(5353).build()]].concat();
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.servers();
    for (from, to) in [("198.51.100.77", "198.51.100.10"), ("2001:db8:51::77", "2001:db8:51::10")] {
        for (protocol, port) in USUAL {
            rig.network.forget_carried();
            let outcome = rig.ask(protocol, "neighbour", from, at(to, port));
            assert_eq!(outcome.server(), Some("pod1"), "{to} {protocol}: {outcome}");
            let direct = |c: &smartnat_sim::walk::Carried| {
                c.to.as_ref().is_some_and(|(host, _)| host == "neighbour")
            };
            let replies = rig.network.carried().filter(|c| c.packet.source == ip(to));
            assert!(replies.into_iter().all(direct), "{to} {protocol}");
        }
    }
}

#[test]
fn t11_what_the_host_answers_itself_leaves_by_the_same_uplink() {
    let topology = standard(StandardOptions::default());
    let objects = vec![on_all_sides("nobody").tcp(8080).udp(5353).build()];
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    for side in SIDES {
        rig.network.forget_carried();
        let ping = rig.network.ping(side.client, ip(side.source), ip(side.external));
        assert!(ping.expect("all is understood").is_answered(), "{side:?}");
        for (protocol, port) in USUAL {
            let outcome = rig.ask(protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome, RequestOutcome::Refused, "{side:?} {protocol}");
        }
        assert_replied_by(&rig, side.uplink, side.external, side.source);
    }
}

#[test]
fn t11_an_endpoint_on_the_host_itself_is_served() {
    let service = echo_service().ready("10.244.1.1").ready("fd00:244:1::1");
    let objects =
        [service.build(), vec![on_all_sides("echo").tcp(8080).udp(5353).build()]].concat();
    let topology = standard(StandardOptions { office: true });
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.serve("gateway", "host", &["10.244.1.1", "fd00:244:1::1"], &USUAL);
    for side in SIDES {
        for (protocol, port) in USUAL {
            let outcome = rig.ask(protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome.server(), Some("host"), "{side:?} {protocol}: {outcome}");
        }
    }
}

#[test]
fn t11_uplinks_that_share_a_subnet_answer_each_by_itself() {
    for masquerade in [true, false] {
        let addresses = ["10.10.0.11", "10.10.0.12", "2001:db8:10::11", "2001:db8:10::12"];
        let all = addresses.iter().fold(mapping("echo"), |m, a| m.address(a));
        let all = all.tcp(8080).udp(5353).masquerade(masquerade);
        let objects = [echo_on(&[1]), vec![all.build()]].concat();
        let mut rig = Rig::start(&shared_subnet(), FLAVOURS[0], config(), objects);
        for pod in ["pod1", "pod2"] {
            rig.serve(pod, pod, &[], &USUAL);
        }
        let far = ("client1", "192.0.2.10", "2001:db8:2::10");
        // The node would answer its neighbour directly, past any gateway, if it saw its address.
        let near = masquerade.then_some(("neighbour", "10.10.0.77", "2001:db8:10::77"));
        for (client, v4, v6) in std::iter::once(far).chain(near) {
            for address in addresses {
                let from = if address.contains('.') { v4 } else { v6 };
                let uplink = if address.ends_with('1') { "ext1" } else { "ext2" };
                rig.network.forget_carried();
                for (protocol, port) in USUAL {
                    let outcome = rig.ask(protocol, client, from, at(address, port));
                    let what = format!("{client} {address} {protocol}: {outcome}");
                    assert_eq!(outcome.server(), Some("pod1"), "{what}");
                }
                assert_replied_by(&rig, uplink, address, from);
            }
        }
    }
}

#[test]
fn t12_pods_and_the_host_are_clients_and_always_masqueraded() {
    for egress in [false, true] {
        let on_first = |name: &str| {
            first_network().iter().fold(mapping(name).service("echo"), |m, s| m.address(s.external))
        };
        let by_name = |m: MappingBuilder, port| {
            m.port(Protocol::Tcp, port, None, Some("http")).port(
                Protocol::Udp,
                port,
                None,
                Some("dns"),
            )
        };
        let open = by_name(on_first("open").masquerade(false).egress(egress), 1000);
        let closed = first_network().iter().fold(on_first("closed"), |m, s| m.source(s.source));
        let empty = on_first("empty").service("empty").tcp(3000).udp(3000);
        let mappings = vec![open.build(), by_name(closed, 2000).build(), empty.build()];
        let topology = standard(StandardOptions { office: true });
        let objects = [echo_on(&[1]), mappings].concat();
        let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
        rig.servers();
        for side in first_network() {
            let v4 = side.external.contains('.');
            let (pod2, pod1, gateway) = if v4 {
                ("10.244.1.12", "10.244.1.11", addresses::GATEWAY_V4)
            } else {
                ("fd00:244:1::12", "fd00:244:1::11", addresses::GATEWAY_V6)
            };
            // Another pod, the serving pod itself, the host from both its sides.
            let clients =
                [("pod2", pod2), ("pod1", pod1), ("gateway", gateway), ("gateway", side.external)];
            for (client, from) in clients {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let served = rig.ask(protocol, client, from, at(side.external, 1000));
                    let seen = served.answer().map(|a| a.seen_peer.ip());
                    assert_eq!(seen, Some(ip(gateway)), "{client} {from} {protocol}: {served}");
                    let refused = rig.ask(protocol, client, from, at(side.external, 2000));
                    assert!(!refused.is_answered(), "{client} {from} {protocol}: {refused}");
                    let nobody = rig.ask(protocol, client, from, at(side.external, 3000));
                    // A datagram of the host itself is refused in the system call already.
                    let told =
                        matches!(nobody, RequestOutcome::Refused | RequestOutcome::NotSent(_));
                    assert!(told, "{client} {from} {protocol}: {nobody}");
                }
            }
        }
    }
}

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

#[test]
fn t13_pods_leave_with_the_external_address() {
    for flavour in FLAVOURS {
        let younger = leaving("second", 2, "203.0.113.11", "2001:db8:113::11").build();
        let objects = [echo_on(&[1]), first(), vec![younger]].concat();
        let topology = standard(StandardOptions { office: true });
        let mut rig = Rig::start(&topology, flavour, config(), objects);
        let told = &rig.status().mappings[&ObjectKey::new("default", "second")];
        assert!(told.remarks.iter().any(|r| r.contains("default/first")), "{told:?}");
        rig.serve("client1", "far", &[], &USUAL);
        let expected = ["198.51.100.11", "2001:db8:51::11"];
        for family in 0..2 {
            for (protocol, port) in USUAL {
                let to = at(CLIENT1[family], port);
                let outcome = rig.ask(protocol, "pod1", POD[family], to);
                let seen = outcome.answer().map(|a| a.seen_peer.ip());
                assert_eq!(seen, Some(ip(expected[family])), "{to} {protocol}: {outcome}");
                // A pod without egress does not get out of an uplink.
                let other = POD[family].replace("11", "12");
                let outcome = rig.ask(protocol, "pod2", &other, to);
                assert!(!outcome.is_answered(), "{to} {protocol}: {outcome}");
            }
        }
    }
}

#[test]
fn t13_inside_the_cluster_nothing_changes() {
    let topology = standard(StandardOptions { office: true });
    let mut network = Network::build(&topology, FLAVOURS[0], 7).expect("the network is built");
    let kernel = &mut network.host_mut("gateway").expect("the gateway").kernel;
    for family in Family::ALL {
        kernel.write_sysctl(&SysctlKey::Forwarding(family), "1").expect("a sysctl");
    }
    kernel.add_host_route("172.31.0.0/24", Some("10.244.1.254"), "eth0");
    kernel.add_host_route("fd00:31::/64", Some("fd00:244:1::fe"), "eth0");
    let objects = [echo_on(&[1]), first()].concat();
    let mut rig = Rig::start_in(network, FLAVOURS[0], config(), objects);
    rig.serve("office", "office", &[], &USUAL);
    for (family, office) in [addresses::OFFICE_V4, addresses::OFFICE_V6].into_iter().enumerate() {
        let outcome = rig.ask(Protocol::Tcp, "pod1", POD[family], at(office, 8080));
        let seen = outcome.answer().map(|a| a.seen_peer.ip());
        assert_eq!(seen, Some(ip(POD[family])), "{outcome}");
    }
}

#[test]
fn t13_a_change_of_egress_ends_what_it_affects() {
    let topology = standard(StandardOptions { office: true });
    let objects = [echo_on(&[1]), first()].concat();
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.serve("client1", "far", &[], &USUAL);
    for family in 0..2 {
        rig.sync(first());
        let leaving_connection =
            rig.connect(Protocol::Tcp, "pod1", POD[family], at(CLIENT1[family], 8080));
        assert!(rig.ask_on(&leaving_connection).is_answered());
        rig.sync(vec![leaving("first", 1, "203.0.113.11", "2001:db8:113::11").build()]);
        let outcome = rig.ask_on(&leaving_connection);
        assert!(!outcome.is_answered(), "the old address still serves");
    }
}

#[test]
fn t13_without_an_address_of_the_family_nothing_leaves_an_uplink() {
    let topology = standard(StandardOptions::default());
    let only_v4 = mapping("echo").address("198.51.100.11").egress(true).tcp(8080).build();
    let objects = [echo_on(&[1]), vec![only_v4]].concat();
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.serve("neighbour", "neighbour", &[], &USUAL);
    let outcome = rig.ask(Protocol::Udp, "pod1", POD[1], at("2001:db8:51::77", 5353));
    assert_eq!(outcome, RequestOutcome::TimedOut);
    assert_eq!(rig.network.deliveries("neighbour"), 0);
}
