//! Policy routing, forwarding, the reverse-path filter, errors of routing.

use smartnat_core::model::Family;
use smartnat_core::objects::{Route, RoutingRule, RuleAction, SysctlKey};
use smartnat_sim::SimHost;
use smartnat_sim::walk::{DropCause, Icmp, IcmpError, Packet, Payload, Refusal};

use crate::router::{
    LEFT, RIGHT, SIDES, Side, answered, dropped, ip, left, router, rules, set, udp,
};

/// `ip rule` for table 100, which leads everything to the other server.
fn rule(side: &Side, priority: u32) -> RoutingRule {
    let action = RuleAction::Lookup { table: 100, suppress_prefix: None };
    let (in_interface, mark, destination) = (None, None, None);
    RoutingRule { family: side.family, priority, in_interface, mark, destination, action }
}

fn everything(side: &Side) -> &'static str {
    if side.family == Family::V4 { "0.0.0.0/0" } else { "::/0" }
}

/// A router whose table 100 leads everywhere by the other server, and main by the server.
fn with_rule(side: &Side, rule: RoutingRule) -> SimHost {
    let mut host = router();
    host.kernel.add_host_route(everything(side), Some(side.server), RIGHT);
    let destination = everything(side).parse().expect("a network");
    let gateway = Some(ip(side.other_server));
    let interface = RIGHT.to_owned();
    host.kernel
        .foreign_route(Route { table: 100, destination, gateway, interface, onlink: false }, 4);
    host.kernel.foreign_rule(rule, 4);
    host
}

fn next_hop(host: &mut SimHost, packet: Packet) -> std::net::IpAddr {
    let trace = host.receive(LEFT, packet).expect("all is understood");
    left(&trace);
    match trace.outcome {
        smartnat_sim::walk::Outcome::Left { next_hop, .. } => next_hop,
        _ => unreachable!("it left"),
    }
}

fn far(side: &Side) -> (&'static str, &'static str) {
    match side.family {
        Family::V4 => ("203.0.113.5", "203.0.113.0/24"),
        Family::V6 => ("2001:db8:99::5", "2001:db8:99::/64"),
    }
}

#[test]
fn rules_hold_by_interface_mark_and_destination_in_the_order_of_their_priorities() {
    for side in SIDES {
        let (to, net) = far(&side);
        let packet = udp((side.client, 1000), (to, 53));
        let net: ipnet::IpNet = net.parse().expect("a network");
        let base = |priority| rule(&side, priority);
        let marked = |value, mask| RoutingRule { mark: Some((value, mask)), ..base(100) };
        let by = |name: &str| RoutingRule { in_interface: Some(name.into()), ..base(100) };
        for (what, rule, other) in [
            ("without a condition", base(100), true),
            ("after main", base(32_766 + 1), false),
            ("iif left", by(LEFT), true),
            ("iif right", by(RIGHT), false),
            ("iif lo", by("lo"), false),
            ("fwmark 0x10/0xf0", marked(0x10, 0xf0), true),
            ("fwmark 0x11/0xff", marked(0x11, 0xff), false),
            ("to it", RoutingRule { destination: Some(net), ..base(100) }, true),
            (
                "to others",
                RoutingRule { destination: Some(net.supernet().expect("shorter")), ..base(100) },
                true,
            ),
        ] {
            let mut host = with_rule(&side, rule);
            rules(&mut host, side.family, &["mangle PREROUTING -j MARK --set-xmark 0x10/0xff"]);
            let expected = if other { side.other_server } else { side.server };
            assert_eq!(next_hop(&mut host, packet), ip(expected), "{what}");
        }
    }
}

#[test]
fn a_suppressed_prefix_is_passed_over_and_the_longest_prefix_wins() {
    for side in SIDES {
        let (to, net) = far(&side);
        let packet = udp((side.client, 1000), (to, 53));
        let action = RuleAction::Lookup { table: 100, suppress_prefix: Some(0) };
        let mut host = with_rule(&side, RoutingRule { action, ..rule(&side, 100) });
        assert_eq!(next_hop(&mut host, packet), ip(side.server), "the default route is none");
        let route = |net: &str| Route {
            table: 100,
            destination: net.parse().expect("a network"),
            gateway: Some(ip(side.other_server)),
            interface: RIGHT.into(),
            onlink: false,
        };
        host.kernel.foreign_route(route(net), 4);
        assert_eq!(next_hop(&mut host, packet), ip(side.other_server), "a longer one counts");
    }
}

#[test]
fn a_routing_rule_that_is_not_understood_is_refused_once_a_packet_reaches_it() {
    for side in SIDES {
        let mut host = router();
        host.kernel.foreign_opaque_rule(side.family, 50, "from all uidrange 0-0 lookup 7");
        let packet = udp((side.client, 1000), (side.server, 53));
        let refused = host.receive(LEFT, packet);
        assert!(matches!(refused, Err(Refusal::RoutingRule { priority: 50, .. })), "{refused:?}");
        // What is for the host itself never comes there.
        let local = udp((side.client, 1000), (side.external, 53));
        let reached = host.receive(LEFT, local);
        assert!(
            matches!(reached, Err(Refusal::RoutingRule { .. })),
            "its answer does: {reached:?}"
        );
    }
}

#[test]
fn without_forwarding_nothing_goes_through() {
    for side in SIDES {
        let mut host = router();
        set(&mut host.kernel, &SysctlKey::Forwarding(side.family), "0");
        let packet = udp((side.client, 1000), (side.server, 53));
        let trace = host.receive(LEFT, packet).expect("all is understood");
        assert_eq!(dropped(&trace), &DropCause::NotForwarding);
        assert!(trace.answers.is_empty());
    }
}

fn error_in(packet: &Packet) -> IcmpError {
    match packet.payload {
        Payload::Icmp(Icmp::Error { error, .. }) => error,
        _ => panic!("no error: {packet}"),
    }
}

/// Held against Linux 6.18: IPv6 tells even where it does not forward.
#[test]
fn no_route_is_told_to_the_sender() {
    for side in SIDES {
        for (forwarding, told) in [("1", true), ("0", side.family == Family::V6)] {
            let mut host = router();
            set(&mut host.kernel, &SysctlKey::Forwarding(side.family), forwarding);
            let packet = udp((side.client, 1000), (far(&side).0, 53));
            let trace = host.receive(LEFT, packet).expect("all is understood");
            assert_eq!(dropped(&trace), &DropCause::NoRoute);
            assert_eq!(trace.answers.len(), usize::from(told), "{forwarding}");
            if told {
                let (by, answer) = answered(&trace);
                assert_eq!((by, answer.source), (LEFT, ip(side.external)));
                assert_eq!(error_in(&answer), IcmpError::NetUnreachable);
            }
        }
    }
}

#[test]
fn a_used_up_ttl_is_told_to_the_sender() {
    for side in SIDES {
        let mut packet = udp((side.client, 1000), (side.server, 53));
        packet.ttl = 1;
        let trace = router().receive(LEFT, packet).expect("all is understood");
        assert_eq!(dropped(&trace), &DropCause::TimeExceeded);
        assert_eq!(error_in(&answered(&trace).1), IcmpError::TimeExceeded);
    }
}

#[test]
fn impossible_sources_are_dropped() {
    for (source, cause) in [
        ("127.0.0.1", DropCause::Martian),
        ("10.0.0.1", DropCause::Martian),
        ("0.0.0.0", DropCause::Martian),
        ("224.0.0.1", DropCause::Martian),
    ] {
        let packet = udp((source, 1000), (SIDES[0].server, 53));
        let trace = router().receive(LEFT, packet).expect("all is understood");
        assert_eq!(dropped(&trace), &cause, "{source}");
    }
}

/// Whether a packet whose source is routed by `right` may come in by `left`.
fn passes(settings: &[(SysctlKey, &str)], mark_rule: bool) -> bool {
    let side = SIDES[0];
    let mut host = router();
    if mark_rule {
        let mark = Some((0x10, 0xff));
        let action = RuleAction::Lookup { table: 100, suppress_prefix: None };
        host.kernel.foreign_rule(RoutingRule { mark, action, ..rule(&side, 100) }, 4);
        let route = Route {
            table: 100,
            destination: "203.0.113.0/24".parse().expect("a network"),
            gateway: Some(ip(side.client)),
            interface: LEFT.into(),
            onlink: false,
        };
        host.kernel.foreign_route(route, 4);
        rules(&mut host, side.family, &["mangle PREROUTING -j MARK --set-xmark 0x10/0xff"]);
    } else {
        host.kernel.add_host_route("203.0.113.0/24", Some(side.server), RIGHT);
    }
    for (key, value) in settings {
        set(&mut host.kernel, key, value);
    }
    let packet = udp(("203.0.113.5", 1000), (side.server, 53));
    let trace = host.receive(LEFT, packet).expect("all is understood");
    match &trace.outcome {
        smartnat_sim::walk::Outcome::Dropped { cause, .. } => {
            assert_eq!(cause, &DropCause::ReversePath);
            false
        }
        _ => true,
    }
}

#[test]
fn the_reverse_path_filter_is_the_larger_of_all_and_the_interface() {
    let filter =
        |name: &str, value: &'static str| (SysctlKey::ReversePathFilter(name.into()), value);
    let with_mark = |name: &str| (SysctlKey::SourceValidMark(name.into()), "1");
    for (settings, mark_rule, expected) in [
        (vec![], false, true),
        (vec![filter(LEFT, "1")], false, false),
        (vec![filter("all", "1")], false, false),
        (vec![filter(RIGHT, "1")], false, true),
        (vec![filter(LEFT, "2")], false, true),
        (vec![filter("all", "1"), filter(LEFT, "2")], false, true),
        // Without the mark there is no way back at all, with it the way that it came.
        (vec![filter(LEFT, "2")], true, false),
        (vec![filter(LEFT, "2"), with_mark(LEFT)], true, true),
        (vec![filter(LEFT, "1"), with_mark("all")], true, true),
        (vec![filter(LEFT, "1"), with_mark(RIGHT)], true, false),
        (vec![], true, true),
    ] {
        assert_eq!(passes(&settings, mark_rule), expected, "{settings:?} {mark_rule}");
    }
}

#[test]
fn a_link_without_carrier_carries_nothing() {
    for side in SIDES {
        let mut host = router();
        host.kernel.set_carrier(RIGHT, false);
        let packet = udp((side.client, 1000), (side.server, 53));
        let trace = host.receive(LEFT, packet).expect("all is understood");
        assert_eq!(dropped(&trace), &DropCause::LinkDown);
    }
}

#[test]
fn broadcast_and_unknown_interfaces_are_refused() {
    let mut host = router();
    let packet = |to: &str| udp((SIDES[0].client, 1000), (to, 53));
    for to in ["192.0.2.255", "255.255.255.255", "224.0.0.1"] {
        let refused = host.receive(LEFT, packet(to));
        assert!(matches!(refused, Err(Refusal::NotModelled(_))), "{to}: {refused:?}");
    }
    let refused = host.receive("nope", packet("10.0.0.10"));
    assert_eq!(refused, Err(Refusal::NoInterface("nope".into())));
}
