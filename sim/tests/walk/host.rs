//! What a host itself sends and answers: sockets, resets, errors, marks of its answers.

use smartnat_core::model::{Family, Protocol};
use smartnat_core::objects::{Route, RoutingRule, RuleAction, SysctlKey};
use smartnat_sim::SimHost;
use smartnat_sim::walk::{
    DropCause, Icmp, IcmpError, Outcome, Packet, Payload, Receiver, TcpFlags,
};

use crate::router::{
    LEFT, RIGHT, SIDES, Side, answered, at, dropped, ends, ip, left, router, rules, set, tcp, udp,
};

fn receiver(trace: &smartnat_sim::walk::Trace) -> &Receiver {
    match &trace.outcome {
        Outcome::Delivered { to, .. } => to,
        _ => panic!("it was not delivered:\n{trace}"),
    }
}

fn socket(owner: &str) -> Receiver {
    Receiver::Socket { owner: owner.into() }
}

#[test]
fn sockets_take_what_is_for_them_and_a_listener_answers() {
    for side in SIDES {
        let mut host = router();
        host.sockets.listen("all", Protocol::Tcp, None, 80);
        host.sockets.listen("one", Protocol::Udp, Some(ip(side.external)), 53);
        let syn = tcp((side.client, 1000), (side.external, 80), TcpFlags::SYN);
        let trace = host.receive(LEFT, syn).expect("all is understood");
        assert_eq!(receiver(&trace), &socket("all"));
        let (by, answer) = answered(&trace);
        assert_eq!((by, answer.tcp_flags()), (LEFT, Some(TcpFlags::SYN_ACK)));
        assert_eq!(ends(&answer), (at(side.external, 80), at(side.client, 1000)));
        // The host takes what is for any of its addresses, on whatever interface.
        for (to, expected) in [(side.external, socket("one")), (side.inside, Receiver::Nobody)] {
            let trace = host.receive(LEFT, udp((side.client, 1000), (to, 53)));
            assert_eq!(receiver(&trace.expect("all is understood")), &expected, "{to}");
        }
    }
}

#[test]
fn a_closed_port_answers_with_a_reset_or_an_error() {
    for side in SIDES {
        let mut host = router();
        for (flags, expected) in [
            (TcpFlags::SYN, Some(TcpFlags::RST_ACK)),
            (TcpFlags::ACK, Some(TcpFlags::RST)),
            (TcpFlags::RST, None),
        ] {
            let packet = tcp((side.client, 1000), (side.external, 81), flags);
            let trace = host.receive(LEFT, packet).expect("all is understood");
            assert_eq!(receiver(&trace), &Receiver::Nobody);
            let answer = trace.answers.first().and_then(|t| left(t).1.tcp_flags());
            assert_eq!(answer, expected, "{flags}");
        }
        for (packet, expected) in [
            (udp((side.client, 1000), (side.external, 81)), IcmpError::PortUnreachable),
            (
                Packet::opening(Protocol::Sctp, (ip(side.client), 1), (ip(side.external), 2)),
                IcmpError::ProtocolUnreachable,
            ),
        ] {
            let trace = host.receive(LEFT, packet).expect("all is understood");
            let (_, answer) = answered(&trace);
            let is = matches!(answer.payload, Payload::Icmp(Icmp::Error { error, .. }) if error == expected);
            assert!(is && answer.source == ip(side.external), "{answer}");
        }
    }
}

#[test]
fn a_ping_is_answered() {
    for side in SIDES {
        let ping = Packet::ping(ip(side.client), ip(side.inside), 9);
        let trace = router().receive(LEFT, ping).expect("all is understood");
        let (by, answer) = answered(&trace);
        assert_eq!((by, answer.source), (LEFT, ip(side.inside)));
        assert_eq!(answer.payload, Payload::Icmp(Icmp::Echo { reply: true, id: 9 }));
    }
}

/// A router without a way to the client but for packets with mark 0x10.
fn with_marked_way(side: &Side) -> (SimHost, &'static str) {
    let mut host = router();
    let (far, everything) = match side.family {
        Family::V4 => ("203.0.113.5", "0.0.0.0/0"),
        Family::V6 => ("2001:db8:99::5", "::/0"),
    };
    let action = RuleAction::Lookup { table: 100, suppress_prefix: None };
    let rule = RoutingRule {
        family: side.family,
        priority: 100,
        in_interface: None,
        mark: Some((0x10, 0xff)),
        destination: None,
        action,
    };
    host.kernel.foreign_rule(rule, 4);
    let route = Route {
        table: 100,
        destination: everything.parse().expect("a network"),
        gateway: Some(ip(side.client)),
        interface: LEFT.into(),
        onlink: false,
    };
    host.kernel.foreign_route(route, 4);
    rules(&mut host, side.family, &["mangle PREROUTING -j MARK --set-xmark 0x10/0xff"]);
    host.sockets.listen("server", Protocol::Tcp, None, 80);
    (host, far)
}

#[test]
fn answers_take_the_mark_of_what_they_answer_where_that_is_switched_on() {
    for side in SIDES {
        let reflect = SysctlKey::MarkReflect(side.family);
        for (what, key, port) in [
            ("a reset", reflect.clone(), Some(81)),
            ("a SYN-ACK", SysctlKey::TcpMarkAccept, Some(80)),
            ("an echo reply", reflect, None),
        ] {
            for on in [false, true] {
                let (mut host, far) = with_marked_way(&side);
                set(&mut host.kernel, &key, if on { "1" } else { "0" });
                let packet = match port {
                    Some(port) => tcp((far, 1000), (side.external, port), TcpFlags::SYN),
                    None => Packet::ping(ip(far), ip(side.external), 1),
                };
                let trace = host.receive(LEFT, packet).expect("all is understood");
                let outcomes: Vec<_> = trace.answers.iter().map(|t| &t.outcome).collect();
                let left = matches!(outcomes[..], [Outcome::Left { .. }]);
                assert_eq!(left, on, "{what}:\n{trace}");
            }
        }
    }
}

#[test]
fn a_rejected_packet_is_answered_in_its_connection() {
    for side in SIDES {
        let icmp = if side.family == Family::V4 { "icmp" } else { "icmp6" };
        let unreachable = format!("filter INPUT -j REJECT --reject-with {icmp}-port-unreachable");
        for (rule, packet) in [
            (
                "filter INPUT -p tcp -j REJECT --reject-with tcp-reset",
                tcp((side.client, 1000), (side.external, 80), TcpFlags::SYN),
            ),
            (unreachable.as_str(), udp((side.client, 1000), (side.external, 53))),
        ] {
            let mut host = router();
            host.sockets.listen("never", Protocol::Tcp, None, 80);
            rules(
                &mut host,
                side.family,
                &[
                    "mangle PREROUTING -j CONNMARK --set-xmark 0x7/0xff",
                    "mangle OUTPUT -m conntrack --ctstate RELATED -m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
                    rule,
                ],
            );
            let trace = host.receive(LEFT, packet).expect("all is understood");
            assert!(matches!(dropped(&trace), DropCause::Rejected(_)), "{trace}");
            let (by, answer) = answered(&trace);
            assert_eq!((by, answer.source, answer.mark), (LEFT, ip(side.external), 7), "{trace}");
            assert!(host.kernel.conntrack().is_empty());
        }
    }
}

#[test]
fn the_hosts_own_packets_are_routed_again_by_mark_and_by_translation() {
    for side in SIDES {
        let (mut host, far) = with_marked_way(&side);
        let nowhere = udp((side.external, 1000), (far, 53));
        let trace = host.send(nowhere).expect("all is understood");
        assert_eq!(dropped(&trace), &DropCause::NoRoute, "there is no route to begin with");
        host.kernel.add_host_route(
            if side.family == Family::V4 { "0.0.0.0/0" } else { "::/0" },
            Some(side.server),
            RIGHT,
        );
        assert_eq!(left(&host.send(nowhere).expect("all is understood")).0, RIGHT);
        rules(&mut host, side.family, &["mangle OUTPUT -j MARK --set-xmark 0x10/0xff"]);
        assert_eq!(left(&host.send(nowhere).expect("all is understood")).0, LEFT);

        let mut host = router();
        let to = at(side.server, 53);
        let dnat = format!("nat OUTPUT -p udp -m udp --dport 5353 -j DNAT --to-destination {to}");
        rules(&mut host, side.family, &[&dnat]);
        let own = udp((side.external, 1000), (side.external, 5353));
        let trace = host.send(own).expect("all is understood");
        let (by, packet) = left(&trace);
        assert_eq!((by, ends(&packet).1), (RIGHT, to));
    }
}

#[test]
fn a_packet_to_the_host_itself_comes_back_by_lo_in_its_connection() {
    for side in SIDES {
        let mut host = router();
        host.sockets.listen("server", Protocol::Udp, None, 53);
        rules(
            &mut host,
            side.family,
            &[
                "mangle INPUT ! -i lo -j DROP",
                "mangle INPUT -m conntrack ! --ctstate NEW -j DROP",
                "mangle OUTPUT -j MARK --set-xmark 0x5/0xff",
                "filter INPUT -m mark ! --mark 0x5/0xff -j DROP",
            ],
        );
        let trace = host.send(udp((side.external, 1000), (side.inside, 53)));
        assert_eq!(receiver(&trace.expect("all is understood")), &socket("server"));
        assert_eq!(host.kernel.conntrack().len(), 1);
    }
}

#[test]
fn routing_chooses_the_source_of_a_packet_that_has_none() {
    let mut host = router();
    host.kernel.add_address(RIGHT, "10.0.0.2/24");
    host.kernel.add_address(RIGHT, "fd00::2/64");
    for (to, expected) in [
        ("10.0.0.10", "10.0.0.1"),
        ("192.0.2.10", "192.0.2.1"),
        // IPv6 takes the youngest of equals.
        ("fd00::10", "fd00::2"),
        ("2001:db8:2::10", "2001:db8:2::1"),
    ] {
        let source = host.source_for(ip(to)).expect("all is understood");
        assert_eq!(source, Some(ip(expected)), "{to}");
    }
    assert_eq!(host.source_for(ip("203.0.113.1")), Ok(None));
}
