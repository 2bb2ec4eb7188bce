//! T3: what arrives on an uplink for an address of the host is dropped, unless it is a Mapping's, part
//! of a connection that the inside opened, ICMP echo, a path-MTU error, neighbour discovery or DHCP.

use std::io::ErrorKind;
use std::net::UdpSocket;

use smartnat::lab::traffic::{self, BRIEF, Outcome, PATIENT, Server};
use smartnat::lab::{Lab, Sniffer, Transport};
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    SIDES, ask, ask_briefly, assert_silence, at, both_flavours, conversation, echo_on,
    first_network, ip, servers,
};

both_flavours!(sockets_of_the_host_are_not_reachable_from_an_uplink, |flavour| {
    let topology = standard(StandardOptions::default());
    let (mut rig, first) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    // The routers lead even to the host's cluster-side address.
    for (router, v4, v6) in [
        ("router1", "198.51.100.10", "2001:db8:51::10"),
        ("router2", "203.0.113.10", "2001:db8:113::10"),
    ] {
        for (net, via) in [("10.244.1.0/24", v4), ("fd00:244:1::/64", v6)] {
            rig.lab.command(router, &["ip", "route", "add", net, "via", via]).expect("a route");
        }
    }
    let own = rig.lab.addresses("gateway");
    let host = Server::start_on(&rig.lab, "gateway", "host", &own, &[22], &[161]).expect("sockets");
    let mut knocks = Vec::new();
    for side in SIDES {
        let v4 = side.external.contains('.');
        let inside = if v4 { addresses::GATEWAY_V4 } else { addresses::GATEWAY_V6 };
        for target in [side.external, inside] {
            knocks.extend(
                [(Protocol::Tcp, 22), (Protocol::Udp, 161)]
                    .map(|(p, port)| (p, side.client, side.source, at(target, port))),
            );
        }
    }
    assert_silence(&rig.lab, &knocks);
    for side in SIDES {
        let (from, to) = (ip(side.source), ip(side.external));
        let ping = traffic::ping(&rig.lab, side.client, Some(from), to, 56, PATIENT);
        assert!(ping.is_answered(), "{side:?} ping: {ping}");
    }
    assert_eq!(host.requests(), 0, "a socket of the host was reached");

    // It can be turned off: then the same sockets answer, so it was the guard that held.
    let mut options = RigOptions::new(flavour);
    options.config.guard = false;
    rig.reconfigure(options);
    for side in SIDES {
        let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, at(side.external, 22));
        assert_eq!(outcome.server(), Some("host"), "{side:?}: {outcome}");
    }
});

both_flavours!(what_the_host_opened_is_answered, |flavour| {
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    let _neighbour = Server::start(&rig.lab, "neighbour", &[8080], &[5353]).expect("a server");
    for (from, to) in [("198.51.100.10", "198.51.100.77"), ("2001:db8:51::10", "2001:db8:51::77")] {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome = ask(&rig.lab, protocol, "gateway", from, at(to, port));
            assert_eq!(outcome.server(), Some("neighbour"), "{to} {protocol}: {outcome}");
        }
    }
});

both_flavours!(the_interface_of_the_default_route_is_no_uplink_unless_named, |flavour| {
    let topology = standard(StandardOptions { office: true });
    let mut options = RigOptions::new(flavour);
    options.config.uplink_pattern = "ext[0-9]|eth0".into();
    let (mut rig, first) = Rig::start(&topology, options.clone(), Vec::new());
    assert_eq!(first.status.uplinks.keys().collect::<Vec<_>>(), ["ext1", "ext2"]);

    options.config.uplink_names = vec!["eth0".into()];
    let named = rig.reconfigure(options);
    assert!(named.status.uplinks.contains_key("eth0"));
    assert!(!named.status.uplinks["eth0"].guarded, "nobody is locked out");
    let own = rig.lab.addresses("gateway");
    let _host = Server::start_on(&rig.lab, "gateway", "host", &own, &[22], &[]).expect("sockets");
    let to = at(addresses::GATEWAY_V4, 22);
    let outcome = ask(&rig.lab, Protocol::Tcp, "office", addresses::OFFICE_V4, to);
    assert_eq!(outcome.server(), Some("host"), "{outcome}");
});

both_flavours!(a_mapping_is_served_through_the_guard, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    for side in SIDES {
        let to = at(side.external, 8080);
        let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
        assert_eq!(outcome.server(), Some("pod1"), "{outcome}");
        let outcome =
            traffic::connect_tcp(&rig.lab, side.client, None, at(side.external, 8081), BRIEF);
        assert_eq!(outcome, Outcome::TimedOut, "an unmapped port");
    }
});

both_flavours!(anycast_addresses_are_guarded_like_any_other, |flavour| {
    let (rig, _) =
        Rig::start(&standard(StandardOptions::default()), RigOptions::new(flavour), Vec::new());
    let host = rig
        .lab
        .run("gateway", || UdpSocket::bind(at("::", 161)))
        .expect("the lab")
        .expect("a socket");
    host.set_nonblocking(true).expect("a socket");
    let inside = ["ip", "route", "add", "fd00:244:1::/64", "via", "2001:db8:51::10"];
    rig.lab.command("neighbour", &inside).expect("a route");
    // A forwarding host answers for the subnet-router address of each of its subnets (RFC 4291, 2.6.1).
    for target in ["fd00:244:1::", "2001:db8:113::", addresses::GATEWAY_V6] {
        let asked =
            ask_briefly(&rig.lab, Protocol::Udp, "neighbour", "2001:db8:51::77", at(target, 161));
        assert!(!asked.is_answered(), "{target}: {asked}");
        let heard = host.recv_from(&mut [0; 64]).map_err(|e| e.kind());
        assert_eq!(heard, Err(ErrorKind::WouldBlock), "{target} reached a socket of the host");
    }
});

/// The machine on the first uplink's link, and the gateway's address there.
const NEIGHBOURS: [(&str, &str); 2] =
    [("198.51.100.77", "198.51.100.10"), ("2001:db8:51::77", "2001:db8:51::10")];

both_flavours!(a_connection_from_before_the_start_is_cut_unless_the_host_opened_it, |flavour| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let own = lab.addresses("gateway");
    let _host = Server::start_on(&lab, "gateway", "host", &own, &[22], &[161]).expect("sockets");
    let _neighbour = Server::start(&lab, "neighbour", &[8080], &[5353]).expect("a server");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for (far, near) in NEIGHBOURS {
        for (protocol, of_host, of_neighbour) in
            [(Protocol::Tcp, 22, 8080), (Protocol::Udp, 161, 5353)]
        {
            theirs.push(conversation(&lab, protocol, "neighbour", at(far, 0), at(near, of_host)));
            ours.push(conversation(&lab, protocol, "gateway", at(near, 0), at(far, of_neighbour)));
        }
    }
    let (_rig, first) = Rig::start_in(lab, RigOptions::new(flavour), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    for conversation in &mut ours {
        let outcome = conversation.ask("again", PATIENT);
        assert_eq!(outcome.server(), Some("neighbour"), "{outcome}");
    }
    for conversation in &mut theirs {
        let outcome = conversation.ask("again", BRIEF);
        assert_eq!(outcome, Outcome::TimedOut);
    }
});

both_flavours!(dhcp_and_neighbour_discovery_pass_the_guard, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external)).tcp(8080);
    let topology = standard(StandardOptions::default());
    let objects = [echo_on(&[1]), vec![all.build()]].concat();
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let own = rig.lab.addresses("gateway");
    let _dhcp =
        Server::start_on(&rig.lab, "gateway", "dhcp", &own, &[], &[68, 546]).expect("sockets");
    for ((far, near), (server, client)) in NEIGHBOURS.into_iter().zip([(67, 68), (547, 546)]) {
        conversation(&rig.lab, Protocol::Udp, "neighbour", at(far, server), at(near, client));
        assert_silence(&rig.lab, &[(Protocol::Udp, "neighbour", far, at(near, client))]);
    }
    for host in ["gateway", "router1", "router2", "pod1"] {
        for family in ["-4", "-6"] {
            rig.lab
                .command(host, &["ip", family, "neigh", "flush", "all"])
                .expect("neighbours are forgotten");
        }
    }
    for side in SIDES {
        let outcome =
            ask(&rig.lab, Protocol::Tcp, side.client, side.source, at(side.external, 8080));
        assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
    }
});

both_flavours!(other_icmp_is_not_answered, |flavour| {
    // A timestamp request (RFC 792), all zero but its type and checksum.
    let mut request = [0; 20];
    request[..4].copy_from_slice(&[13, 0, 0xf2, 0xff]);
    let reply = Transport::Icmp { kind: 14, code: 0 };
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    let side = first_network()[0];
    let mut answered = |guard: bool| {
        let mut options = RigOptions::new(flavour);
        options.config.guard = guard;
        rig.reconfigure(options);
        let heard = Sniffer::start(&rig.lab, "neighbour", "eth0").expect("a sniffer");
        let sent = rig.lab.run("neighbour", || {
            let icmp = Some(socket2::Protocol::ICMPV4);
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, icmp)?;
            socket.send_to(&request, &at(side.external, 0).into())
        });
        assert_eq!(sent.expect("the lab").expect("a raw socket"), request.len());
        heard.wait_for(if guard { BRIEF } else { PATIENT }, |p| p.transport == reply).is_some()
    };
    assert!(answered(false), "nothing else keeps the host from answering");
    assert!(!answered(true), "the guard does");
});

both_flavours!(the_guard_can_be_asked_for_on_the_interface_of_the_default_route, |flavour| {
    let mut options = RigOptions::new(flavour);
    options.config.uplink_names = vec!["eth0".into()];
    options.config.guard_default_interface = true;
    let topology = standard(StandardOptions { office: true });
    let (rig, first) = Rig::start(&topology, options, Vec::new());
    assert!(first.status.uplinks["eth0"].guarded, "{:?}", first.status.uplinks);
    let own = rig.lab.addresses("gateway");
    let host = Server::start_on(&rig.lab, "gateway", "host", &own, &[22], &[]).expect("sockets");
    let knocks = [
        (Protocol::Tcp, "office", addresses::OFFICE_V4, at(addresses::GATEWAY_V4, 22)),
        (Protocol::Tcp, "office", addresses::OFFICE_V6, at(addresses::GATEWAY_V6, 22)),
    ];
    assert_silence(&rig.lab, &knocks);
    assert_eq!(host.requests(), 0);
});
