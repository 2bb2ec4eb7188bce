//! T1 forward, T2 filter, T3 guard, T4 no transit, T5 ports, T6 nobody home, T7 client address.

use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_core::objects::SysctlKey;
use smartnat_sim::scenario::{MappingBuilder, mapping};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_sim::walk::{Network, RequestOutcome};

use crate::rig::{
    FLAVOURS, Rig, SIDES, USUAL, at, config, echo_on, echo_service, first_network, ip, pod,
};

fn on_all_sides(name: &str) -> MappingBuilder {
    SIDES.iter().fold(mapping(name), |m, side| m.address(side.external))
}

#[test]
fn t01_a_client_reaches_the_pod_by_tcp_udp_and_sctp() {
    let all = on_all_sides("echo").tcp(8080).udp(5353).port(Protocol::Sctp, 3868, None, None);
    let objects = [echo_on(&[1]), vec![all.build()]].concat();
    for flavour in FLAVOURS {
        let topology = standard(StandardOptions::default());
        let mut rig = Rig::start(&topology, flavour, config(), objects.clone());
        rig.servers();
        for side in SIDES {
            for (protocol, port) in USUAL.into_iter().chain([(Protocol::Sctp, 3868)]) {
                let outcome = rig.ask(protocol, side.client, side.source, at(side.external, port));
                assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
            }
        }
    }
}

#[test]
fn t02_a_refused_client_hears_nothing_and_the_host_neither() {
    let all = SIDES.iter().fold(on_all_sides("echo"), |m, s| m.source(s.source));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).udp(5353).build()]].concat();
    for flavour in FLAVOURS {
        // Without the guard, so that nothing else can drop what must be dropped here.
        let config = smartnat_core::model::GatewayConfig { guard: false, ..config() };
        let topology = standard(StandardOptions::default());
        let mut rig = Rig::start(&topology, flavour, config, objects.clone());
        rig.servers();
        rig.serve("gateway", "host", &[], &USUAL);
        for side in SIDES {
            for (protocol, port) in USUAL {
                let to = at(side.external, port);
                let allowed = rig.ask(protocol, side.client, side.source, to);
                assert_eq!(allowed.server(), Some("pod1"), "{side:?} {protocol}: {allowed}");
                let refused = rig.ask(protocol, side.client, side.refused, to);
                assert_eq!(refused, RequestOutcome::TimedOut, "{side:?} {protocol}");
            }
        }
        assert_eq!(rig.network.deliveries("host"), 0, "a socket of the host was reached");
    }
}

const MANAGEMENT: [(Protocol, u16); 2] = [(Protocol::Tcp, 22), (Protocol::Udp, 161)];

#[test]
fn t03_sockets_of_the_host_are_not_reachable_from_an_uplink() {
    for flavour in FLAVOURS {
        let topology = standard(StandardOptions::default());
        let mut rig = Rig::start(&topology, flavour, config(), Vec::new());
        // The routers lead even to the host's cluster-side address.
        for (router, v4, v6) in [
            ("router1", "198.51.100.10", "2001:db8:51::10"),
            ("router2", "203.0.113.10", "2001:db8:113::10"),
        ] {
            let kernel = &mut rig.network.host_mut(router).expect("a router").kernel;
            kernel.add_host_route("10.244.1.0/24", Some(v4), "outer");
            kernel.add_host_route("fd00:244:1::/64", Some(v6), "outer");
        }
        rig.serve("gateway", "host", &[], &MANAGEMENT);
        for side in SIDES {
            let v4 = side.external.contains('.');
            let inside = if v4 { addresses::GATEWAY_V4 } else { addresses::GATEWAY_V6 };
            for target in [side.external, inside] {
                for (protocol, port) in MANAGEMENT {
                    let outcome = rig.ask(protocol, side.client, side.source, at(target, port));
                    assert_eq!(outcome, RequestOutcome::TimedOut, "{side:?} {target} {protocol}");
                }
            }
            let ping = rig.network.ping(side.client, ip(side.source), ip(side.external));
            assert!(ping.expect("all is understood").is_answered(), "{side:?}");
        }
        assert_eq!(rig.network.deliveries("host"), 0, "a socket of the host was reached");
        // It can be turned off: then the same sockets answer, so it was the guard that held.
        rig.reconfigure(smartnat_core::model::GatewayConfig { guard: false, ..config() });
        for side in SIDES {
            let outcome = rig.ask(Protocol::Tcp, side.client, side.source, at(side.external, 22));
            assert_eq!(outcome.server(), Some("host"), "{side:?}: {outcome}");
        }
    }
}

#[test]
fn t03_what_the_host_opened_is_answered() {
    for flavour in FLAVOURS {
        let topology = standard(StandardOptions::default());
        let mut rig = Rig::start(&topology, flavour, config(), Vec::new());
        rig.serve("neighbour", "neighbour", &[], &USUAL);
        for (from, to) in
            [("198.51.100.10", "198.51.100.77"), ("2001:db8:51::10", "2001:db8:51::77")]
        {
            for (protocol, port) in USUAL {
                let outcome = rig.ask(protocol, "gateway", from, at(to, port));
                assert_eq!(outcome.server(), Some("neighbour"), "{to} {protocol}: {outcome}");
            }
        }
    }
}

#[test]
fn t03_a_mapping_is_served_through_the_guard() {
    let objects = [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.servers();
    for side in SIDES {
        let outcome = rig.ask(Protocol::Tcp, side.client, side.source, at(side.external, 8080));
        assert_eq!(outcome.server(), Some("pod1"), "{outcome}");
        let outcome = rig.ask(Protocol::Tcp, side.client, side.source, at(side.external, 8081));
        assert_eq!(outcome, RequestOutcome::TimedOut, "an unmapped port");
    }
}

const NEIGHBOUR: [&str; 2] = ["198.51.100.77", "2001:db8:51::77"];
const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const OTHER_ROUTER: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];

#[test]
fn t04_nobody_routes_into_the_cluster_or_across() {
    for forwarding in [false, true] {
        let topology = standard(StandardOptions::default());
        let mut network = Network::build(&topology, FLAVOURS[0], 7).expect("the network is built");
        let neighbour = &mut network.host_mut("neighbour").expect("a host").kernel;
        for (net, via) in [
            ("10.244.1.0/24", "198.51.100.10"),
            ("203.0.113.0/24", "198.51.100.10"),
            ("fd00:244:1::/64", "2001:db8:51::10"),
            ("2001:db8:113::/64", "2001:db8:51::10"),
        ] {
            neighbour.add_host_route(net, Some(via), "eth0");
        }
        network.serve("pod1", "pod1", &[], &USUAL).expect("a host");
        network.serve("router2", "router2", &[], &USUAL).expect("a host");
        if forwarding {
            switch_forwarding_on(&mut network);
            // The way is open before us, so that it is we who close it.
            let (from, to) = (Some(ip(NEIGHBOUR[0])), at(POD[0], 8080));
            let outcome = network.request("neighbour", from, Protocol::Tcp, to);
            assert_eq!(outcome.expect("all is understood").server(), Some("pod1"));
        }
        let mut rig = Rig::start_in(network, FLAVOURS[0], config(), Vec::new());
        for family in 0..2 {
            for target in [POD[family], OTHER_ROUTER[family]] {
                for (protocol, port) in USUAL {
                    let outcome =
                        rig.ask(protocol, "neighbour", NEIGHBOUR[family], at(target, port));
                    assert_eq!(outcome, RequestOutcome::TimedOut, "{target} {protocol}");
                }
            }
        }
    }
}

fn switch_forwarding_on(network: &mut Network) {
    let kernel = &mut network.host_mut("gateway").expect("the gateway").kernel;
    for family in Family::ALL {
        kernel.write_sysctl(&SysctlKey::Forwarding(family), "1").expect("a sysctl");
    }
}

#[test]
fn t04_a_pod_cannot_leave_an_uplink_with_its_own_address() {
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), Vec::new());
    rig.serve("neighbour", "neighbour", &[], &USUAL);
    let neighbour = &mut rig.network.host_mut("neighbour").expect("a host").kernel;
    neighbour.add_host_route("10.244.1.0/24", Some("198.51.100.10"), "eth0");
    neighbour.add_host_route("fd00:244:1::/64", Some("2001:db8:51::10"), "eth0");
    for family in 0..2 {
        for (protocol, port) in USUAL {
            let outcome = rig.ask(protocol, "pod1", POD[family], at(NEIGHBOUR[family], port));
            assert_eq!(outcome, RequestOutcome::TimedOut, "{protocol}");
        }
    }
    assert_eq!(rig.network.deliveries("neighbour"), 0);
}

#[test]
fn t04_where_we_switched_forwarding_on_nothing_else_is_forwarded() {
    let topology = standard(StandardOptions { office: true });
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), Vec::new());
    // Straight through the gateway's one cluster interface: from a pod to what the office routes.
    rig.serve("office", "office", &[], &USUAL);
    for (from, to) in [("10.244.1.11", "172.31.0.1"), ("fd00:244:1::11", "fd00:31::1")] {
        let outcome = rig.ask(Protocol::Udp, "pod1", from, at(to, 5353));
        assert_eq!(outcome, RequestOutcome::TimedOut, "{to}");
    }
}

#[test]
fn t05_ports_are_translated_by_number_by_name_and_by_range() {
    let service = echo_service()
        .port("media", Protocol::Udp, 6000, 7000)
        .ready(&pod(1, Family::V4))
        .ready(&pod(1, Family::V6));
    let ports = mapping("echo")
        .address("198.51.100.10")
        .address("2001:db8:51::10")
        .port(Protocol::Tcp, 80, None, None)
        .port(Protocol::Tcp, 8000, None, Some("http"))
        // Not shifted against the pod's 7000, and shifted.
        .port(Protocol::Udp, 7000, Some(7002), Some("6000"))
        .port(Protocol::Udp, 3000, Some(3002), Some("media"));
    let objects = [service.build(), vec![ports.build()]].concat();
    for flavour in FLAVOURS {
        let topology = standard(StandardOptions::default());
        let mut rig = Rig::start(&topology, flavour, config(), objects.clone());
        rig.servers();
        for side in first_network() {
            for (protocol, port) in [
                (Protocol::Tcp, 80),
                (Protocol::Tcp, 8000),
                (Protocol::Udp, 7000),
                (Protocol::Udp, 7001),
                (Protocol::Udp, 7002),
                (Protocol::Udp, 3000),
                (Protocol::Udp, 3002),
            ] {
                let to = at(side.external, port);
                let outcome = rig.ask(protocol, side.client, side.source, to);
                assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}/{port}: {outcome}");
            }
        }
    }
}

#[test]
fn t06_without_endpoints_or_service_a_reset_or_port_unreachable() {
    let objects = [
        echo_service().not_ready("10.244.1.11").not_ready("fd00:244:1::11").build(),
        vec![
            on_all_sides("echo").tcp(8080).udp(5353).build(),
            on_all_sides("missing").tcp(9000).udp(9000).build(),
        ],
    ]
    .concat();
    for flavour in FLAVOURS {
        let topology = standard(StandardOptions::default());
        let mut rig = Rig::start(&topology, flavour, config(), objects.clone());
        for side in SIDES {
            for (protocol, port) in
                USUAL.into_iter().chain([(Protocol::Tcp, 9000), (Protocol::Udp, 9000)])
            {
                let to = at(side.external, port);
                let outcome = rig.ask(protocol, side.client, side.source, to);
                assert_eq!(outcome, RequestOutcome::Refused, "{side:?} {protocol}/{port}");
            }
        }
    }
}

#[test]
fn t07_masquerade_per_gateway_and_per_mapping() {
    for of_gateway in [true, false] {
        let exposed =
            |name: &str, port: u16| {
                on_all_sides(name)
                    .service("echo")
                    .port(Protocol::Tcp, port, None, Some("http"))
                    .port(Protocol::Udp, port, None, Some("dns"))
            };
        let mappings: Vec<ClusterObject> = vec![
            exposed("default", 1000).build(),
            exposed("on", 1001).masquerade(true).build(),
            exposed("off", 1002).masquerade(false).build(),
        ];
        let config = smartnat_core::model::GatewayConfig { masquerade: of_gateway, ..config() };
        let topology = standard(StandardOptions::default());
        let objects = [echo_on(&[1]), mappings].concat();
        let mut rig = Rig::start(&topology, FLAVOURS[0], config, objects);
        rig.servers();
        for side in SIDES {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for (port, masquerade) in [(1000, of_gateway), (1001, true), (1002, false)] {
                    let to = at(side.external, port);
                    let outcome = rig.ask(protocol, side.client, side.source, to);
                    let gateway = match Family::of(&to.ip()) {
                        Family::V4 => addresses::GATEWAY_V4,
                        Family::V6 => addresses::GATEWAY_V6,
                    };
                    let expected = if masquerade { gateway } else { side.source };
                    let seen = outcome.answer().map(|a| a.seen_peer.ip());
                    assert_eq!(seen, Some(ip(expected)), "{side:?} {protocol}/{port}: {outcome}");
                }
            }
        }
    }
}
