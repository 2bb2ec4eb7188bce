//! A rule for each expression, in chains of all kinds.

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftChainKind, NftExpr, NftRule, NftVerdict, PayloadBase,
    Register, SetUpdate, fields,
};
use smartnat_core::objects::{BuiltinHook, RejectWith};
use smartnat_core::ops::NftOp;

use super::{
    R0, R1, client_and_service, compare, destination, destination_address, destination_port, name,
    of_ipv4, put, put_base, rule, source_address, verdict,
};

pub(super) fn all() -> Vec<NftOp> {
    [base_chains(), translations(), marks(), filters()].concat()
}

fn lookup(set: &str, result: LookupResult) -> NftExpr {
    NftExpr::Lookup { set: name(set), key: R0, result }
}

fn bits(mask: u32, xor: u32) -> NftExpr {
    let (mask, xor) = (mask.to_ne_bytes().into(), xor.to_ne_bytes().into());
    NftExpr::Bitwise { from: R0, to: R0, mask, xor }
}

/// Holds if any bit is set.
fn some_bit() -> NftExpr {
    NftExpr::Compare { from: R0, negated: true, value: [0; 4].into() }
}

fn ct(key: CtKey) -> NftExpr {
    NftExpr::Ct { key, to: R0 }
}

fn base_chains() -> Vec<NftOp> {
    use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
    use NftChainKind::{Filter, Nat, Route};
    let services = [&of_ipv4()[..], &destination(0)].concat();
    let services = [&services[..], &[lookup("services4", LookupResult::Verdict)]].concat();
    let to_translate = || rule([verdict(NftVerdict::Jump(name("translate")))]);
    vec![
        put_base("first", (Filter, Prerouting, i32::MIN), []),
        put_base("prerouting", (Filter, Prerouting, -150), [rule(services)]),
        put_base("translate-before", (Nat, Prerouting, -101), [to_translate()]),
        put_base("translate-local", (Nat, Output, -101), [to_translate()]),
        put_base("forward", (Filter, Forward, -150), []),
        put_base("input", (Filter, Input, -150), []),
        put_base("output", (Route, Output, -150), []),
        put_base("source", (Nat, Postrouting, 99), [rule([NftExpr::Masquerade])]),
    ]
}

fn translations() -> Vec<NftOp> {
    let nat = |kind, port| NftExpr::Nat { kind, family: Family::V4, address: R0, port };
    let source6 =
        NftExpr::Payload { base: PayloadBase::Network, offset: 8, length: 16, to: Register(4) };
    let keep_source6 = NftExpr::Nat {
        kind: NatKind::Source,
        family: Family::V6,
        address: Register(4),
        port: None,
    };
    let spread = [
        NftExpr::Random { modulus: 3, to: Register(3) },
        lookup("endpoints4", LookupResult::Value(R0)),
        nat(NatKind::Destination, Some(R1)),
    ];
    let spread = rule([&of_ipv4()[..], &destination(0), &spread].concat());
    // Of a value that a look-up left in the register nft 1.0.6 can't print the update.
    let value = [destination_address(8), destination_port(9)];
    let remember = |update, timeout_millis| {
        let dynset = NftExpr::Dynset {
            set: name("affinity4"),
            update,
            key: R0,
            value: Some(Register(8)),
            timeout_millis,
        };
        rule([&client_and_service()[..], &value, &[dynset]].concat())
    };
    let to_nat = (NftChainKind::Nat, BuiltinHook::Postrouting, 100);
    vec![
        put("spread", [NftRule { comment: Some("one of three".into()), ..spread }]),
        put(
            "affinity",
            [
                remember(SetUpdate::Delete, None),
                remember(SetUpdate::Update, None),
                remember(SetUpdate::Update, Some(20_000)),
            ],
        ),
        put_base(
            "keep-source",
            to_nat,
            [
                rule([&of_ipv4()[..], &[source_address(0), nat(NatKind::Source, None)]].concat()),
                rule([
                    NftExpr::Meta { key: MetaKey::NfProto, to: R0 },
                    compare(R0, &[10]),
                    source6,
                    keep_source6,
                ]),
            ],
        ),
    ]
}

fn marks() -> Vec<NftOp> {
    vec![put(
        "set-marks",
        [
            rule([ct(CtKey::Mark), bits(0xffff_feff, 0x100), NftExpr::SetCtMark { from: R0 }]),
            rule([
                NftExpr::Meta { key: MetaKey::Mark, to: R0 },
                bits(0xffff_00ff, 0x200),
                NftExpr::SetMark { from: R0 },
            ]),
            rule([ct(CtKey::Mark), bits(0xff00, 0), lookup("marks", LookupResult::Verdict)]),
        ],
    )]
}

fn filters() -> Vec<NftOp> {
    let member = |negated| lookup("sources4", LookupResult::Membership { negated });
    let from = |negated, then| {
        rule([&of_ipv4()[..], &[source_address(0), member(negated), verdict(then)]].concat())
    };
    let (input, output) = (Register(4), Register(12));
    let unconfirmed = NftExpr::Bitwise {
        from: R0,
        to: R1,
        mask: 8_u32.to_ne_bytes().into(),
        xor: 8_u32.to_ne_bytes().into(),
    };
    vec![
        put(
            "refuse",
            [
                rule([
                    NftExpr::Meta { key: MetaKey::L4Proto, to: R0 },
                    compare(R0, &[6]),
                    NftExpr::Reject(RejectWith::TcpReset),
                ]),
                rule([NftExpr::Reject(RejectWith::PortUnreachable)]),
            ],
        ),
        put(
            "of-connections",
            [
                rule([ct(CtKey::State), bits(6, 0), some_bit(), verdict(NftVerdict::Accept)]),
                rule([ct(CtKey::Direction), compare(R0, &[1]), verdict(NftVerdict::Return)]),
                rule([
                    ct(CtKey::Status),
                    unconfirmed,
                    compare(R1, &[0; 4]),
                    NftExpr::Counter,
                    verdict(NftVerdict::Continue),
                ]),
            ],
        ),
        put(
            "of-packets",
            [
                rule([
                    NftExpr::Meta { key: MetaKey::InputName, to: input },
                    compare(input, &fields::interface("eth1")),
                    NftExpr::Meta { key: MetaKey::OutputName, to: output },
                    NftExpr::Compare {
                        from: output,
                        negated: true,
                        value: fields::interface("eth2").into(),
                    },
                    verdict(NftVerdict::Drop),
                ]),
                rule([
                    NftExpr::DestinationType { to: R0 },
                    compare(R0, &2_u32.to_ne_bytes()),
                    verdict(NftVerdict::Goto(name("refuse"))),
                ]),
                from(true, NftVerdict::Drop),
                from(false, NftVerdict::Accept),
                rule([
                    NftExpr::Meta { key: MetaKey::InputName, to: R0 },
                    lookup("uplinks", LookupResult::Verdict),
                ]),
            ],
        ),
    ]
}
