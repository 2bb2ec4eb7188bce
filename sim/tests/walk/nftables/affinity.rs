//! Sets that rules fill: clients held to endpoints.

use BuiltinHook::Prerouting;
use NftChainKind::Nat;
use smartnat_core::objects::nft::SetUpdate;

use super::*;
use crate::router::{SIDES, ends, left, router, udp};

/// How long a client is held to its endpoint, milliseconds.
const HELD: u64 = 10_000;

/// Clients go where they went before, for a while; at most so many of them.
fn affine(side: &Side, most: u32) -> Vec<NftOp> {
    let family = side.family;
    let value = registers(family);
    let number = if family == Family::V4 { 2 } else { 10 };
    let client = || {
        [to_port(Protocol::Udp, 53), vec![meta(MetaKey::NfProto, 0), is(0, &[number])]]
            .into_iter()
            .flatten()
            .chain([source(family, 0)])
            .collect::<Vec<_>>()
    };
    let change = |update, timeout_millis| NftExpr::Dynset {
        set: "held".into(),
        update,
        key: Register(0),
        value: Some(Register(value)),
        timeout_millis,
    };
    let translate = || translate(NatKind::Destination, family, value, None);
    let known = [
        client(),
        vec![
            lookup("held", 0, LookupResult::Value(Register(value))),
            change(SetUpdate::Update, Some(HELD)),
            translate(),
        ],
    ];
    let index = value + registers(family);
    let chosen = [
        client(),
        vec![
            NftExpr::Random { modulus: 2, to: Register(index) },
            lookup("servers", index, LookupResult::Value(Register(value))),
            change(SetUpdate::Update, Some(HELD)),
            translate(),
        ],
    ];
    let address = NftType::address(family);
    let addresses = || NftData::Values(vec![address]);
    let held = NftSetSpec {
        dynamic: true,
        timeout: Some(0),
        size: Some(most),
        ..NftSetSpec::exact([address], addresses())
    };
    let server = |n: u32, text: &str| {
        let value = NftValue::Bytes(fields::address(ip(text)).into());
        add("servers", NftKey::exact(n.to_ne_bytes()), value)
    };
    vec![
        set("held", held),
        set("servers", NftSetSpec::exact([NftType::Mark], addresses())),
        server(0, side.server),
        server(1, side.other_server),
        base("translate", (Nat, Prerouting, -101), vec![known.concat(), chosen.concat()]),
    ]
}

fn goes_to(host: &mut SimHost, side: &Side, port: u16) -> std::net::IpAddr {
    let packet = udp((side.client, port), (side.external, 53));
    ends(&left(&receive(host, LEFT, packet)).1).1.ip()
}

fn held(host: &SimHost) -> usize {
    let table = host.kernel.nft().ours().expect("it is there");
    table.set(&"held".into()).expect("it is there").elements().count()
}

#[test]
fn a_client_goes_where_it_went_until_it_stays_away_for_long() {
    for side in SIDES {
        let mut host = router();
        nft(&mut host, &affine(&side, 10));
        let first = goes_to(&mut host, &side, 1000);
        // Each connection holds it anew.
        for port in 1001..1020 {
            host.kernel.advance(HELD - 1);
            assert_eq!(goes_to(&mut host, &side, port), first);
            assert_eq!(held(&host), 1);
        }
        host.kernel.advance(HELD);
        assert_eq!(held(&host), 0);
        let mut other = false;
        for port in 2000..2030 {
            other |= goes_to(&mut host, &side, port) != first;
            host.kernel.advance(HELD);
        }
        assert!(other, "it is held to an endpoint for ever");
    }
}

#[test]
fn a_full_set_holds_nobody_more_and_translates_nobody_more() {
    let side = SIDES[0];
    let mut host = router();
    nft(&mut host, &affine(&side, 1));
    let mut to = |from: &str| {
        let trace = receive(&mut host, LEFT, udp((from, 1000), (side.external, 53)));
        matches!(trace.outcome, Outcome::Left { .. })
    };
    assert!(to(side.client));
    // The rule ends where nothing can be added.
    assert!(!to(side.other_client));
    assert!(to(side.client));
}

#[test]
fn a_deletion_goes_on_whether_or_not_there_was_an_element() {
    for side in SIDES {
        let mut host = router();
        nft(&mut host, &affine(&side, 10));
        goes_to(&mut host, &side, 1000);
        let family = side.family;
        let number = if family == Family::V4 { 2 } else { 10 };
        let forget = NftExpr::Dynset {
            set: "held".into(),
            update: SetUpdate::Delete,
            key: Register(0),
            value: Some(Register(registers(family))),
            timeout_millis: None,
        };
        let rule = vec![
            meta(MetaKey::NfProto, 0),
            is(0, &[number]),
            source(family, 0),
            destination(family, registers(family)),
            forget,
            drop(),
        ];
        let place = (NftChainKind::Filter, BuiltinHook::Forward, 0);
        nft(&mut host, &[base("forget", place, vec![rule])]);
        for _ in 0..2 {
            assert!(!passes(&mut host, udp((side.client, 2000), (side.server, 99))));
            assert_eq!(held(&host), 0);
        }
    }
}
