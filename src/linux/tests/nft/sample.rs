//! One object of each kind.

use std::net::IpAddr;

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftBase, NftChain, NftChainKind, NftData, NftElement,
    NftExpr, NftKey, NftName, NftRule, NftSetSpec, NftType, NftValue, NftVerdict, PayloadBase,
    Register, SetUpdate, fields,
};
use smartnat_core::objects::{BuiltinHook, RejectWith};
use smartnat_core::ops::NftOp;

pub(crate) const R0: Register = Register(0);
pub(crate) const R1: Register = Register(1);
pub(crate) const R5: Register = Register(5);

pub(crate) fn name(name: &str) -> NftName {
    name.into()
}

pub(crate) fn address(text: &str) -> Vec<u8> {
    fields::address(text.parse::<IpAddr>().expect("an address"))
}

/// A key or value of an address, TCP and a port.
pub(crate) fn service(text: &str, port: u16) -> Box<[u8]> {
    fields::join([&address(text), &[6], &port.to_be_bytes()])
}

pub(crate) fn goto(chain: &str) -> NftValue {
    NftValue::Verdict(NftVerdict::Goto(name(chain)))
}

pub(crate) fn exact(key: &[NftType], data: NftData) -> NftSetSpec {
    NftSetSpec::exact(key, data)
}

pub(crate) fn create(set: &str, spec: NftSetSpec) -> NftOp {
    NftOp::CreateSet { name: name(set), spec }
}

pub(crate) fn element(value: NftValue) -> NftElement {
    NftElement { value, comment: None }
}

pub(crate) fn add(set: &str, key: NftKey, value: NftValue) -> NftOp {
    NftOp::AddElement { set: name(set), key, element: element(value) }
}

pub(crate) fn delete(set: &str, key: NftKey) -> NftOp {
    NftOp::DeleteElement { set: name(set), key }
}

pub(crate) fn rule(expressions: impl Into<Vec<NftExpr>>) -> NftRule {
    NftRule { expressions: expressions.into(), comment: None }
}

pub(crate) fn put(chain: &str, rules: impl Into<Vec<NftRule>>) -> NftOp {
    NftOp::PutChain { name: name(chain), chain: NftChain { base: None, rules: rules.into() } }
}

pub(crate) fn put_base(
    chain: &str,
    (kind, hook, priority): (NftChainKind, BuiltinHook, i32),
    rules: impl Into<Vec<NftRule>>,
) -> NftOp {
    let base = Some(NftBase { kind, hook, priority, drops: false });
    NftOp::PutChain { name: name(chain), chain: NftChain { base, rules: rules.into() } }
}

pub(crate) fn verdict(verdict: NftVerdict) -> NftExpr {
    NftExpr::Verdict(verdict)
}

pub(crate) fn compare(from: Register, value: &[u8]) -> NftExpr {
    NftExpr::Compare { from, negated: false, value: value.into() }
}

/// Holds for packets of IPv4.
pub(crate) fn of_ipv4() -> [NftExpr; 2] {
    [NftExpr::Meta { key: MetaKey::NfProto, to: R0 }, compare(R0, &[2])]
}

/// Reads an IPv4 packet's destination address.
pub(crate) fn destination_address(to: u8) -> NftExpr {
    NftExpr::Payload { base: PayloadBase::Network, offset: 16, length: 4, to: Register(to) }
}

/// Reads an IPv4 packet's source address.
pub(crate) fn source_address(to: u8) -> NftExpr {
    NftExpr::Payload { base: PayloadBase::Network, offset: 12, length: 4, to: Register(to) }
}

/// Reads a packet's destination port.
pub(crate) fn destination_port(to: u8) -> NftExpr {
    NftExpr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: Register(to) }
}

/// Reads address, protocol and port of the destination.
pub(crate) fn destination(first: u8) -> [NftExpr; 3] {
    let protocol = NftExpr::Meta { key: MetaKey::L4Proto, to: Register(first + 1) };
    [destination_address(first), protocol, destination_port(first + 2)]
}

/// Reads an IPv4 packet's source address, and address, protocol and port of the destination.
pub(crate) fn client_and_service() -> Vec<NftExpr> {
    [&of_ipv4()[..], &[source_address(0)], &destination(1)].concat()
}

pub(crate) const SERVICE: [NftType; 3] = [NftType::Ipv4, NftType::Protocol, NftType::Port];
pub(crate) const ENDPOINT: [NftType; 2] = [NftType::Ipv4, NftType::Port];

/// Sets of all kinds, with elements.
pub(crate) fn sets() -> Vec<NftOp> {
    let mark = |mark: u32| NftKey::exact(mark.to_ne_bytes());
    let values = |types: &[NftType]| NftData::Values(types.to_vec());
    let intervals = |key: &[NftType], data| NftSetSpec { interval: true, ..exact(key, data) };
    let counted = NftSetSpec { counter: true, ..exact(&SERVICE, NftData::Verdict) };
    let endpoint = fields::join([&address("10.1.0.7"), &8080_u16.to_be_bytes()]);
    let key = [&SERVICE[..], &[NftType::Mark]].concat();
    let affinity = [&[NftType::Ipv4], &SERVICE[..]].concat();
    let timed = |key: &[NftType], data, timeout| NftSetSpec {
        timeout: Some(timeout),
        size: Some(65_536),
        ..exact(key, data)
    };
    vec![
        create("services4", counted),
        NftOp::AddElement {
            set: name("services4"),
            key: NftKey::exact(service("203.0.113.10", 8080)),
            element: NftElement { value: goto("translate"), comment: Some("default/echo".into()) },
        },
        add(
            "services4",
            NftKey::exact(service("203.0.113.10", 53)),
            NftValue::Verdict(NftVerdict::Drop),
        ),
        create("marks", exact(&[NftType::Mark], NftData::Verdict)),
        add("marks", mark(0x100), goto("translate")),
        add("marks", mark(0x1100), NftValue::Verdict(NftVerdict::Jump(name("translate")))),
        add("marks", mark(0), NftValue::Verdict(NftVerdict::Accept)),
        add("marks", mark(0x200), NftValue::Verdict(NftVerdict::Return)),
        add("marks", mark(0x300), NftValue::Verdict(NftVerdict::Continue)),
        create("mark-of-address", exact(&[NftType::Ipv4], values(&[NftType::Mark]))),
        add(
            "mark-of-address",
            NftKey::exact(address("10.1.0.7")),
            NftValue::Bytes(0x200_u32.to_ne_bytes().into()),
        ),
        create("uplinks", exact(&[NftType::InterfaceName], NftData::Verdict)),
        add("uplinks", NftKey::exact(fields::interface("eth1")), goto("translate")),
        create(
            "egress4",
            exact(&[NftType::Ipv4, NftType::InterfaceName], values(&[NftType::Ipv4])),
        ),
        add(
            "egress4",
            NftKey::exact(fields::join([&address("10.1.0.7"), &fields::interface("eth1")])),
            NftValue::Bytes(address("203.0.113.10").into()),
        ),
        create("endpoints4", exact(&key, values(&ENDPOINT))),
        add(
            "endpoints4",
            NftKey::exact([&service("203.0.113.10", 8080)[..], &1_u32.to_ne_bytes()].concat()),
            NftValue::Bytes(endpoint),
        ),
        create("shift", exact(&[NftType::Port], values(&[NftType::Port]))),
        add(
            "shift",
            NftKey::exact(fields::join([&5060_u16.to_be_bytes()])),
            NftValue::Bytes(fields::join([&6060_u16.to_be_bytes()])),
        ),
        create(
            "members6",
            exact(&[NftType::Ipv6, NftType::Protocol, NftType::Port], NftData::Nothing),
        ),
        add(
            "members6",
            NftKey::exact(fields::join([&address("2001:db8::7"), &[17], &53_u16.to_be_bytes()])),
            NftValue::Nothing,
        ),
        create("ranges4", intervals(&SERVICE, values(&[NftType::Port]))),
        add(
            "ranges4",
            NftKey::interval(service("203.0.113.10", 5060), service("203.0.113.10", 5080)),
            NftValue::Bytes(fields::join([&5060_u16.to_be_bytes()])),
        ),
        create("sources4", intervals(&[NftType::Ipv4], NftData::Nothing)),
        NftOp::AddElement {
            set: name("sources4"),
            key: NftKey::interval(address("10.0.0.0"), address("10.255.255.255")),
            element: NftElement { value: NftValue::Nothing, comment: Some("default/echo".into()) },
        },
        create(
            "affinity4",
            NftSetSpec { dynamic: true, ..timed(&affinity, values(&ENDPOINT), 10_800) },
        ),
        create("quarantine4", timed(&affinity, NftData::Nothing, 30)),
        create(
            "large",
            NftSetSpec { size: Some(128), ..exact(&[NftType::Ipv6], NftData::Nothing) },
        ),
        add("large", NftKey::exact(address("2001:db8::1")), NftValue::Nothing),
    ]
}

/// A rule for each expression, in chains of all kinds.
pub(crate) fn chains() -> Vec<NftOp> {
    use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
    use NftChainKind::{Filter, Nat, Route};
    let lookup = |set: &str, result| NftExpr::Lookup { set: name(set), key: R0, result };
    let membership = |negated| LookupResult::Membership { negated };
    let nat = |kind, port| NftExpr::Nat { kind, family: Family::V4, address: R0, port };
    let dynset = |update, timeout_millis| NftExpr::Dynset {
        set: name("affinity4"),
        update,
        key: R0,
        value: Some(Register(8)),
        timeout_millis,
    };
    // Of a value that a look-up left in the register nft 1.0.6 can't print the update.
    let value = [destination_address(8), destination_port(9)];
    let value = value.to_vec();
    let in_input = |chain: &str, rules: Vec<NftRule>| put_base(chain, (Filter, Input, -150), rules);
    vec![
        put_base(
            "postrouting-nat",
            (Nat, Postrouting, 99),
            vec![
                rule([&of_ipv4()[..], &[source_address(0), nat(NatKind::Source, None)]].concat()),
                rule([NftExpr::Masquerade]),
            ],
        ),
        put_base(
            "prerouting-nat",
            (Nat, Prerouting, -101),
            vec![rule([verdict(NftVerdict::Jump(name("translate")))])],
        ),
        put_base("output-nat", (Nat, Output, -101), vec![]),
        put_base(
            "forward",
            (Filter, Forward, i32::MIN),
            vec![
                rule([
                    NftExpr::Ct { key: CtKey::State, to: R0 },
                    NftExpr::Bitwise {
                        from: R0,
                        to: R0,
                        mask: 6_u32.to_ne_bytes().into(),
                        xor: [0; 4].into(),
                    },
                    NftExpr::Compare { from: R0, negated: true, value: [0; 4].into() },
                    verdict(NftVerdict::Accept),
                ]),
                rule([
                    NftExpr::Ct { key: CtKey::Direction, to: R5 },
                    compare(R5, &[1]),
                    verdict(NftVerdict::Return),
                ]),
                rule([
                    NftExpr::Ct { key: CtKey::Status, to: R0 },
                    NftExpr::Bitwise {
                        from: R0,
                        to: R1,
                        mask: 8_u32.to_ne_bytes().into(),
                        xor: 8_u32.to_ne_bytes().into(),
                    },
                    compare(R1, &[0; 4]),
                    NftExpr::Counter,
                    verdict(NftVerdict::Continue),
                ]),
                rule([
                    NftExpr::Meta { key: MetaKey::InputName, to: Register(4) },
                    compare(Register(4), &fields::interface("eth1")),
                    NftExpr::Meta { key: MetaKey::OutputName, to: Register(12) },
                    NftExpr::Compare {
                        from: Register(12),
                        negated: true,
                        value: fields::interface("eth2").into(),
                    },
                    verdict(NftVerdict::Drop),
                ]),
            ],
        ),
        put_base(
            "output",
            (Route, Output, -150),
            vec![
                rule([
                    NftExpr::Ct { key: CtKey::Mark, to: R0 },
                    NftExpr::Bitwise {
                        from: R0,
                        to: R0,
                        mask: 0xffff_feff_u32.to_ne_bytes().into(),
                        xor: 0x100_u32.to_ne_bytes().into(),
                    },
                    NftExpr::SetCtMark { from: R0 },
                ]),
                rule([
                    NftExpr::Meta { key: MetaKey::Mark, to: R0 },
                    NftExpr::Bitwise {
                        from: R0,
                        to: R0,
                        mask: 0xffff_00ff_u32.to_ne_bytes().into(),
                        xor: 0x200_u32.to_ne_bytes().into(),
                    },
                    NftExpr::SetMark { from: R0 },
                ]),
            ],
        ),
        in_input(
            "input",
            vec![
                rule([
                    NftExpr::DestinationType { to: R0 },
                    compare(R0, &2_u32.to_ne_bytes()),
                    verdict(NftVerdict::Goto(name("refuse"))),
                ]),
                rule(
                    [
                        &of_ipv4()[..],
                        &[
                            source_address(0),
                            lookup("sources4", membership(true)),
                            verdict(NftVerdict::Drop),
                        ],
                    ]
                    .concat(),
                ),
                rule(
                    [
                        &of_ipv4()[..],
                        &[
                            source_address(0),
                            lookup("sources4", membership(false)),
                            verdict(NftVerdict::Accept),
                        ],
                    ]
                    .concat(),
                ),
            ],
        ),
        put(
            "refuse",
            vec![
                rule([
                    NftExpr::Meta { key: MetaKey::L4Proto, to: R0 },
                    compare(R0, &[6]),
                    NftExpr::Reject(RejectWith::TcpReset),
                ]),
                rule([NftExpr::Reject(RejectWith::PortUnreachable)]),
            ],
        ),
        put(
            "spread",
            vec![NftRule {
                comment: Some("one of three".into()),
                ..rule(
                    [
                        &of_ipv4()[..],
                        &destination(0),
                        &[
                            NftExpr::Random { modulus: 3, to: Register(3) },
                            lookup("endpoints4", LookupResult::Value(R0)),
                            nat(NatKind::Destination, Some(R1)),
                        ],
                    ]
                    .concat(),
                )
            }],
        ),
        put(
            "affinity",
            [
                (SetUpdate::Delete, None),
                (SetUpdate::Update, Some(20_000)),
                (SetUpdate::Update, None),
            ]
            .map(|(update, timeout)| {
                rule([client_and_service(), value.clone(), vec![dynset(update, timeout)]].concat())
            }),
        ),
        put(
            "unmarked",
            vec![rule([
                NftExpr::Meta { key: MetaKey::InputName, to: R0 },
                lookup("uplinks", LookupResult::Verdict),
            ])],
        ),
    ]
}

/// Everything, in an order that the kernel takes.
pub(crate) fn everything() -> Vec<NftOp> {
    let services = rule(
        [
            &of_ipv4()[..],
            &destination(0),
            &[NftExpr::Lookup { set: name("services4"), key: R0, result: LookupResult::Verdict }],
        ]
        .concat(),
    );
    let mut ops = vec![NftOp::CreateTable, put("translate", vec![]), put("refuse", vec![])];
    ops.extend(sets());
    ops.extend(chains());
    ops.push(put_base(
        "prerouting",
        (NftChainKind::Filter, BuiltinHook::Prerouting, -150),
        [services],
    ));
    ops
}
