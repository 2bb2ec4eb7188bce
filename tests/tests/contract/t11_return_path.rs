//! T11: replies leave by the interface that the connection came in on.

use smartnat::lab::traffic::Outcome;
use smartnat::lab::{Direction, Packet, Transport};
use smartnat_core::model::{GatewayConfig, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, addresses, shared_subnet, standard};
use smartnat_tests::arm::{Arm, Request, config};
use smartnat_tests::on_both_arms;

use super::common::{
    SIDES, USUAL, at, echo_on, echo_service, first_network, ip, on_all_sides, serve_in_pods,
};

/// Asks over TCP and UDP; replies from the external address go out on this interface of the
/// gateway and on no other.
#[track_caller]
fn assert_answered_by(arm: &mut impl Arm, uplink: &str, client: &str, from: &str, to: &str) {
    let watches = ["ext1", "ext2", "eth0"].map(|i| (i, arm.watch("gateway", i)));
    for (protocol, port) in USUAL {
        let outcome = arm.ask((protocol, client, from, at(to, port)));
        assert_eq!(outcome.server(), Some("pod1"), "{client} {to} {protocol}: {outcome}");
    }
    assert_replied_by(arm, &watches, uplink, (to, from));
}

#[track_caller]
fn assert_replied_by<A: Arm>(
    arm: &A,
    watches: &[(&str, A::Watch)],
    uplink: &str,
    (external, client): (&str, &str),
) {
    let is_reply = |p: &Packet| {
        p.source == ip(external) && p.destination == ip(client) && p.direction == Direction::Out
    };
    for (interface, watch) in watches.iter().filter(|(interface, _)| *interface == uplink) {
        assert!(arm.seen(watch, is_reply).is_some(), "{external} {client} {interface}");
    }
    for (interface, watch) in watches.iter().filter(|(interface, _)| *interface != uplink) {
        let stray = arm.packets(watch).into_iter().find(is_reply);
        assert_eq!(stray, None, "{external} {client} {interface}");
    }
}

#[track_caller]
fn assert_served(arm: &mut impl Arm, request: Request<'_>, server: &str) {
    let outcome = arm.ask(request);
    assert_eq!(outcome.server(), Some(server), "{request:?}: {outcome}");
}

on_both_arms!(one_pod_behind_two_uplinks_answers_through_each, |arms| {
    for masquerade in [true, false] {
        let m = on_all_sides("echo").tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions { office: true });
        let mut arm = arms.start(&topology, config(), [echo_on(&[1]), vec![m]].concat());
        serve_in_pods(&mut arm);
        for side in SIDES {
            assert_answered_by(&mut arm, side.uplink, side.client, side.source, side.external);
        }
    }
});

on_both_arms!(a_client_on_the_link_is_answered_directly, |arms| {
    let objects = [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).udp(5353).build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    let router = arm.watch("router1", "outer");
    for (from, to) in [("198.51.100.77", "198.51.100.10"), ("2001:db8:51::77", "2001:db8:51::10")] {
        for (protocol, port) in USUAL {
            assert_served(&mut arm, (protocol, "neighbour", from, at(to, port)), "pod1");
        }
        let detour = arm.packets(&router).into_iter().find(|p| p.destination == ip(from));
        assert_eq!(detour, None);
    }
});

on_both_arms!(what_the_host_answers_itself_leaves_by_the_same_uplink, |arms| {
    let objects = vec![on_all_sides("nobody").tcp(8080).udp(5353).build()];
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    for side in SIDES {
        let watches = ["ext1", "ext2", "eth0"].map(|i| (i, arm.watch("gateway", i)));
        let ping = arm.ping(side.client, ip(side.source), ip(side.external));
        assert!(ping.is_answered(), "{side:?} ping: {ping}");
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}");
        }
        assert_replied_by(&arm, &watches, side.uplink, (side.external, side.source));
    }
});

on_both_arms!(an_endpoint_on_the_host_itself_is_served, |arms| {
    let own = [addresses::GATEWAY_V4, addresses::GATEWAY_V6];
    let service = own.iter().fold(echo_service(), |s, address| s.ready(address));
    let m = on_all_sides("echo").tcp(8080).udp(5353).build();
    let objects = [service.build(), vec![m]].concat();
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), objects);
    arm.serve("gateway", "host", &own.map(ip), &USUAL);
    for side in SIDES {
        for (protocol, port) in USUAL {
            let to = at(side.external, port);
            assert_served(&mut arm, (protocol, side.client, side.source, to), "host");
        }
    }
});

on_both_arms!(uplinks_that_share_a_subnet_answer_each_by_itself, |arms| {
    for masquerade in [true, false] {
        let addresses = ["10.10.0.11", "10.10.0.12", "2001:db8:10::11", "2001:db8:10::12"];
        let all = addresses.iter().fold(mapping("echo"), |m, a| m.address(a));
        let m = all.tcp(8080).udp(5353).masquerade(masquerade).build();
        let mut arm = arms.start(&shared_subnet(), config(), [echo_on(&[1]), vec![m]].concat());
        for pod in ["pod1", "pod2"] {
            arm.serve(pod, pod, &[], &USUAL);
        }
        let far = ("client1", "192.0.2.10", "2001:db8:2::10");
        // The node would answer its neighbour directly, past any gateway, if it saw its address.
        let near = masquerade.then_some(("neighbour", "10.10.0.77", "2001:db8:10::77"));
        for (client, v4, v6) in std::iter::once(far).chain(near) {
            for address in addresses {
                let from = if address.contains('.') { v4 } else { v6 };
                let uplink = if address.ends_with('1') { "ext1" } else { "ext2" };
                assert_answered_by(&mut arm, uplink, client, from, address);
            }
        }
    }
});

on_both_arms!(an_address_of_another_uplink_is_answered_the_way_it_was_asked, |arms| {
    for masquerade in [true, false] {
        let m = on_all_sides("echo").tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions::default());
        let mut arm = arms.start(&topology, config(), [echo_on(&[1]), vec![m]].concat());
        serve_in_pods(&mut arm);
        let ways = [
            ("198.51.100.77", "203.0.113.10", "198.51.100.10"),
            ("2001:db8:51::77", "2001:db8:113::10", "2001:db8:51::10"),
        ];
        for (from, to, via) in ways {
            arm.add_route("neighbour", to, via);
            assert_answered_by(&mut arm, "ext1", "neighbour", from, to);
        }
    }
});

on_both_arms!(an_endpoint_on_an_external_address_of_the_host_is_served, |arms| {
    let service = first_network().iter().fold(echo_service(), |s, side| s.ready(side.external));
    let m = on_all_sides("echo");
    let m =
        m.port(Protocol::Tcp, 80, None, Some("http")).port(Protocol::Udp, 53, None, Some("dns"));
    // Without any default route the kernel refuses a datagram of a socket before a mark can help it.
    let topology = standard(StandardOptions { office: true });
    let mut arm = arms.start(&topology, config(), [service.build(), vec![m.build()]].concat());
    arm.serve("gateway", "host", &first_network().map(|s| ip(s.external)), &USUAL);
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let to = at(side.external, port);
            assert_served(&mut arm, (protocol, side.client, side.source, to), "host");
        }
    }
});

on_both_arms!(a_trace_is_answered_through_the_uplink_that_it_came_in_on, |arms| {
    let objects = [echo_on(&[1]), vec![on_all_sides("echo").udp(5353).build()]].concat();
    let topology = standard(StandardOptions::default());
    let mut arm = arms.start(&topology, config(), objects);
    for side in SIDES {
        let heard = arm.watch(side.client, "eth0");
        // The router takes one hop, the gateway the last.
        let (from, to) = (at(side.source, 33_434), at(side.external, 5353));
        arm.send_datagram_so_far(side.client, from, to, 2);
        let exceeded = if side.source.contains('.') { 11 } else { 3 };
        let exceeded = Transport::Icmp { kind: exceeded, code: 0 };
        let told =
            arm.seen(&heard, |p| p.transport == exceeded && p.destination == ip(side.source));
        let told = told.unwrap_or_else(|| panic!("{side:?}: nothing is heard"));
        assert!(topology.addresses("gateway").any(|a| a == told.source), "{side:?}: {told}");
    }
});

on_both_arms!(a_host_with_one_interface_serves_on_it, |arms| {
    for masquerade in [true, false] {
        let external = ["10.10.0.10", "2001:db8:10::10"];
        let m = external.iter().fold(mapping("echo"), |m, a| m.address(a)).tcp(8080).udp(5353);
        let config = GatewayConfig {
            uplink_pattern: String::new(),
            uplink_names: vec!["eth0".into()],
            ..config()
        };
        let objects = [echo_on(&[1]), vec![m.masquerade(masquerade).build()]].concat();
        let mut arm = arms.start(&shared_subnet(), config, objects);
        arm.serve("pod1", "pod1", &[], &USUAL);
        for (from, to) in ["192.0.2.10", "2001:db8:2::10"].into_iter().zip(external) {
            for (protocol, port) in USUAL {
                assert_served(&mut arm, (protocol, "client1", from, at(to, port)), "pod1");
            }
        }
    }
});
