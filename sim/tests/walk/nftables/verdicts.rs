//! Verdicts, look-ups, what is not understood.

use BuiltinHook::{Forward, Prerouting};
use NftChainKind::Filter;
use smartnat_core::objects::nft::CtKey;
use smartnat_sim::walk::{DropCause, Icmp, Payload, Refusal, TcpFlags};

use super::*;
use crate::router::{SIDES, dropped, left, router, tcp, udp};

const FORWARD: (NftChainKind, BuiltinHook, i32) = (Filter, Forward, 0);

#[test]
fn chains_return_go_on_and_end() {
    let verdict = |verdict| vec![NftExpr::Verdict(verdict)];
    let (back, on) = (verdict(NftVerdict::Return), verdict(NftVerdict::Continue));
    let (accepts, drops) = (vec![accept()], vec![drop()]);
    let fails = vec![meta(MetaKey::L4Proto, 0), is(0, &[99]), drop()];
    for (what, inner, outer, passes_by) in [
        ("nothing", vec![], vec![], true),
        ("accept, then drop", vec![], vec![accepts.clone(), drops.clone()], true),
        ("continue, then drop", vec![], vec![on.clone(), drops.clone()], false),
        ("continue and drop in one", vec![], vec![[on, drops.clone()].concat()], false),
        ("return from a base chain", vec![], vec![back.clone(), drops.clone()], true),
        ("what does not hold", vec![], vec![fails], true),
        ("jump and back", vec![back.clone()], vec![vec![jump("inner")], drops.clone()], false),
        ("jump to the end", vec![], vec![vec![jump("inner")], drops.clone()], false),
        ("goto and back", vec![back.clone()], vec![vec![goto("inner")], drops.clone()], true),
        ("goto to the end", vec![], vec![vec![goto("inner")], drops.clone()], true),
        ("accept below", vec![accepts], vec![vec![jump("inner")], drops.clone()], true),
        ("drop below", vec![drops], vec![vec![jump("inner")]], false),
    ] {
        let side = SIDES[0];
        let mut host = router();
        nft(&mut host, &[chain("inner", inner), base("outer", FORWARD, outer)]);
        let packet = udp((side.client, 1000), (side.server, 53));
        assert_eq!(passes(&mut host, packet), passes_by, "{what}");
    }
}

/// A chain that a jump leads to and that goes elsewhere ends where that one ends.
#[test]
fn a_goto_below_a_jump_comes_back_behind_the_jump() {
    let side = SIDES[0];
    let mut host = router();
    nft(
        &mut host,
        &[
            chain("third", vec![]),
            chain("second", vec![vec![goto("third")], vec![accept()]]),
            base("first", FORWARD, vec![vec![jump("second")], vec![drop()]]),
        ],
    );
    let trace = receive(&mut host, LEFT, udp((side.client, 1000), (side.server, 53)));
    assert_eq!(dropped(&trace).to_string(), "inet smartnat FORWARD > first rule 2");
}

#[test]
fn an_element_gives_its_verdict_and_its_name() {
    for side in SIDES {
        let (mut rule, _) = external(side.family);
        rule.push(lookup("verdicts", 0, LookupResult::Verdict));
        let address = NftType::address(side.family);
        let key = [address, NftType::Protocol, NftType::Port];
        let refused = NftKey::exact(endpoint(side.server, Protocol::Tcp, 80));
        let ops = [
            set("verdicts", NftSetSpec::exact(key, NftData::Verdict)),
            add("verdicts", refused, NftValue::Verdict(NftVerdict::Drop)),
            base("first", FORWARD, vec![rule]),
        ];
        let mut host = router();
        nft(&mut host, &ops);
        let to = |port| tcp((side.client, 1000), (side.server, port), TcpFlags::SYN);
        let trace = receive(&mut host, LEFT, to(80));
        assert!(matches!(dropped(&trace), DropCause::Rule(place) if place.index == 1));
        let told = "inet smartnat FORWARD > first rule 1: drop (of verdicts)";
        assert!(trace.to_string().contains(told), "{trace}");
        assert!(passes(&mut host, to(81)));
        // The port of a ping would be its checksum: no element can be meant.
        assert!(passes(&mut host, Packet::ping(ip(side.client), ip(side.server), 1)));
    }
}

#[test]
fn an_element_counts_the_packets_that_find_it() {
    let side = SIDES[0];
    let (mut rule, _) = external(side.family);
    rule.push(lookup("counted", 0, LookupResult::Verdict));
    let key = [NftType::address(side.family), NftType::Protocol, NftType::Port];
    let of_port = |port| NftKey::exact(endpoint(side.server, Protocol::Tcp, port));
    let accepts = || NftValue::Verdict(NftVerdict::Accept);
    let counts = NftSetSpec { counter: true, ..NftSetSpec::exact(key, NftData::Verdict) };
    let ops = [
        set("counted", counts),
        add("counted", of_port(80), accepts()),
        add("counted", of_port(81), accepts()),
        base("first", FORWARD, vec![rule]),
    ];
    let mut host = router();
    nft(&mut host, &ops);
    let send = |host: &mut SimHost, port| {
        let packet = tcp((side.client, 1000 + port), (side.server, port), TcpFlags::SYN);
        assert!(passes(host, packet));
    };
    let packets = |host: &SimHost| -> Vec<u64> {
        let table = host.kernel.nft().ours().expect("a table");
        let set = table.set(&"counted".into()).expect("a map");
        set.elements().map(|(_, held)| held.packets).collect()
    };
    let before = host.kernel.nft().ours().expect("a table").observe();
    for port in [80, 80, 82] {
        send(&mut host, port);
    }
    assert_eq!(packets(&host), [2, 0]);
    assert_eq!(host.kernel.nft().ours().expect("a table").observe(), before);
    // A change of another element does not set it back.
    nft(&mut host, &[NftOp::DeleteElement { set: "counted".into(), key: of_port(81) }]);
    send(&mut host, 80);
    assert_eq!(packets(&host), [3]);
}

#[test]
fn intervals_hold_both_ends_in_every_field() {
    let side = SIDES[0];
    let one = NftSetSpec { interval: true, ..NftSetSpec::exact([NftType::Ipv4], NftData::Nothing) };
    let two = NftSetSpec {
        interval: true,
        ..NftSetSpec::exact([NftType::Ipv4, NftType::Port], NftData::Nothing)
    };
    let bytes = |text: &str| fields::address(ip(text));
    let corner = |text: &str, port: u16| fields::join([&bytes(text), &port.to_be_bytes()]);
    let sources = NftKey::interval(bytes("192.0.2.10"), bytes("192.0.2.19"));
    let pairs = NftKey::interval(corner("192.0.2.10", 100), corner("192.0.2.19", 200));
    let member = LookupResult::Membership { negated: false };
    let no_member = LookupResult::Membership { negated: true };
    let port =
        NftExpr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: Register(1) };
    let by_source = |result| vec![source(Family::V4, 0), lookup("one", 0, result), drop()];
    let by_both = vec![source(Family::V4, 0), port, lookup("two", 0, member), drop()];
    for (what, rule, from, to_port, expected) in [
        ("before", by_source(member), "192.0.2.9", 1, true),
        ("the first", by_source(member), "192.0.2.10", 1, false),
        ("the last", by_source(member), "192.0.2.19", 1, false),
        ("behind", by_source(member), "192.0.2.20", 1, true),
        ("negated", by_source(no_member), "192.0.2.20", 1, false),
        ("both", by_both.clone(), "192.0.2.15", 150, false),
        ("the corner", by_both.clone(), "192.0.2.19", 200, false),
        ("another source", by_both.clone(), "192.0.2.20", 150, true),
        ("another port", by_both, "192.0.2.15", 99, true),
    ] {
        let mut host = router();
        let ops = [
            set("one", one.clone()),
            set("two", two.clone()),
            add("one", sources.clone(), NftValue::Nothing),
            add("two", pairs.clone(), NftValue::Nothing),
            base("first", FORWARD, vec![rule]),
        ];
        nft(&mut host, &ops);
        let packet = udp((from, 1000), (side.server, to_port));
        assert_eq!(passes(&mut host, packet), expected, "{what}");
    }
}

#[test]
fn what_is_known_of_a_connection_and_a_packet() {
    let side = SIDES[0];
    let ct = |key| NftExpr::Ct { key, to: Register(0) };
    let number = |value: u32| is(0, &value.to_ne_bytes());
    let name = |name: &str| is(0, &fields::interface(name));
    let flags =
        NftExpr::Payload { base: PayloadBase::Transport, offset: 13, length: 1, to: Register(0) };
    let opens = NftExpr::Bitwise {
        from: Register(0),
        to: Register(0),
        mask: [0x17].into(),
        xor: [0].into(),
    };
    for (what, rule, holds) in [
        ("new", vec![ct(CtKey::State), number(8)], true),
        ("established", vec![ct(CtKey::State), number(2)], false),
        ("unconfirmed", vec![ct(CtKey::Status), bits(0, 8, 0), number(0)], true),
        ("original", vec![ct(CtKey::Direction), is(0, &[0])], true),
        ("connection mark", vec![ct(CtKey::Mark), number(0)], true),
        ("from the left", vec![meta(MetaKey::InputName, 0), name("left")], true),
        ("by the right", vec![meta(MetaKey::OutputName, 0), name("right")], true),
        ("by the left", vec![meta(MetaKey::OutputName, 0), name("left")], false),
        ("SYN alone", vec![flags.clone(), opens, is(0, &[2])], true),
        ("IPv6", vec![meta(MetaKey::NfProto, 0), is(0, &[10])], false),
        ("to this host", vec![NftExpr::DestinationType { to: Register(0) }, number(2)], false),
        ("to another", vec![NftExpr::DestinationType { to: Register(0) }, number(1)], true),
        ("counted", vec![NftExpr::Counter], true),
    ] {
        let mut host = router();
        nft(&mut host, &[base("first", FORWARD, vec![[rule, vec![drop()]].concat()])]);
        let packet = tcp((side.client, 1000), (side.server, 80), TcpFlags::SYN);
        assert_eq!(!passes(&mut host, packet), holds, "{what}");
    }
    // After routing the interface that it came by is still known.
    let mut host = router();
    let last = (Filter, BuiltinHook::Postrouting, 110);
    let rule = vec![meta(MetaKey::InputName, 0), name("left"), drop()];
    nft(&mut host, &[base("last", last, vec![rule])]);
    assert!(!passes(&mut host, udp((side.client, 1000), (side.server, 53))));
}

#[test]
fn marks_of_connections_come_back_with_every_packet() {
    for side in SIDES {
        let keep = vec![
            NftExpr::Ct { key: CtKey::Mark, to: Register(0) },
            bits(0, !0xff, 0x34),
            NftExpr::SetCtMark { from: Register(0) },
        ];
        let restore = vec![
            NftExpr::Ct { key: CtKey::Mark, to: Register(0) },
            bits(0, 0xff, 0),
            NftExpr::SetMark { from: Register(0) },
        ];
        let new = [
            vec![NftExpr::Ct { key: CtKey::State, to: Register(0) }],
            vec![is(0, &8_u32.to_ne_bytes())],
        ];
        let first = [new.concat(), keep].concat();
        let mut host = router();
        nft(&mut host, &[base("marks", (Filter, Prerouting, -150), vec![first, restore])]);
        let sent = left(&receive(&mut host, LEFT, udp((side.client, 1000), (side.server, 53)))).1;
        assert_eq!(sent.mark, 0x34);
        let reply = crate::router::back(&sent, TcpFlags::ACK);
        assert_eq!(left(&receive(&mut host, crate::router::RIGHT, reply)).1.mark, 0x34);
        assert_eq!(host.kernel.conntrack().iter().next().map(|flow| flow.mark), Some(0x34));
    }
}

#[test]
fn what_is_not_understood_is_refused_once_a_packet_reaches_it() {
    let side = SIDES[0];
    let unknown = [to_port(Protocol::Udp, 53), vec![NftExpr::Unknown("log".into())]].concat();
    let checksum =
        NftExpr::Payload { base: PayloadBase::Transport, offset: 6, length: 2, to: Register(0) };
    let beyond =
        NftExpr::Payload { base: PayloadBase::Transport, offset: 8, length: 1, to: Register(0) };
    let by_checksum = [to_port(Protocol::Udp, 54), vec![checksum, is(0, &[0, 0])]].concat();
    let by_data = [to_port(Protocol::Udp, 55), vec![beyond]].concat();
    let mut host = router();
    nft(&mut host, &[base("first", FORWARD, vec![unknown, by_checksum, by_data])]);
    let mut to = |port| host.receive(LEFT, udp((side.client, 1000), (side.server, port)));
    assert!(matches!(to(53), Err(Refusal::NftRule { chain, index: 1, .. }) if chain == "first"));
    for port in [54, 55] {
        assert!(matches!(to(port), Err(Refusal::NotModelled(_))), "{port}");
    }
    assert!(matches!(to(56).expect("no rule reads it").outcome, Outcome::Left { .. }));
}

#[test]
fn a_refusal_is_answered_if_there_is_a_route_to_the_sender_without_a_mark() {
    for side in SIDES {
        let reject = |protocol, with| [to_port(protocol, 80), vec![NftExpr::Reject(with)]].concat();
        let rules = vec![
            reject(Protocol::Tcp, smartnat_core::objects::RejectWith::TcpReset),
            reject(Protocol::Udp, smartnat_core::objects::RejectWith::PortUnreachable),
        ];
        let far = if side.family == Family::V4 { "198.51.100.7" } else { "2001:db8:99::7" };
        for (hook, from, answered) in [
            (BuiltinHook::Input, side.client, true),
            (Prerouting, side.client, true),
            (Prerouting, far, false),
        ] {
            let mut host = router();
            nft(&mut host, &[base("first", (Filter, hook, -50), rules.clone())]);
            let (from, to) = ((from, 1000), (side.external, 80));
            for packet in [tcp(from, to, TcpFlags::SYN), udp(from, to)] {
                let trace = receive(&mut host, LEFT, packet);
                assert!(matches!(dropped(&trace), DropCause::Rejected(_)), "{trace}");
                assert_eq!(trace.answers.len(), usize::from(answered), "{trace}");
                if answered {
                    let answer = left(&trace.answers[0]).1;
                    let right = match answer.payload {
                        Payload::Tcp { flags, .. } => flags.rst(),
                        Payload::Icmp(Icmp::Error { .. }) => packet.tcp_flags().is_none(),
                        _ => false,
                    };
                    assert!(right && answer.destination == ip(from.0), "{answer}");
                }
            }
        }
    }
}
