//! Translation by maps.

use BuiltinHook::{Output, Postrouting, Prerouting};
use NftChainKind::Nat;
use smartnat_core::objects::nft::CtKey;
use smartnat_sim::walk::TcpFlags;

use super::*;
use crate::router::{RIGHT, SIDES, at, back, ends, left, router, rules, udp};

fn number_of(packet: &Packet, side: &Side) -> usize {
    let (_, to) = ends(packet);
    match to {
        _ if to == at(side.server, 5353) => 0,
        _ if to == at(side.other_server, 5354) => 1,
        _ => panic!("{packet}"),
    }
}

#[test]
fn new_connections_spread_evenly_and_packets_of_one_stay_together() {
    for side in SIDES {
        let mut host = router();
        nft(&mut host, &spread(&side));
        let mut counts = [0, 0];
        for port in 1000..2000 {
            let packet = udp((side.client, port), (side.external, 53));
            let sent = left(&receive(&mut host, LEFT, packet)).1;
            let chosen = number_of(&sent, &side);
            counts[chosen] += 1;
            assert_eq!(number_of(&left(&receive(&mut host, LEFT, packet)).1, &side), chosen);
            let reply = left(&receive(&mut host, RIGHT, back(&sent, TcpFlags::ACK))).1;
            assert_eq!(ends(&reply), (at(side.external, 53), at(side.client, port)));
        }
        assert!((450..=550).contains(&counts[0]), "{counts:?}");
    }
}

#[test]
fn established_packets_meet_no_rule_of_translation() {
    let side = SIDES[0];
    let mut host = router();
    nft(&mut host, &spread(&side));
    let first = udp((side.client, 1000), (side.external, 53));
    let sent = left(&receive(&mut host, LEFT, first)).1;
    receive(&mut host, RIGHT, back(&sent, TcpFlags::ACK));
    // Whatever the rules say now.
    let of_any = NftExpr::Ct { key: CtKey::State, to: Register(0) };
    nft(&mut host, &[base("translate", (Nat, Prerouting, -101), vec![vec![of_any, drop()]])]);
    assert_eq!(ends(&left(&receive(&mut host, LEFT, first)).1), ends(&sent));
    assert!(!passes(&mut host, udp((side.client, 1001), (side.external, 53))));
}

#[test]
fn the_first_chain_that_translates_an_end_wins() {
    for side in SIDES {
        let theirs = format!(
            "nat PREROUTING -p udp -m udp --dport 53 -j DNAT --to-destination {}",
            at(side.other_server, 99)
        );
        let outcome = |priority: i32| {
            let mut host = router();
            rules(&mut host, side.family, &[&theirs]);
            let (mut rule, end) = external(side.family);
            rule.push(lookup("to", 0, LookupResult::Value(Register(end))));
            rule.push(translate(
                NatKind::Destination,
                side.family,
                end,
                Some(end + registers(side.family)),
            ));
            let address = NftType::address(side.family);
            let key = [address, NftType::Protocol, NftType::Port];
            let data = NftData::Values(vec![address, NftType::Port]);
            let external_end = NftKey::exact(endpoint(side.external, Protocol::Udp, 53));
            let ops = [
                set("to", NftSetSpec::exact(key, data)),
                add("to", external_end, target(side.server, 5353)),
                base("translate", (Nat, Prerouting, priority), vec![rule]),
            ];
            nft(&mut host, &ops);
            let packet = udp((side.client, 1000), (side.external, 53));
            ends(&left(&receive(&mut host, LEFT, packet)).1).1
        };
        let (ours, others) = (at(side.server, 5353), at(side.other_server, 99));
        assert_eq!(outcome(-101), ours);
        // Of equal priorities the youngest comes first.
        assert_eq!(outcome(-100), ours);
        assert_eq!(outcome(-99), others);
    }
}

#[test]
fn sources_are_masqueraded_given_or_kept_against_others() {
    for side in SIDES {
        let family = side.family;
        let given = if family == Family::V4 { "10.0.0.77" } else { "fd00::77" };
        let to_given = {
            let map = lookup("given", 0, LookupResult::Value(Register(4)));
            vec![source(family, 0), map, translate(NatKind::Source, family, 4, None)]
        };
        let kept = vec![source(family, 0), translate(NatKind::Source, family, 0, None)];
        let address = NftType::address(family);
        let spec = NftSetSpec::exact([address], NftData::Values(vec![address]));
        let value = NftValue::Bytes(fields::address(ip(given)).into());
        for (what, rule, expected) in [
            ("masquerade", vec![NftExpr::Masquerade], side.inside),
            ("given", to_given, given),
            ("kept", kept, side.client),
        ] {
            let mut host = router();
            rules(&mut host, family, &["nat POSTROUTING -o right -j MASQUERADE"]);
            let by_family = {
                let number = if family == Family::V4 { 2 } else { 10 };
                vec![meta(MetaKey::NfProto, 0), is(0, &[number])]
            };
            let ops = [
                set("given", spec.clone()),
                add("given", NftKey::exact(fields::address(ip(side.client))), value.clone()),
                base("source", (Nat, Postrouting, 99), vec![[by_family, rule].concat()]),
            ];
            nft(&mut host, &ops);
            let packet = udp((side.client, 1000), (side.server, 53));
            let sent = left(&receive(&mut host, LEFT, packet)).1;
            assert_eq!(ends(&sent).0, at(expected, 1000), "{what}");
            if expected == side.inside || expected == side.client {
                let reply = left(&receive(&mut host, RIGHT, back(&sent, TcpFlags::ACK))).1;
                assert_eq!(ends(&reply).1, at(side.client, 1000), "{what}");
            }
        }
    }
}

#[test]
fn what_the_host_sends_is_translated_and_routed_again() {
    for side in SIDES {
        let mut host = router();
        let translate = spread(&side).into_iter().map(|op| match op {
            NftOp::PutChain { name, chain } => NftOp::PutChain {
                name,
                chain: NftChain {
                    base: chain.base.map(|base| NftBase { hook: Output, ..base }),
                    ..chain
                },
            },
            other => other,
        });
        nft(&mut host, &translate.collect::<Vec<_>>());
        let trace = host.send(udp((side.external, 1000), (side.external, 53)));
        let trace = trace.expect("all is understood");
        let (by, sent) = left(&trace);
        assert_eq!(by, RIGHT);
        number_of(&sent, &side);
    }
}
