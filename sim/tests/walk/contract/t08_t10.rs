//! T8 spread, T9 draining, T10 revoke.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_core::objects::SysctlKey;
use smartnat_sim::scenario::{MappingBuilder, ServiceBuilder, mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_sim::walk::{Conversation, Network, Packet, Payload};

use crate::rig::{FLAVOURS, Rig, Side, at, config, echo_on, echo_service, first_network, pod};

/// Enough that an even spread over three stays within the bounds below; the seed is fixed.
const CONNECTIONS: usize = 150;

fn exposed(name: &str) -> MappingBuilder {
    first_network().iter().fold(mapping(name).service("echo"), |m, s| m.address(s.external))
}

#[test]
fn t08_connections_spread_over_all_ready_pods() {
    let objects = [echo_on(&[1, 2, 3]), vec![exposed("echo").tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.servers();
    for side in first_network() {
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..CONNECTIONS {
            let to = at(side.external, 8080);
            let outcome = rig.ask(Protocol::Tcp, side.client, side.source, to);
            *served.entry(outcome.server().expect("an answer").to_owned()).or_default() += 1;
        }
        assert_eq!(served.len(), 3, "{side:?}: {served:?}");
        assert!(served.values().all(|n| (30..=70).contains(n)), "{side:?}: {served:?}");
    }
}

#[test]
fn t08_a_client_with_affinity_stays_with_its_pod_until_its_time_is_over() {
    let service = (1..=3).fold(echo_service().affinity(600), |s, n| {
        s.ready(&pod(n, Family::V4)).ready(&pod(n, Family::V6))
    });
    let objects = [service.build(), vec![exposed("echo").tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects);
    rig.servers();
    for side in first_network() {
        let serve = |rig: &mut Rig| {
            let to = at(side.external, 8080);
            let outcome = rig.ask(Protocol::Tcp, side.client, side.source, to);
            outcome.server().expect("an answer").to_owned()
        };
        let first = serve(&mut rig);
        for _ in 0..20 {
            assert_eq!(serve(&mut rig), first, "{side:?}");
        }
        // Each connection renews it; 599 s later it still holds, 601 s after that chance decides.
        rig.network.advance(599_000);
        assert_eq!(serve(&mut rig), first, "{side:?}");
        let mut others = 0;
        for _ in 0..20 {
            rig.network.advance(601_000);
            others += usize::from(serve(&mut rig) != first);
        }
        assert!(others > 5, "{side:?}: {others} of 20");
    }
}

/// Pod 1 and 2 in both families, each by a step of the builder.
fn echo(
    one: fn(ServiceBuilder, &str) -> ServiceBuilder,
    two: fn(ServiceBuilder, &str) -> ServiceBuilder,
) -> Vec<ClusterObject> {
    Family::ALL.into_iter().fold(echo_service(), |s, f| two(one(s, &pod(1, f)), &pod(2, f))).build()
}

#[test]
fn t09_a_draining_pod_serves_only_when_no_ready_one_is_left() {
    let objects = [
        echo(ServiceBuilder::ready, ServiceBuilder::draining),
        vec![exposed("echo").tcp(8080).udp(5353).build()],
    ];
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects.concat());
    rig.servers();
    let expect = |rig: &mut Rig, server: &str| {
        for side in first_network() {
            for _ in 0..10 {
                let to = at(side.external, 8080);
                let outcome = rig.ask(Protocol::Tcp, side.client, side.source, to);
                assert_eq!(outcome.server(), Some(server), "{side:?}: {outcome}");
            }
        }
    };
    expect(&mut rig, "pod1");
    rig.sync(echo(ServiceBuilder::not_ready, ServiceBuilder::draining));
    expect(&mut rig, "pod2");
}

#[test]
fn t09_connections_of_a_pod_that_is_not_ready_live_on_by_protocol() {
    let objects = [
        echo(ServiceBuilder::ready, ServiceBuilder::not_ready),
        vec![exposed("echo").tcp(8080).udp(5353).build()],
    ];
    let topology = standard(StandardOptions::default());
    let mut rig = Rig::start(&topology, FLAVOURS[0], config(), objects.concat());
    rig.servers();
    for side in first_network() {
        rig.sync(echo(ServiceBuilder::ready, ServiceBuilder::not_ready));
        let [tcp, udp] = [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)]
            .map(|(p, port)| rig.connect(p, side.client, side.source, at(side.external, port)));
        assert_eq!(rig.ask_on(&tcp).server(), Some("pod1"));
        assert_eq!(rig.ask_on(&udp).server(), Some("pod1"));

        // Still serving: both live on, although new connections go elsewhere.
        rig.sync(echo(ServiceBuilder::draining, ServiceBuilder::ready));
        assert_eq!(rig.ask_on(&tcp).server(), Some("pod1"));
        assert_eq!(rig.ask_on(&udp).server(), Some("pod1"));

        // Not serving: TCP lives on, UDP finds another pod.
        rig.sync(echo(ServiceBuilder::not_ready, ServiceBuilder::ready));
        assert_eq!(rig.ask_on(&tcp).server(), Some("pod1"));
        assert_eq!(rig.ask_on(&udp).server(), Some("pod2"));

        // Not listed: TCP ends too.
        rig.sync(Family::ALL.into_iter().fold(echo_service(), |s, f| s.ready(&pod(2, f))).build());
        assert!(!rig.ask_on(&tcp).is_answered());
    }
}

fn by_ports(name: &str, tcp: u16, udp: u16) -> MappingBuilder {
    exposed(name).port(Protocol::Tcp, tcp, None, Some("http")).port(
        Protocol::Udp,
        udp,
        None,
        Some("dns"),
    )
}

/// TCP and UDP conversations of one client with one Mapping.
#[track_caller]
fn converse(rig: &mut Rig, side: Side, tcp: u16, udp: u16) -> [Conversation; 2] {
    [(Protocol::Tcp, tcp), (Protocol::Udp, udp)].map(|(protocol, port)| {
        let opened = rig.connect(protocol, side.client, side.source, at(side.external, port));
        let outcome = rig.ask_on(&opened);
        assert!(outcome.is_answered(), "{side:?} {protocol}: {outcome}");
        opened
    })
}

#[track_caller]
fn assert_alive(rig: &mut Rig, conversations: &[Conversation], alive: bool, why: &str) {
    for conversation in conversations {
        let outcome = rig.ask_on(conversation);
        assert_eq!(outcome.is_answered(), alive, "{why}: {outcome}");
    }
}

/// What a withdrawal does to the Mapping `a`; `b` is beside it on the same addresses and pod.
fn withdrawals() -> Vec<(&'static str, Vec<ClusterObject>)> {
    let elsewhere = mapping("a").service("echo").address("198.51.100.11");
    vec![
        ("the Mapping", vec![without_mapping("a")]),
        ("its addresses", vec![elsewhere.port(Protocol::Tcp, 4000, None, Some("http")).build()]),
        ("its source", vec![by_ports("a", 1000, 1000).source("203.0.113.99").build()]),
        ("its ports", vec![by_ports("a", 4000, 4000).build()]),
    ]
}

#[test]
fn t10_a_withdrawn_mapping_address_source_or_port_ends_its_connections_only() {
    let topology = standard(StandardOptions::default());
    for masquerade in [true, false] {
        let before = || {
            let both = [by_ports("a", 1000, 1000), by_ports("b", 2000, 2000)];
            [echo_on(&[1]), both.map(|m| m.masquerade(masquerade).build()).to_vec()].concat()
        };
        let mut rig = Rig::start(&topology, FLAVOURS[0], config(), before());
        rig.servers();
        for (what, change) in withdrawals() {
            rig.sync(before());
            for side in first_network() {
                let a = converse(&mut rig, side, 1000, 1000);
                let b = converse(&mut rig, side, 2000, 2000);
                rig.sync(change.clone());
                assert_alive(&mut rig, &a, false, what);
                assert_alive(&mut rig, &b, true, what);
                rig.sync(before());
            }
        }
    }
}

#[test]
fn t10_a_pod_that_is_no_longer_listed_ends_and_nothing_escapes() {
    let topology = standard(StandardOptions { office: true });
    let mut network = Network::build(&topology, FLAVOURS[0], 7).expect("the network is built");
    // Forwarding was on before us: nothing but our own care keeps packets from leaving by eth0.
    let kernel = &mut network.host_mut("gateway").expect("the gateway").kernel;
    for family in Family::ALL {
        kernel.write_sysctl(&SysctlKey::Forwarding(family), "1").expect("a sysctl");
    }
    let objects =
        [echo_on(&[1]), vec![by_ports("a", 1000, 1000).masquerade(false).build()]].concat();
    let mut rig = Rig::start_in(network, FLAVOURS[0], config(), objects);
    rig.servers();
    for side in first_network() {
        rig.sync(echo_on(&[1]));
        let a = converse(&mut rig, side, 1000, 1000);
        let client = a[1].local();
        rig.network.forget_carried();
        rig.sync(echo_service().build());
        assert_alive(&mut rig, &a, false, "scaled to zero");
        // The pod goes on to send on the ended flow, as a stream would.
        let from = SocketAddr::new(pod(1, Family::of(&client.ip())).parse().expect("a pod"), 5353);
        let payload = Payload::Udp { source: from.port(), destination: client.port() };
        let late = Packet::new(from.ip(), client.ip(), payload);
        rig.network.send("pod1", late).expect("all is understood");
        let escaped = rig.network.carried().find(|c| {
            c.from.0 == "gateway"
                && c.packet.destination == client.ip()
                && c.packet.source == from.ip()
        });
        assert_eq!(escaped, None, "{side:?}");
    }
}
