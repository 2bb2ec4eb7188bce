//! Corners that an adversary, a slow reply or somebody else's change leads into.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use smartnat::lab::traffic::{BRIEF, PATIENT, Server, open};
use smartnat::lab::{Direction, Lab, Packet, Sniffer};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{ask, at, both_flavours, echo_on, echo_service, first_network, ip};

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

/// A lab with an office, whose gateway forwards already and tells nobody of shorter ways.
fn forwarding_lab() -> Lab {
    let lab = Lab::build(&standard(StandardOptions { office: true })).expect("the lab is built");
    for (key, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.eth0.send_redirects", "0"),
    ] {
        lab.set_sysctl("gateway", key, value).expect("a sysctl");
    }
    lab.set_sysctl("pod1", "net.ipv6.conf.eth0.accept_redirects", "0").expect("a sysctl");
    lab
}

fn udp_socket(lab: &Lab, host: &str, from: SocketAddr) -> UdpSocket {
    let socket = lab.run(host, || UdpSocket::bind(from)).expect("the lab").expect("a socket");
    socket.set_read_timeout(Some(PATIENT)).expect("a timeout");
    socket
}

fn send(socket: &UdpSocket, to: SocketAddr) {
    socket.send_to(b"datagram", to).expect("the datagram is sent");
}

fn leaves_for(to: SocketAddr) -> impl Fn(&Packet) -> bool {
    move |p| p.direction == Direction::Out && p.destination == to.ip()
}

// T13, T4: such a stream stays NEW for ever, and was never looked at by the nat table for an uplink.
both_flavours!(a_stream_that_nobody_answers_is_not_torn_to_an_uplink_untranslated, |flavour| {
    let objects = [echo_on(&[1]), vec![exposed(FIRST, false)]].concat();
    let (mut rig, _) = Rig::start_in(forwarding_lab(), RigOptions::new(flavour), objects);
    for family in 0..2 {
        rig.sync(vec![exposed(FIRST, false)]);
        let to = at(CLIENT[family], 9999);
        let stream = udp_socket(&rig.lab, "pod1", at(POD[family], 0));
        let [inside, outside] =
            ["eth0", "ext1"].map(|i| Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer"));
        send(&stream, to);
        assert!(inside.wait_for(PATIENT, leaves_for(to)).is_some(), "the way before egress");
        rig.sync(vec![exposed(FIRST, true)]);
        assert_only_translated(&rig, &stream, to, &outside, family);
    }
});

// T4: what began inside has no translation for an uplink; losing its route must not put it there.
both_flavours!(a_stream_that_loses_its_route_inside_does_not_leave_untranslated, |flavour| {
    let lab = forwarding_lab();
    let routes = [["172.31.0.0/24", "10.244.1.254"], ["fd00:31::/64", "fd00:244:1::fe"]];
    for [net, via] in routes {
        lab.command("gateway", &["ip", "route", "add", net, "via", via]).expect("a route");
    }
    let objects = [echo_on(&[1]), vec![exposed(FIRST, true)]].concat();
    let (rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects);
    for family in 0..2 {
        let to = at(OFFICE[family], 9999);
        let [inside, outside] =
            ["eth0", "ext1"].map(|i| Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer"));
        let stream = udp_socket(&rig.lab, "pod1", at(POD[family], 0));
        send(&stream, to);
        assert!(inside.wait_for(PATIENT, leaves_for(to)).is_some(), "the way inside");
        rig.lab.command("gateway", &["ip", "route", "del", routes[family][0]]).expect("a route");
        assert_only_translated(&rig, &stream, to, &outside, family);
    }
});

/// The stream goes on, and a later flow leaves as it should, so what the stream did was seen by then.
fn assert_only_translated(
    rig: &Rig,
    stream: &UdpSocket,
    to: SocketAddr,
    outside: &Sniffer,
    family: usize,
) {
    // An answer to an earlier datagram is no failure of this one.
    let _ = stream.take_error();
    send(stream, to);
    let later = udp_socket(&rig.lab, "pod1", at(POD[family], 0));
    send(&later, to);
    let own = |p: &Packet| leaves_for(to)(p) && p.source == ip(FIRST[family]);
    assert!(outside.wait_for(PATIENT, own).is_some(), "{to}");
    let naked = outside.packets().into_iter().find(|p| p.source == ip(POD[family]));
    assert_eq!(naked, None, "{to}");
}

// T12: a pod with egress is a client like any other, from the first datagram to the last.
both_flavours!(datagrams_before_the_first_answer_reach_the_endpoint, |flavour| {
    let objects = [echo_on(&[1]), vec![exposed(FIRST, true)]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    for family in 0..2 {
        let endpoint = udp_socket(&rig.lab, "pod1", at(POD[family], 5353));
        let client = udp_socket(&rig.lab, "pod1", at(POD[family], 0));
        for nth in 1..=3 {
            send(&client, at(FIRST[family], 1000));
            let heard = endpoint.recv_from(&mut [0; 16]);
            assert!(heard.is_ok(), "datagram {nth}: {heard:?}");
        }
    }
});

// T10: an endpoint on the host itself sends through OUTPUT, not FORWARD.
both_flavours!(an_ended_connection_of_an_endpoint_on_the_host_escapes_nowhere, |flavour| {
    let service = echo_service().ready(addresses::GATEWAY_V4).ready(addresses::GATEWAY_V6);
    let topology = standard(StandardOptions { office: true });
    let objects = [service.build(), vec![exposed(FIRST, false)]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
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

// T11, T13: the host's answer to a pod is no egress, also where the default route leads to the pod.
both_flavours!(the_host_answers_a_pod_with_egress_behind_the_default_route, |flavour| {
    let pods = echo_service().ready(OFFICE[0]).ready(OFFICE[1]).build();
    let topology = standard(StandardOptions { office: true });
    let objects = [pods, vec![exposed(FIRST, true)]].concat();
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let own = rig.lab.addresses("gateway");
    let _host =
        Server::start_on(&rig.lab, "gateway", "host", &own, &[22], &[161]).expect("sockets");
    for (from, to) in OFFICE.into_iter().zip([addresses::GATEWAY_V4, addresses::GATEWAY_V6]) {
        for (protocol, port) in [(Protocol::Tcp, 22), (Protocol::Udp, 161)] {
            let outcome = ask(&rig.lab, protocol, "office", from, at(to, port));
            assert_eq!(outcome.server(), Some("host"), "{from} {protocol}: {outcome}");
        }
    }
});
