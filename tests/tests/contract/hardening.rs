//! Corners that an adversary, a slow reply or somebody else's change leads into.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use smartnat::lab::traffic::{BRIEF, PATIENT, open};
use smartnat::lab::{Direction, Lab, Packet, Sniffer};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, Topology, addresses, standard};
use smartnat_tests::arm::{Arm, config};
use smartnat_tests::{Rig, RigOptions, on_both_arms};

use super::common::{USUAL, at, echo_on, echo_service, first_network, ip, switch_forwarding_on};
use super::rulesets::all_rulesets;

const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
const FIRST: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];
const OFFICE: [&str; 2] = [addresses::OFFICE_V4, addresses::OFFICE_V6];

/// The Mapping `a` of `echo` on these addresses: 1000 over TCP and UDP.
fn exposed(on: [&str; 2], egress: bool) -> ClusterObject {
    on.iter()
        .fold(mapping("a").service("echo"), |m, address| m.address(address))
        .port(Protocol::Tcp, 1000, None, Some("http"))
        .port(Protocol::Udp, 1000, None, Some("dns"))
        .masquerade(false)
        .egress(egress)
        .build()
}

/// The standard one with an office, where nobody is told of shorter ways.
fn without_redirects() -> Topology {
    let mut topology = standard(StandardOptions { office: true });
    for host in &mut topology.hosts {
        for (name, key, value) in [
            ("gateway", "net.ipv4.conf.all.send_redirects", "0"),
            ("gateway", "net.ipv4.conf.eth0.send_redirects", "0"),
            ("pod1", "net.ipv6.conf.eth0.accept_redirects", "0"),
        ] {
            if host.name == name {
                host.sysctls.insert(key.into(), value.into());
            }
        }
    }
    topology
}

fn leaves_for(to: SocketAddr) -> impl Fn(&Packet) -> bool {
    move |p| p.direction == Direction::Out && p.destination == to.ip()
}

// T13, T4: such a stream stays NEW for ever, and was never looked at by the nat table for an uplink.
on_both_arms!(a_stream_that_nobody_answers_is_not_torn_to_an_uplink_untranslated, |arms| {
    let mut arm = arms.build(&without_redirects());
    switch_forwarding_on(&mut arm);
    let first = arm.start(config(), [echo_on(&[1]), vec![exposed(FIRST, false)]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    for family in 0..2 {
        arm.sync(vec![exposed(FIRST, false)]);
        let to = at(CLIENT[family], 9999);
        let [inside, outside] = ["eth0", "ext1"].map(|i| arm.watch("gateway", i));
        arm.send_datagram("pod1", at(POD[family], STREAM), to);
        assert!(arm.seen(&inside, leaves_for(to)).is_some(), "the way before egress");
        arm.sync(vec![exposed(FIRST, true)]);
        assert_only_translated(&mut arm, to, &outside, family);
    }
});

// T4: what began inside has no translation for an uplink; losing its route must not put it there.
on_both_arms!(a_stream_that_loses_its_route_inside_does_not_leave_untranslated, |arms| {
    let mut arm = arms.build(&without_redirects());
    switch_forwarding_on(&mut arm);
    let routes = [["172.31.0.0/24", "10.244.1.254"], ["fd00:31::/64", "fd00:244:1::fe"]];
    for [net, via] in routes {
        arm.add_route("gateway", net, via);
    }
    let first = arm.start(config(), [echo_on(&[1]), vec![exposed(FIRST, true)]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    for family in 0..2 {
        let to = at(OFFICE[family], 9999);
        let [inside, outside] = ["eth0", "ext1"].map(|i| arm.watch("gateway", i));
        arm.send_datagram("pod1", at(POD[family], STREAM), to);
        assert!(arm.seen(&inside, leaves_for(to)).is_some(), "the way inside");
        arm.delete_route("gateway", routes[family][0]);
        assert_only_translated(&mut arm, to, &outside, family);
    }
});

/// The port that a stream of datagrams comes from.
const STREAM: u16 = 40_100;

/// The stream goes on, and a later flow leaves as it should, so what the stream did was seen by then.
#[track_caller]
fn assert_only_translated<A: Arm>(arm: &mut A, to: SocketAddr, outside: &A::Watch, family: usize) {
    for port in [STREAM, STREAM + 1] {
        arm.send_datagram("pod1", at(POD[family], port), to);
    }
    let own = |p: &Packet| leaves_for(to)(p) && p.source == ip(FIRST[family]);
    assert!(arm.seen(outside, own).is_some(), "{to}");
    let naked = arm.packets(outside).into_iter().find(|p| p.source == ip(POD[family]));
    assert_eq!(naked, None, "{to}");
}

// T12: a pod with egress is a client like any other, from the first datagram to the last.
on_both_arms!(datagrams_before_the_first_answer_reach_the_endpoint, |arms| {
    let objects = [echo_on(&[1]), vec![exposed(FIRST, true)]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    for family in 0..2 {
        for nth in 1..=3 {
            let endpoint = arm.watch("pod1", "eth0");
            arm.send_datagram("pod1", at(POD[family], STREAM), at(FIRST[family], 1000));
            let arrives =
                |p: &Packet| p.direction == Direction::In && p.destination_port() == Some(5353);
            assert!(arm.seen(&endpoint, arrives).is_some(), "datagram {nth}");
        }
    }
});

fn udp_socket(lab: &Lab, host: &str, from: SocketAddr) -> UdpSocket {
    let socket = lab.run(host, || UdpSocket::bind(from)).expect("the lab").expect("a socket");
    socket.set_read_timeout(Some(PATIENT)).expect("a timeout");
    socket
}

fn send(socket: &UdpSocket, to: SocketAddr) {
    socket.send_to(b"datagram", to).expect("the datagram is sent");
}

// T10: an endpoint on the host itself sends through OUTPUT, not FORWARD. On Linux alone: no word
// of the arms makes a server speak unasked.
all_rulesets!(an_ended_connection_of_an_endpoint_on_the_host_escapes_nowhere, |ruleset| {
    let service = echo_service().ready(addresses::GATEWAY_V4).ready(addresses::GATEWAY_V6);
    let topology = standard(StandardOptions { office: true });
    let objects = [service.build(), vec![exposed(FIRST, false)]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(ruleset), objects);
    for (side, own) in
        first_network().into_iter().zip([addresses::GATEWAY_V4, addresses::GATEWAY_V6])
    {
        rig.sync(vec![exposed(FIRST, false)]);
        let datagrams = udp_socket(&rig.lab, "gateway", at(own, 5353));
        let client = udp_socket(&rig.lab, side.client, at(side.source, 0));
        send(&client, at(side.external, 1000));
        let (_, peer) = datagrams.recv_from(&mut [0; 16]).expect("the client's datagram");
        let listener = rig.lab.run("gateway", || TcpListener::bind(at(own, 8080)));
        let listener = listener.expect("the lab").expect("a listener");
        let from = Some(at(side.source, 0));
        let connection =
            open(&rig.lab, side.client, Protocol::Tcp, from, at(side.external, 1000), PATIENT);
        let _connection = connection.expect("the lab").expect("a connection");
        let (mut accepted, _) = listener.accept().expect("the client's connection");

        let sniffer = Sniffer::start(&rig.lab, "office", "eth0").expect("a sniffer");
        rig.sync(vec![without_mapping("a")]);
        // Whether the host is told that it may not send is not the question.
        let _ = datagrams.send_to(b"late", peer);
        let _ = accepted.write_all(b"late");
        let escaped = sniffer.wait_for(BRIEF, |p| p.destination == ip(side.source));
        assert_eq!(escaped, None, "{side:?}");
    }
});

// T12: the way to an endpoint behind the default route is no way out.
on_both_arms!(a_pod_with_egress_behind_the_default_route_reaches_its_mapping, |arms| {
    let pods = echo_service().ready(OFFICE[0]).ready(OFFICE[1]).build();
    let objects = [pods, vec![exposed(FIRST, true)]].concat();
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), objects);
    arm.add_route("office", "198.51.100.0/24", addresses::GATEWAY_V4);
    arm.add_route("office", "2001:db8:51::/64", addresses::GATEWAY_V6);
    arm.serve("office", "office", &[], &USUAL);
    for (from, to) in OFFICE.into_iter().zip(FIRST) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let outcome = arm.ask((protocol, "office", from, at(to, 1000)));
            assert_eq!(outcome.server(), Some("office"), "{from} {protocol}: {outcome}");
        }
    }
});

// T11, T13: the host's answer to a pod is no egress, also where the default route leads to the pod.
on_both_arms!(the_host_answers_a_pod_with_egress_behind_the_default_route, |arms| {
    let pods = echo_service().ready(OFFICE[0]).ready(OFFICE[1]).build();
    let objects = [pods, vec![exposed(FIRST, true)]].concat();
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), objects);
    let ports = [(Protocol::Tcp, 22), (Protocol::Udp, 161)];
    arm.serve("gateway", "host", &[], &ports);
    for (from, to) in OFFICE.into_iter().zip([addresses::GATEWAY_V4, addresses::GATEWAY_V6]) {
        for (protocol, port) in ports {
            let outcome = arm.ask((protocol, "office", from, at(to, port)));
            assert_eq!(outcome.server(), Some("host"), "{from} {protocol}: {outcome}");
        }
    }
});
