//! T3: what arrives on an uplink for an address of the host is dropped, unless it is a Mapping's, part
//! of a connection that the inside opened, ICMP echo, a path-MTU error, neighbour discovery or DHCP.

use std::io::ErrorKind;
use std::net::UdpSocket;

use smartnat::lab::traffic::{BRIEF, Outcome, PATIENT};
use smartnat::lab::{Sniffer, Transport};
use smartnat_core::model::{GatewayConfig, Protocol};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::config;
use smartnat_tests::{Rig, RigOptions, on_both_arms};

use super::common::{
    SIDES, USUAL, ask, ask_briefly, at, echo_on, first_network, ip, on_all_sides, serve_in_pods,
    servers,
};
use super::rulesets::all_rulesets;

const MANAGEMENT: [(Protocol, u16); 2] = [(Protocol::Tcp, 22), (Protocol::Udp, 161)];

on_both_arms!(sockets_of_the_host_are_not_reachable_from_an_uplink, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), Vec::new());
    // The routers lead even to the host's cluster-side address.
    for (router, v4, v6) in [
        ("router1", "198.51.100.10", "2001:db8:51::10"),
        ("router2", "203.0.113.10", "2001:db8:113::10"),
    ] {
        arm.add_route(router, "10.244.1.0/24", v4);
        arm.add_route(router, "fd00:244:1::/64", v6);
    }
    arm.serve("gateway", "host", &[], &MANAGEMENT);
    let mut knocks = Vec::new();
    for side in SIDES {
        let v4 = side.external.contains('.');
        let inside = if v4 { addresses::GATEWAY_V4 } else { addresses::GATEWAY_V6 };
        for target in [side.external, inside] {
            let knock = |(p, port)| (p, side.client, side.source, at(target, port));
            knocks.extend(MANAGEMENT.map(knock));
        }
    }
    arm.assert_silence(&knocks);
    for side in SIDES {
        let ping = arm.ping(side.client, ip(side.source), ip(side.external));
        assert!(ping.is_answered(), "{side:?} ping: {ping}");
    }
    assert_eq!(arm.deliveries("host"), 0, "a socket of the host was reached");

    // It can be turned off: then the same sockets answer, so it was the guard that held.
    arm.reconfigure(GatewayConfig { guard: false, ..config() });
    for side in SIDES {
        let to = at(side.external, 22);
        let outcome = arm.ask((Protocol::Tcp, side.client, side.source, to));
        assert_eq!(outcome.server(), Some("host"), "{side:?}: {outcome}");
    }
});

on_both_arms!(what_the_host_opened_is_answered, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), Vec::new());
    arm.serve("neighbour", "neighbour", &[], &USUAL);
    for (to, from) in NEIGHBOURS {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, "gateway", from, at(to, port)));
            assert_eq!(outcome.server(), Some("neighbour"), "{to} {protocol}: {outcome}");
        }
    }
});

on_both_arms!(the_interface_of_the_default_route_is_no_uplink_unless_named, |arms| {
    let both = GatewayConfig { uplink_pattern: "ext[0-9]|eth0".into(), ..config() };
    let mut arm = arms.build(&standard(StandardOptions { office: true }));
    let first = arm.start(both.clone(), Vec::new());
    assert_eq!(first.status.uplinks.keys().collect::<Vec<_>>(), ["ext1", "ext2"]);

    let named = arm.reconfigure(GatewayConfig { uplink_names: vec!["eth0".into()], ..both });
    assert!(named.status.uplinks.contains_key("eth0"));
    assert!(!named.status.uplinks["eth0"].guarded, "nobody is locked out");
    arm.serve("gateway", "host", &[], &[(Protocol::Tcp, 22)]);
    let to = at(addresses::GATEWAY_V4, 22);
    let outcome = arm.ask((Protocol::Tcp, "office", addresses::OFFICE_V4, to));
    assert_eq!(outcome.server(), Some("host"), "{outcome}");
});

on_both_arms!(a_mapping_is_served_through_the_guard, |arms| {
    let objects = [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    for side in SIDES {
        let to = at(side.external, 8080);
        let outcome = arm.ask((Protocol::Tcp, side.client, side.source, to));
        assert_eq!(outcome.server(), Some("pod1"), "{outcome}");
    }
    let unmapped =
        SIDES.map(|side| (Protocol::Tcp, side.client, side.source, at(side.external, 8081)));
    arm.assert_silence(&unmapped);
});

// On Linux alone: simulated hosts have no anycast addresses.
all_rulesets!(anycast_addresses_are_guarded_like_any_other, |ruleset| {
    let (rig, _) =
        Rig::start(&standard(StandardOptions::default()), RigOptions::new(ruleset), Vec::new());
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

on_both_arms!(a_connection_from_before_the_start_is_cut_unless_the_host_opened_it, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    arm.serve("gateway", "host", &[], &MANAGEMENT);
    arm.serve("neighbour", "neighbour", &[], &USUAL);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for (far, near) in NEIGHBOURS {
        for ((protocol, of_host), (_, of_neighbour)) in MANAGEMENT.into_iter().zip(USUAL) {
            theirs.push(arm.converse(protocol, "neighbour", at(far, 0), at(near, of_host)));
            ours.push(arm.converse(protocol, "gateway", at(near, 0), at(far, of_neighbour)));
        }
    }
    let first = arm.start(config(), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    for conversation in &mut ours {
        let outcome = arm.ask_on(conversation);
        assert_eq!(outcome.server(), Some("neighbour"), "{outcome}");
    }
    for outcome in arm.ask_all_on_briefly(&mut theirs) {
        assert_eq!(outcome, Outcome::TimedOut);
    }
});

on_both_arms!(dhcp_passes_the_guard, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), Vec::new());
    arm.serve("gateway", "dhcp", &[], &[(Protocol::Udp, 68), (Protocol::Udp, 546)]);
    for ((far, near), (server, client)) in NEIGHBOURS.into_iter().zip([(67, 68), (547, 546)]) {
        arm.converse(Protocol::Udp, "neighbour", at(far, server), at(near, client));
        arm.assert_silence(&[(Protocol::Udp, "neighbour", far, at(near, client))]);
    }
});

// On Linux alone: the simulated network finds neighbours without asking.
all_rulesets!(neighbour_discovery_passes_the_guard, |ruleset| {
    let topology = standard(StandardOptions::default());
    let objects = [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).build()]].concat();
    let (rig, _) = Rig::start(&topology, RigOptions::new(ruleset), objects);
    let _servers = servers(&rig.lab);
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

// On Linux alone: simulated ICMP is echo and errors.
all_rulesets!(other_icmp_is_not_answered, |ruleset| {
    // A timestamp request (RFC 792), all zero but its type and checksum.
    let mut request = [0; 20];
    request[..4].copy_from_slice(&[13, 0, 0xf2, 0xff]);
    let reply = Transport::Icmp { kind: 14, code: 0 };
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(ruleset), Vec::new());
    let side = first_network()[0];
    let mut answered = |guard: bool| {
        let mut options = RigOptions::new(ruleset);
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

on_both_arms!(the_guard_can_be_asked_for_on_the_interface_of_the_default_route, |arms| {
    let (names, on) = (vec!["eth0".into()], true);
    let config = GatewayConfig { uplink_names: names, guard_default_interface: on, ..config() };
    let mut arm = arms.build(&standard(StandardOptions { office: true }));
    let first = arm.start(config, Vec::new());
    assert!(first.status.uplinks["eth0"].guarded, "{:?}", first.status.uplinks);
    arm.serve("gateway", "host", &[], &[(Protocol::Tcp, 22)]);
    arm.assert_silence(&[
        (Protocol::Tcp, "office", addresses::OFFICE_V4, at(addresses::GATEWAY_V4, 22)),
        (Protocol::Tcp, "office", addresses::OFFICE_V6, at(addresses::GATEWAY_V6, 22)),
    ]);
    assert_eq!(arm.deliveries("host"), 0);
});
