//! T11: replies leave by the interface that the connection came in on.

use smartnat::lab::traffic::{self, Outcome, PATIENT, Server};
use smartnat::lab::{Direction, Packet, Sniffer, Transport};
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, shared_subnet, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    SIDES, ask, at, both_flavours, echo_on, echo_service, first_network, ip, servers,
};

/// Replies from the external address went out on this interface and on no other.
fn assert_replied_by(sniffers: &[(&str, Sniffer)], uplink: &str, external: &str, client: &str) {
    let is_reply = |p: &Packet| {
        p.source == ip(external) && p.destination == ip(client) && p.direction == Direction::Out
    };
    for (interface, sniffer) in sniffers.iter().filter(|(interface, _)| *interface == uplink) {
        assert!(sniffer.wait_for(PATIENT, is_reply).is_some(), "{external} {client} {interface}");
    }
    for (interface, sniffer) in sniffers.iter().filter(|(interface, _)| *interface != uplink) {
        assert!(!sniffer.packets().iter().any(is_reply), "{external} {client} {interface}");
    }
}

both_flavours!(one_pod_behind_two_uplinks_answers_through_each, |flavour| {
    for masquerade in [true, false] {
        let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
        let objects =
            [echo_on(&[1]), vec![all.tcp(8080).udp(5353).masquerade(masquerade).build()]].concat();
        let topology = standard(StandardOptions { office: true });
        let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
        let _servers = servers(&rig.lab);
        for side in SIDES {
            let sniffers = ["ext1", "ext2", "eth0"]
                .map(|i| (i, Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer")));
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                let to = at(side.external, port);
                let outcome = ask(&rig.lab, protocol, side.client, side.source, to);
                assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
            }
            assert_replied_by(&sniffers, side.uplink, side.external, side.source);
        }
    }
});

both_flavours!(a_client_on_the_link_is_answered_directly, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).udp(5353).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    for (from, to) in [("198.51.100.77", "198.51.100.10"), ("2001:db8:51::77", "2001:db8:51::10")] {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome = ask(&rig.lab, protocol, "neighbour", from, at(to, port));
            assert_eq!(outcome.server(), Some("pod1"), "{to} {protocol}: {outcome}");
        }
    }
});

both_flavours!(what_the_host_answers_itself_leaves_by_the_same_uplink, |flavour| {
    let all = SIDES.iter().fold(mapping("nobody"), |m, s| m.address(s.external));
    let topology = standard(StandardOptions::default());
    let objects = vec![all.tcp(8080).udp(5353).build()];
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    for side in SIDES {
        let (from, to) = (ip(side.source), ip(side.external));
        let ping = traffic::ping(&rig.lab, side.client, Some(from), to, 56, PATIENT);
        assert!(ping.is_answered(), "{side:?} ping: {ping}");
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}");
        }
    }
});

both_flavours!(an_endpoint_on_the_host_itself_is_served, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let service = echo_service().ready("10.244.1.1").ready("fd00:244:1::1");
    let objects = [service.build(), vec![all.tcp(8080).udp(5353).build()]].concat();
    let topology = standard(StandardOptions { office: true });
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let own = [ip("10.244.1.1"), ip("fd00:244:1::1")];
    let _host =
        Server::start_on(&rig.lab, "gateway", "host", &own, &[8080], &[5353]).expect("sockets");
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome.server(), Some("host"), "{side:?} {protocol}: {outcome}");
        }
    }
});

both_flavours!(uplinks_that_share_a_subnet_answer_each_by_itself, |flavour| {
    for masquerade in [true, false] {
        let addresses = ["10.10.0.11", "10.10.0.12", "2001:db8:10::11", "2001:db8:10::12"];
        let all = addresses.iter().fold(mapping("echo"), |m, a| m.address(a));
        let objects =
            [echo_on(&[1]), vec![all.tcp(8080).udp(5353).masquerade(masquerade).build()]].concat();
        let (rig, first) = Rig::start(&shared_subnet(), RigOptions::new(flavour), objects);
        assert!(first.status.in_sync, "{:?}", first.events);
        let _pods: Vec<Server> = ["pod1", "pod2"]
            .map(|p| Server::start(&rig.lab, p, &[8080], &[5353]).expect("a server"))
            .into();
        let far = ("client1", "192.0.2.10", "2001:db8:2::10");
        // The node would answer its neighbour directly, past any gateway, if it saw its address.
        let near = masquerade.then_some(("neighbour", "10.10.0.77", "2001:db8:10::77"));
        for (client, v4, v6) in std::iter::once(far).chain(near) {
            for address in addresses {
                let from = if address.contains('.') { v4 } else { v6 };
                let uplink = if address.ends_with('1') { "ext1" } else { "ext2" };
                let sniffers = ["ext1", "ext2", "eth0"]
                    .map(|i| (i, Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer")));
                for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                    let outcome = ask(&rig.lab, protocol, client, from, at(address, port));
                    assert_eq!(
                        outcome.server(),
                        Some("pod1"),
                        "{client} {address} {protocol}: {outcome}"
                    );
                }
                assert_replied_by(&sniffers, uplink, address, from);
            }
        }
    }
});

both_flavours!(an_address_of_another_uplink_is_answered_the_way_it_was_asked, |flavour| {
    for masquerade in [true, false] {
        let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
        let m = all.tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions::default());
        let (rig, _) =
            Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), vec![m]].concat());
        let _servers = servers(&rig.lab);
        let ways = [
            ("198.51.100.77", "203.0.113.10", "198.51.100.10"),
            ("2001:db8:51::77", "2001:db8:113::10", "2001:db8:51::10"),
        ];
        for (from, to, via) in ways {
            rig.lab.command("neighbour", &["ip", "route", "add", to, "via", via]).expect("a route");
            let sniffers = ["ext1", "ext2", "eth0"]
                .map(|i| (i, Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer")));
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                let outcome = ask(&rig.lab, protocol, "neighbour", from, at(to, port));
                assert_eq!(outcome.server(), Some("pod1"), "{to} {protocol}: {outcome}");
            }
            assert_replied_by(&sniffers, "ext1", to, from);
        }
    }
});

both_flavours!(an_endpoint_on_an_external_address_of_the_host_is_served, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let service = first_network().iter().fold(echo_service(), |s, side| s.ready(side.external));
    let m =
        all.port(Protocol::Tcp, 80, None, Some("http")).port(Protocol::Udp, 53, None, Some("dns"));
    // Without any default route the kernel refuses a datagram of a socket before a mark can help it.
    let topology = standard(StandardOptions { office: true });
    let (rig, _) = Rig::start(
        &topology,
        RigOptions::new(flavour),
        [service.build(), vec![m.build()]].concat(),
    );
    let own = first_network().map(|s| ip(s.external));
    let _host =
        Server::start_on(&rig.lab, "gateway", "host", &own, &[8080], &[5353]).expect("sockets");
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome.server(), Some("host"), "{side:?} {protocol}: {outcome}");
        }
    }
});

both_flavours!(a_trace_is_answered_through_the_uplink_that_it_came_in_on, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let topology = standard(StandardOptions::default());
    let objects = [echo_on(&[1]), vec![all.udp(5353).build()]].concat();
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    for side in SIDES {
        let heard = Sniffer::start(&rig.lab, side.client, "eth0").expect("a sniffer");
        let send = || -> std::io::Result<usize> {
            let socket = std::net::UdpSocket::bind(at(side.source, 0))?;
            // The router takes one hop, the gateway the last.
            let options = socket2::SockRef::from(&socket);
            if side.source.contains('.') {
                options.set_ttl_v4(2)?;
            } else {
                options.set_unicast_hops_v6(2)?;
            }
            socket.send_to(b"trace", at(side.external, 5353))
        };
        rig.lab.run(side.client, send).expect("the lab").expect("the datagram is sent");
        let exceeded = if side.source.contains('.') { 11 } else { 3 };
        let exceeded = Transport::Icmp { kind: exceeded, code: 0 };
        let told = heard
            .wait_for(PATIENT, |p| p.transport == exceeded && p.destination == ip(side.source));
        let told = told.unwrap_or_else(|| panic!("{side:?}: nothing is heard"));
        assert!(rig.lab.addresses("gateway").contains(&told.source), "{side:?}: {told}");
    }
});

both_flavours!(a_host_with_one_interface_serves_on_it, |flavour| {
    for masquerade in [true, false] {
        let external = ["10.10.0.10", "2001:db8:10::10"];
        let m = external.iter().fold(mapping("echo"), |m, a| m.address(a)).tcp(8080).udp(5353);
        let mut options = RigOptions::new(flavour);
        options.config.uplink_pattern = String::new();
        options.config.uplink_names = vec!["eth0".into()];
        let objects = [echo_on(&[1]), vec![m.masquerade(masquerade).build()]].concat();
        let (rig, first) = Rig::start(&shared_subnet(), options, objects);
        assert!(first.status.in_sync, "{:?}", first.events);
        let _pod = Server::start(&rig.lab, "pod1", &[8080], &[5353]).expect("a server");
        for (from, to) in ["192.0.2.10", "2001:db8:2::10"].into_iter().zip(external) {
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                let outcome = ask(&rig.lab, protocol, "client1", from, at(to, port));
                assert_eq!(outcome.server(), Some("pod1"), "{to} {protocol}: {outcome}");
            }
        }
    }
});
