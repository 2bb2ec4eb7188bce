//! T10: what is withdrawn ends within the same sync, only that, and nothing escapes untranslated.

use std::net::SocketAddr;

use smartnat::lab::traffic::{BRIEF, Conversation, PATIENT, Stream, StreamKind, open};
use smartnat::lab::{Sniffer, wait_until};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{MappingBuilder, mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    Side, at, both_flavours, conversation, echo_on, echo_service, first_network, ip, servers,
};
use smartnat_tests::host_text::Programs;

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
    std::thread::scope(|scope| {
        for c in conversations {
            scope.spawn(|| {
                let outcome = c.ask("again", BRIEF);
                assert!(!outcome.is_answered(), "{why}: {outcome}");
            });
        }
    });
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
    // A program that another test starts at this moment holds copies of all sockets until it runs.
    let bind = || wait_until(PATIENT, || std::net::UdpSocket::bind(from).ok());
    let sent = rig.lab.run("pod1", || bind().map(|socket| socket.send_to(b"late", to)));
    sent.expect("the lab").expect("the port is free").expect("the datagram is sent");
}

both_flavours!(of_several_pods_only_the_removed_ones_connections_end, |flavour| {
    let topology = standard(StandardOptions::default());
    for masquerade in [true, false] {
        let m = exposed("a", 1000, 1000).masquerade(masquerade).build();
        let objects = [echo_on(&[1, 2]), vec![m]].concat();
        let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
        let _servers = servers(&rig.lab);
        for side in first_network() {
            rig.sync(echo_on(&[1, 2]));
            let (mut kept, mut gone) = (Vec::new(), Vec::new());
            // One of two pods is missed by 20 connections once in 500,000 runs.
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for _ in 0..20 {
                    let mut c = conversation(
                        &rig.lab,
                        protocol,
                        side.client,
                        at(side.source, 0),
                        at(side.external, 1000),
                    );
                    let by_pod1 = c.ask("who", PATIENT).server() == Some("pod1");
                    if by_pod1 { kept.push(c) } else { gone.push(c) }
                }
            }
            assert!(kept.len() > 1 && gone.len() > 1, "{} {}", kept.len(), gone.len());
            rig.sync(echo_on(&[1]));
            assert_lives(&mut kept, "of the pod that stays");
            // A TCP connection is lost, a UDP flow may go on with a pod that is there.
            std::thread::scope(|scope| {
                for c in &mut gone {
                    scope.spawn(|| assert_ne!(c.ask("again", BRIEF).server(), Some("pod2")));
                }
            });
        }
    }
});

both_flavours!(a_source_that_is_withdrawn_ends_alone, |flavour| {
    let topology = standard(StandardOptions::default());
    let both = || {
        first_network()
            .iter()
            .fold(exposed("a", 1000, 1000), |m, s| m.source(s.source).source(s.refused))
    };
    let one = || first_network().iter().fold(exposed("a", 1000, 1000), |m, s| m.source(s.source));
    let objects = [echo_on(&[1]), vec![both().build()]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        rig.sync(vec![both().build()]);
        let mut kept = converse(&rig, side, side.source, 1000, 1000);
        let mut gone = converse(&rig, side, side.refused, 1000, 1000);
        rig.sync(vec![one().build()]);
        assert_lives(&mut kept, "the allowed source");
        assert_ended(&mut gone, "the withdrawn source");
    }
});

both_flavours!(what_is_in_flight_during_the_change_ends_as_well, |flavour| {
    let topology = standard(StandardOptions::default());
    let on = || exposed("a", 1000, 1000).masquerade(false).build();
    let (mut rig, _) =
        Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), vec![on()]].concat());
    let _servers = servers(&rig.lab);
    let streams: Vec<Stream> = first_network()
        .iter()
        .flat_map(|side| {
            [StreamKind::NewFlows, StreamKind::NewConnections].map(|kind| {
                let (from, to) = (Some(ip(side.source)), at(side.external, 1000));
                Stream::start(&rig.lab, side.client, kind, from, to, std::time::Duration::ZERO)
                    .expect("a stream")
            })
        })
        .collect();
    rig.sync(vec![without_mapping("a")]);
    let tracked: String = ["ipv4", "ipv6"]
        .map(|f| rig.lab.command("gateway", &["conntrack", "-L", "-f", f]).expect("connections"))
        .concat();
    let left: Vec<&str> = tracked.lines().filter(|l| l.contains("dport=1000")).collect();
    assert_eq!(left, [""; 0]);
    // Each waits for its last answer.
    std::thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| drop(stream));
        }
    });
});

both_flavours!(a_set_that_others_refer_to_keeps_no_connection_alive, |flavour| {
    let all = |m: MappingBuilder| first_network().iter().fold(m, |m, s| m.source(s.source));
    let topology = standard(StandardOptions::default());
    let objects = [echo_on(&[1]), vec![all(exposed("a", 1000, 1000)).build()]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let sets = rig.lab.command("gateway", &["ipset", "list", "-n"]).expect("ipset");
    let set = sets.lines().find(|n| n.starts_with("smartnat-s4-")).expect("a set of sources");
    let theirs = ["-A", "FORWARD", "-m", "set", "--match-set", set, "src", "-j", "ACCEPT"];
    rig.lab
        .command("gateway", &[&[Programs::of(flavour).v4], &theirs[..]].concat())
        .expect("a foreign rule");
    let mut open: Vec<Conversation> = first_network()
        .into_iter()
        .flat_map(|side| converse(&rig, side, side.source, 1000, 1000))
        .collect();
    let step = rig.sync(vec![exposed("a", 1000, 1000).source("203.0.113.99").build()]);
    let told = step.status.degraded.iter().any(|d| d.contains(set));
    assert!(told && !step.status.in_sync, "{:?}", step.status.degraded);
    assert_ended(&mut open, "its source is withdrawn");
});
