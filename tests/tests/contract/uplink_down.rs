//! T11, T13: what belongs to an uplink that is down goes nowhere; a pod that changes its external
//! address goes on at once.

use std::net::UdpSocket;
use std::time::Duration;

use smartnat::lab::traffic::{BRIEF, PATIENT};
use smartnat::lab::{Lab, Sniffer};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{at, both_flavours, echo_on, ip};

const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
const FIRST: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];
const SECOND: [&str; 2] = ["198.51.100.11", "2001:db8:51::11"];

fn leaving(addresses: [&str; 2]) -> ClusterObject {
    addresses
        .iter()
        .fold(mapping("a").service("echo"), |m, address| m.address(address))
        .port(Protocol::Tcp, 1000, None, Some("http"))
        .egress(true)
        .build()
}

fn udp_socket(lab: &Lab, host: &str, address: &str, port: u16, patience: Duration) -> UdpSocket {
    let from = at(address, port);
    let socket = lab.run(host, || UdpSocket::bind(from)).expect("the lab").expect("a socket");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket
}

both_flavours!(egress_of_an_uplink_that_is_down_does_not_leave_elsewhere, |flavour| {
    let lab = Lab::build(&standard(StandardOptions { office: true })).expect("the lab is built");
    // Forwarding was on before us: main's default route would take anything.
    lab.set_sysctl("gateway", "net.ipv4.ip_forward", "1").expect("a sysctl");
    lab.set_sysctl("gateway", "net.ipv6.conf.all.forwarding", "1").expect("a sysctl");
    let objects = [echo_on(&[1]), vec![leaving(SECOND)]].concat();
    let (mut rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects);
    let office = Sniffer::start(&rig.lab, "office", "eth0").expect("a sniffer");
    rig.lab.command("gateway", &["ip", "link", "set", "ext1", "down"]).expect("a link");
    let send = |rig: &Rig, family: usize, port: u16| {
        let socket = udp_socket(&rig.lab, "pod1", POD[family], 0, BRIEF);
        // An answer "unreachable" to an earlier datagram is no failure.
        let _ = socket.send_to(b"datagram", at(CLIENT[family], port));
    };
    let escaped = |family: usize| office.wait_for(BRIEF, |p| p.destination == ip(CLIENT[family]));
    for family in 0..2 {
        send(&rig, family, 9999);
        assert_eq!(escaped(family), None, "before it is known");
    }
    rig.host_changed();
    send(&rig, 0, 9998);
    assert_eq!(escaped(0), None, "after it is known");
});

both_flavours!(a_changed_egress_address_serves_the_same_ports_at_once, |flavour| {
    let topology = standard(StandardOptions::default());
    let objects = [echo_on(&[1]), vec![leaving(SECOND)]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    for family in 0..2 {
        let far = udp_socket(&rig.lab, "client1", CLIENT[family], 9999, PATIENT);
        let near = udp_socket(&rig.lab, "pod1", POD[family], 5060, PATIENT);
        for addresses in [SECOND, FIRST] {
            rig.sync(vec![leaving(addresses)]);
            near.send_to(b"datagram", at(CLIENT[family], 9999)).expect("the datagram is sent");
            let (_, from) = far.recv_from(&mut [0; 16]).expect("the datagram arrives");
            assert_eq!(from.ip(), ip(addresses[family]));
        }
    }
});
