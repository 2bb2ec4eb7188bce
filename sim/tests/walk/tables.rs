//! Rules: matches, targets, chains, policies, the order of tables.

use smartnat_core::model::{Family, Protocol, Timestamp};
use smartnat_core::objects::{SetElement, SetKind, SetName, SetSpec, XtTable, XtTableId};
use smartnat_sim::SimHost;
use smartnat_sim::kernel::Policy;
use smartnat_sim::walk::{DropCause, Icmp, Outcome, Packet, Payload, Refusal, TcpFlags};

use crate::router::{LEFT, SIDES, Side, dropped, ip, left, router, rules, tcp, udp};

/// Whether the rule `-A FORWARD … -j DROP` drops the packet.
fn drops(host: &mut SimHost, side: &Side, condition: &str, packet: Packet) -> bool {
    rules(host, side.family, &[&format!("filter FORWARD {condition} -j DROP")]);
    let trace = host.receive(LEFT, packet).expect("all is understood");
    !matches!(trace.outcome, Outcome::Left { .. })
}

#[test]
fn conditions_hold_for_what_they_say() {
    for side in SIDES {
        let (client, server) = ((side.client, 1000), (side.server, 80));
        let segment = |flags| tcp(client, server, flags);
        let (syn, datagram) = (segment(TcpFlags::SYN), udp(client, server));
        let ping = Packet::ping(ip(side.client), ip(side.server), 1);
        let (icmp, echo) = match side.family {
            Family::V4 => ("icmp", "-p icmp -m icmp --icmp-type 8"),
            Family::V6 => ("ipv6-icmp", "-p ipv6-icmp -m icmp6 --icmpv6-type 128"),
        };
        let opens = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN";
        let not_opens = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN";
        for (condition, packet, expected) in [
            (format!("-s {}", side.client), syn, true),
            (format!("-s {}", side.other_client), syn, false),
            (format!("-d {}", side.server), syn, true),
            ("-i left".into(), syn, true),
            ("-i right".into(), syn, false),
            ("! -i left".into(), syn, false),
            ("-o right".into(), syn, true),
            ("! -o right".into(), syn, false),
            ("-p tcp".into(), syn, true),
            ("-p tcp".into(), datagram, false),
            (format!("-p {icmp}"), ping, true),
            (format!("-p {icmp}"), datagram, false),
            (echo.into(), ping, true),
            (echo.replace("type 8", "type 3").replace("type 128", "type 1"), ping, false),
            ("-p udp -m udp --dport 80".into(), datagram, true),
            ("-p udp -m udp --dport 81:90".into(), datagram, false),
            ("-p udp -m multiport --dports 7,70:90".into(), datagram, true),
            ("-p udp -m udp --sport 1000".into(), datagram, true),
            (opens.into(), syn, true),
            (opens.into(), segment(TcpFlags::SYN_ACK), false),
            (not_opens.into(), segment(TcpFlags::ACK), true),
            (not_opens.into(), syn, false),
            ("-m conntrack --ctstate NEW".into(), syn, true),
            ("-m conntrack --ctstate INVALID".into(), segment(TcpFlags::RST), true),
            ("-m conntrack ! --ctstate NEW,INVALID".into(), syn, false),
            ("-m conntrack --ctdir ORIGINAL".into(), syn, true),
            ("-m conntrack --ctdir REPLY".into(), syn, false),
            ("-m conntrack ! --ctstatus CONFIRMED".into(), syn, true),
            ("-m connmark --mark 0x0/0xff".into(), syn, true),
            ("-m connmark ! --mark 0x0/0xff".into(), syn, false),
            // Without a connection neither holds.
            ("-m connmark --mark 0x0/0xff".into(), segment(TcpFlags::RST), false),
            ("-m connmark ! --mark 0x0/0xff".into(), segment(TcpFlags::RST), false),
            ("-m mark --mark 0x0/0xff".into(), syn, true),
            ("-m addrtype --dst-type LOCAL".into(), syn, false),
            ("-m comment --comment words".into(), syn, true),
        ] {
            assert_eq!(drops(&mut router(), &side, &condition, packet), expected, "{condition}");
        }
    }
}

fn set(host: &mut SimHost, side: &Side, kind: SetKind, timeout: Option<u32>, of: &[SetElement]) {
    let spec = SetSpec { kind, family: side.family, timeout, max_elements: 100 };
    host.kernel.foreign_set("the-set", spec, of);
}

#[test]
fn sets_are_looked_up_by_each_dimension() {
    for side in SIDES {
        let (source, destination) = (ip(side.client), ip(side.server));
        let quad = |port| SetElement::IpPortIp {
            ip: source,
            protocol: Protocol::Udp,
            port,
            other: destination,
        };
        let net = |text: &str| SetElement::Net(text.parse().expect("a network"));
        let (own, other) = match side.family {
            Family::V4 => ("192.0.2.0/24", "192.0.3.0/24"),
            Family::V6 => ("2001:db8:2::/48", "2001:db8:3::/48"),
        };
        let many: Vec<_> = (1..20u8)
            .map(|n| match side.family {
                Family::V4 => net(&format!("198.18.{n}.0/24")),
                Family::V6 => net(&format!("2001:db8:f{n:x}::/48")),
            })
            .collect();
        for (kind, elements, directions, expected) in [
            (SetKind::HashIp, vec![SetElement::Ip(source)], "src", true),
            (SetKind::HashIp, vec![SetElement::Ip(source)], "dst", false),
            (SetKind::HashNet, vec![net(own)], "src", true),
            (SetKind::HashNet, vec![net(other)], "src", false),
            (SetKind::HashNet, [vec![net(own)], many.clone()].concat(), "src", true),
            (SetKind::HashNet, many, "src", false),
            (SetKind::HashIpPortIp, vec![quad(1000)], "src,src,dst", true),
            (SetKind::HashIpPortIp, vec![quad(53)], "src,dst,dst", true),
            (SetKind::HashIpPortIp, vec![quad(53)], "src,src,dst", false),
        ] {
            for (negation, holds) in [("", expected), ("! ", !expected)] {
                let mut host = router();
                set(&mut host, &side, kind, None, &elements);
                let condition = format!("-m set {negation}--match-set the-set {directions}");
                let packet = udp((side.client, 1000), (side.server, 53));
                assert_eq!(drops(&mut host, &side, &condition, packet), holds, "{condition}");
            }
        }
    }
}

#[test]
fn a_rule_adds_and_renews_elements_that_expire() {
    for side in SIDES {
        let mut host = router();
        set(&mut host, &side, SetKind::HashIp, Some(60), &[]);
        let name = SetName("the-set".into());
        rules(&mut host, side.family, &["mangle FORWARD -j SET --add-set the-set src --exist"]);
        let mut expiry = |wait: u64| -> Option<Timestamp> {
            host.kernel.advance(wait * 1000);
            let packet = udp((side.client, 1000), (side.server, 53));
            left(&host.receive(LEFT, packet).expect("all is understood"));
            let set = host.kernel.sets().get(&name).expect("the set");
            set.elements[&SetElement::Ip(ip(side.client))]
        };
        let first = expiry(0).expect("it expires");
        assert_eq!(expiry(59), Some(first.plus_millis(59_000)));
        host.kernel.advance(60_000);
        assert!(host.kernel.sets().get(&name).expect("the set").elements.is_empty());
    }
}

#[test]
fn marks_are_set_kept_and_restored_by_their_masks() {
    for side in SIDES {
        let mut host = router();
        rules(
            &mut host,
            side.family,
            &[
                "mangle PREROUTING -j MARK --set-xmark 0xff00/0xffff",
                "mangle PREROUTING -j MARK --set-xmark 0x12/0xff",
                "mangle PREROUTING -j CONNMARK --set-xmark 0x340034/0xff00ff",
                "mangle FORWARD -j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xf0",
            ],
        );
        let packet = udp((side.client, 1000), (side.server, 53));
        let trace = host.receive(LEFT, packet).expect("all is understood");
        assert_eq!(left(&trace).1.mark, 0xff32);
        assert_eq!(host.kernel.conntrack().iter().next().map(|f| f.mark), Some(0x0034_0034));
    }
}

#[test]
fn table_raw_comes_before_tracking_and_may_exempt_from_it() {
    for side in SIDES {
        let outcome = |line: &str| {
            let mut host = router();
            let nat =
                format!("nat PREROUTING -p udp -j DNAT --to-destination {}", side.other_server);
            let of_known = "filter FORWARD -m conntrack ! --ctstate UNTRACKED -j ACCEPT";
            rules(&mut host, side.family, &[&nat, of_known, line]);
            let packet = udp((side.client, 1000), (side.server, 53));
            let trace = host.receive(LEFT, packet).expect("all is understood");
            (trace, host.kernel.conntrack().iter().count())
        };
        let (trace, connections) = outcome("raw PREROUTING -p tcp -j DROP");
        assert_eq!((left(&trace).1.destination, connections), (ip(side.other_server), 1));
        let (trace, connections) = outcome("raw PREROUTING -p udp -j CT --notrack");
        assert_eq!((left(&trace).1.destination, connections), (ip(side.server), 0));
        let (trace, connections) = outcome("raw PREROUTING -p udp -j DROP");
        assert_eq!((dropped(&trace).to_string(), connections), ("raw PREROUTING rule 1".into(), 0));
    }
}

#[test]
fn chains_return_accept_and_fall_through_to_the_policy() {
    for side in SIDES {
        let outcome = |lines: &[&str], policy: Policy| {
            let mut host = router();
            rules(&mut host, side.family, lines);
            let filter = XtTableId { family: side.family, table: XtTable::Filter };
            host.kernel.foreign_policy(filter, "FORWARD", policy);
            let packet = udp((side.client, 1000), (side.server, 53));
            matches!(host.receive(LEFT, packet).expect("known").outcome, Outcome::Left { .. })
        };
        let (accept, drop) = (Policy::Accept, Policy::Drop);
        for (lines, policy, passes) in [
            (&["filter FORWARD -j RETURN", "filter FORWARD -j DROP"][..], accept, true),
            (&["filter FORWARD -j RETURN", "filter FORWARD -j ACCEPT"], drop, false),
            (&["filter X-A -j RETURN", "filter FORWARD -j X-A"], accept, true),
            (
                &["filter X-A -j RETURN", "filter FORWARD -j X-A", "filter FORWARD -j DROP"],
                accept,
                false,
            ),
            (&["filter X-A -j ACCEPT", "filter FORWARD -j X-A"], drop, true),
            // An accept ends its own table alone.
            (&["mangle FORWARD -j ACCEPT", "filter FORWARD -j DROP"], accept, false),
            (&["mangle FORWARD -j DROP", "filter FORWARD -j ACCEPT"], accept, false),
        ] {
            assert_eq!(outcome(lines, policy), passes, "{lines:?}");
        }
    }
}

#[test]
fn a_drop_names_its_rule_or_policy() {
    let side = SIDES[0];
    let mut host = router();
    rules(
        &mut host,
        side.family,
        &["filter X-A -s 192.0.2.99 -j DROP", "filter X-A -j DROP", "filter FORWARD -j X-A"],
    );
    let packet = udp((side.client, 1000), (side.server, 53));
    let trace = host.receive(LEFT, packet).expect("all is understood");
    let text = dropped(&trace).to_string();
    assert_eq!(text, "filter FORWARD > X-A rule 2");
    assert!(trace.to_string().contains("filter FORWARD > X-A rule 2: drop"), "{trace}");
}

#[test]
fn chance_follows_the_seed() {
    let side = SIDES[0];
    let share = |seed: u64| {
        let mut host = SimHost::new(router().kernel, seed);
        let condition = "-m statistic --mode random --probability 0.25000000000";
        rules(&mut host, side.family, &[&format!("filter FORWARD {condition} -j DROP")]);
        let passed: Vec<bool> = (0..1000u16)
            .map(|n| {
                let packet = udp((side.client, 1000 + n), (side.server, 53));
                let trace = host.receive(LEFT, packet).expect("all is understood");
                matches!(trace.outcome, Outcome::Left { .. })
            })
            .collect();
        passed
    };
    let first = share(1);
    assert_eq!(first, share(1));
    assert_ne!(first, share(2));
    let dropped = first.iter().filter(|passed| !**passed).count();
    assert!((200..=300).contains(&dropped), "{dropped}");
}

#[test]
fn a_rule_that_is_not_understood_is_refused_once_a_packet_reaches_it() {
    for side in SIDES {
        let mut host = router();
        rules(
            &mut host,
            side.family,
            &["filter FORWARD -p udp -j ACCEPT", "filter FORWARD -m recent --name x -j DROP"],
        );
        left(&host.receive(LEFT, udp((side.client, 1), (side.server, 2))).expect("known"));
        let refused = host.receive(LEFT, tcp((side.client, 1), (side.server, 2), TcpFlags::SYN));
        assert!(
            matches!(&refused, Err(Refusal::Rule { chain, index: 2, .. }) if chain == "FORWARD"),
            "{refused:?}"
        );
    }
}

#[test]
fn neighbour_discovery_is_untracked_and_other_queries_are_refused() {
    for side in SIDES {
        let message = |kind| {
            let payload = Payload::Icmp(Icmp::Other { kind, code: 0 });
            Packet::new(ip(side.client), ip(side.external), payload)
        };
        let mut host = router();
        rules(&mut host, side.family, &["filter INPUT -m conntrack ! --ctstate UNTRACKED -j DROP"]);
        let solicitation = host.receive(LEFT, message(135));
        match side.family {
            Family::V4 => assert!(matches!(solicitation, Err(Refusal::NotModelled(_)))),
            Family::V6 => {
                let outcome = solicitation.expect("all is understood").outcome;
                assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
            }
        }
        assert!(matches!(host.receive(LEFT, message(200)), Err(Refusal::NotModelled(_))));
    }
}

#[test]
fn the_policy_of_a_table_is_named() {
    let mut host = router();
    let filter = XtTableId { family: Family::V4, table: XtTable::Filter };
    host.kernel.foreign_policy(filter, "FORWARD", Policy::Drop);
    let packet = udp((SIDES[0].client, 1000), (SIDES[0].server, 53));
    let trace = host.receive(LEFT, packet).expect("all is understood");
    let hook = smartnat_core::objects::BuiltinHook::Forward;
    assert_eq!(dropped(&trace), &DropCause::Policy(XtTable::Filter.into(), hook));
}
