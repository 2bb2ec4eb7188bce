//! T3: what arrives on an uplink for an address of the host is dropped, unless it is a Mapping's, part
//! of a connection that the inside opened, ICMP echo, a path-MTU error, neighbour discovery or DHCP.

use std::io::ErrorKind;
use std::net::UdpSocket;

use smartnat::lab::traffic::{self, BRIEF, Outcome, PATIENT, Server};
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, ask_briefly, at, both_flavours, echo_on, ip, servers};

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
    for side in SIDES {
        let v4 = side.external.contains('.');
        let inside = if v4 { addresses::GATEWAY_V4 } else { addresses::GATEWAY_V6 };
        for target in [side.external, inside] {
            for (protocol, port) in [(Protocol::Tcp, 22), (Protocol::Udp, 161)] {
                let outcome =
                    ask_briefly(&rig.lab, protocol, side.client, side.source, at(target, port));
                assert_eq!(outcome, Outcome::TimedOut, "{side:?} {target} {protocol}");
            }
        }
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
