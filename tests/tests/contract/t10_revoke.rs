//! T10: what is withdrawn ends within the same sync, only that, and nothing escapes untranslated.

use std::net::SocketAddr;

use smartnat::lab::Sniffer;
use smartnat::lab::traffic::{BRIEF, Conversation, PATIENT, open};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{MappingBuilder, mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{Side, at, both_flavours, echo_on, echo_service, first_network, ip, servers};

fn exposed(name: &str, tcp: u16, udp: u16) -> MappingBuilder {
    let m =
        first_network().iter().fold(mapping(name).service("echo"), |m, s| m.address(s.external));
    m.port(Protocol::Tcp, tcp, None, Some("http")).port(Protocol::Udp, udp, None, Some("dns"))
}

/// TCP and UDP conversations of one client with one Mapping.
fn converse(rig: &Rig, side: Side, from: &str, tcp: u16, udp: u16) -> [Conversation; 2] {
    [(Protocol::Tcp, tcp), (Protocol::Udp, udp)].map(|(protocol, port)| {
        let from = Some(SocketAddr::new(ip(from), 0));
        let to = at(side.external, port);
        let mut opened = open(&rig.lab, side.client, protocol, from, to, PATIENT)
            .expect("the lab")
            .expect("a connection");
        let outcome = opened.ask("hello", PATIENT);
        assert!(outcome.is_answered(), "{side:?} {protocol}: {outcome}");
        opened
    })
}

fn assert_lives(conversations: &mut [Conversation], why: &str) {
    for c in conversations {
        let outcome = c.ask("again", PATIENT);
        assert!(outcome.is_answered(), "{why}: {outcome}");
    }
}

fn assert_ended(conversations: &mut [Conversation], why: &str) {
    for c in conversations {
        let outcome = c.ask("again", BRIEF);
        assert!(!outcome.is_answered(), "{why}: {outcome}");
    }
}

/// What a withdrawal does to the Mapping `a`; `b` is beside it on the same addresses and pod.
fn withdrawals() -> Vec<(&'static str, Vec<ClusterObject>)> {
    let tcp_only = |m: MappingBuilder| m.port(Protocol::Tcp, 4000, None, Some("http"));
    let elsewhere = tcp_only(mapping("a").service("echo").address("198.51.100.11"));
    vec![
        ("the Mapping", vec![without_mapping("a")]),
        ("its addresses", vec![elsewhere.build()]),
        ("its source", vec![exposed("a", 1000, 1000).source("203.0.113.99").build()]),
        ("its ports", vec![exposed("a", 4000, 4000).build()]),
    ]
}

both_flavours!(a_withdrawn_mapping_address_source_or_port_ends_its_connections_only, |flavour| {
    let topology = standard(StandardOptions::default());
    for masquerade in [true, false] {
        let before = || {
            let both = [exposed("a", 1000, 1000), exposed("b", 2000, 2000)];
            [echo_on(&[1]), both.map(|m| m.masquerade(masquerade).build()).to_vec()].concat()
        };
        let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), before());
        let _servers = servers(&rig.lab);
        for (what, change) in withdrawals() {
            rig.sync(before());
            for side in first_network() {
                let mut a = converse(&rig, side, side.source, 1000, 1000);
                let mut b = converse(&rig, side, side.source, 2000, 2000);
                rig.sync(change.clone());
                assert_ended(&mut a, what);
                assert_lives(&mut b, what);
                rig.sync(before());
            }
        }
    }
});

both_flavours!(a_pod_that_is_no_longer_listed_ends_and_nothing_escapes, |flavour| {
    let topology = standard(StandardOptions { office: true });
    let lab = smartnat::lab::Lab::build(&topology).expect("the lab is built");
    // Forwarding was on before us: nothing but our own care keeps packets from leaving by eth0.
    lab.set_sysctl("gateway", "net.ipv4.ip_forward", "1").expect("a sysctl");
    lab.set_sysctl("gateway", "net.ipv6.conf.all.forwarding", "1").expect("a sysctl");
    let objects =
        [echo_on(&[1]), vec![exposed("a", 1000, 1000).masquerade(false).build()]].concat();
    let (mut rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects);
    for side in first_network() {
        let servers = servers(&rig.lab);
        rig.sync(echo_on(&[1]));
        let mut a = converse(&rig, side, side.source, 1000, 1000);
        let client = a[1].local();
        let sniffer = Sniffer::start(&rig.lab, "office", "eth0").expect("a sniffer");
        rig.sync(echo_service().build());
        assert_ended(&mut a, "scaled to zero");
        // The pod goes on to send on the ended flow, as a stream would.
        drop(servers);
        let pod = rig.lab.addresses("pod1").into_iter().find(|p| p.is_ipv4() == client.is_ipv4());
        let from = SocketAddr::new(pod.expect("a pod"), 5353);
        send_late(&rig, from, client);
        let escaped = sniffer.wait_for(BRIEF, |p| p.destination == client.ip());
        assert_eq!(escaped, None, "{side:?}");
    }
});

/// Sends one datagram from the pod's service port.
fn send_late(rig: &Rig, from: SocketAddr, to: SocketAddr) {
    rig.lab
        .run("pod1", || std::net::UdpSocket::bind(from)?.send_to(b"late", to))
        .expect("the lab")
        .expect("the datagram is sent");
}
