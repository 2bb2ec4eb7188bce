//! A table as the core writes it, and as `nft` lists what the kernel made of it.

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::in_namespace;
use smartnat_core::model::Family;
use smartnat_core::nft_text::render_table;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftBase, NftChain, NftChainKind, NftData, NftElement,
    NftExpr, NftKey, NftRule, NftSetSpec, NftTable, NftType, NftValue, NftVerdict, PayloadBase,
    Register, SetUpdate, fields,
};
use smartnat_core::objects::{BuiltinHook, RejectWith};
use smartnat_core::ops::NftOp;
use smartnat_linux::NftClient;

/// A set, map or chain without counts: its lines, and its elements in an order of their own.
type Block = (Vec<String>, Vec<String>);

/// What both texts have to agree on, by the first line of each block.
fn blocks(text: &str) -> BTreeMap<String, Block> {
    let mut blocks = BTreeMap::new();
    let mut header = String::new();
    let (mut lines, mut elements, mut inside) = (Vec::new(), Vec::new(), false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if inside || line.starts_with("elements = {") {
            let part = line.trim_start_matches("elements = {").trim_end_matches('}');
            elements.extend(part.split(',').map(|e| uncounted(e, "")).filter(|e| !e.is_empty()));
            inside = !line.ends_with('}');
        } else if line.ends_with('{') {
            // The table ends with its first block, for what belongs to it comes first.
            let block = (std::mem::take(&mut lines), std::mem::take(&mut elements));
            let before = std::mem::replace(&mut header, line.to_owned());
            blocks.extend((!before.is_empty()).then_some((before, block)));
        } else if line == "}" && !header.is_empty() {
            elements.sort();
            let block = (std::mem::take(&mut lines), std::mem::take(&mut elements));
            blocks.insert(std::mem::take(&mut header), block);
        } else {
            lines.push(uncounted(line, "counter"));
        }
    }
    blocks
}

/// The words of a text without what was counted.
fn uncounted(text: &str, counter: &str) -> String {
    let mut words = text.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match (word, words.peek()) {
            ("counter", Some(&"packets")) => {
                words.by_ref().take(4).for_each(drop);
                kept.extend((!counter.is_empty()).then_some(counter));
            }
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

/// Applies the operations, and compares what the core writes with what nft lists.
fn check(ops: &[NftOp]) {
    in_namespace(|| {
        let mut table = NftTable::default();
        for op in ops {
            table.follow(op);
        }
        NftClient::open().expect("opened").apply(ops).expect("applied");
        let (ours, theirs) = (render_table(&table), common::sh("nft list table inet smartnat"));
        let (ours, theirs) = (blocks(&ours), blocks(&theirs));
        assert!(!ours.is_empty());
        for (header, block) in &ours {
            assert_eq!(Some(block), theirs.get(header), "{header}");
        }
        assert_eq!(ours.len(), theirs.len());
    });
}

fn set(name: &str, spec: NftSetSpec) -> NftOp {
    NftOp::CreateSet { name: name.into(), spec }
}

fn add(set: &str, key: NftKey, value: NftValue, comment: Option<&str>) -> NftOp {
    let element = NftElement { value, comment: comment.map(Into::into) };
    NftOp::AddElement { set: set.into(), key, element }
}

fn chain(name: &str, rules: Vec<Vec<NftExpr>>) -> NftOp {
    let rules =
        rules.into_iter().map(|expressions| NftRule { expressions, comment: None }).collect();
    NftOp::PutChain { name: name.into(), chain: NftChain { base: None, rules } }
}

fn address(text: &str) -> Vec<u8> {
    fields::address(text.parse::<IpAddr>().expect("an address"))
}

fn service(text: &str, protocol: u8, port: u16) -> Box<[u8]> {
    fields::join([&address(text), &[protocol], &port.to_be_bytes()])
}

fn goto(chain: &str) -> NftValue {
    NftValue::Verdict(NftVerdict::Goto(chain.into()))
}

const SERVICE: [NftType; 3] = [NftType::Ipv4, NftType::Protocol, NftType::Port];

#[test]
fn sets_and_maps_are_written_as_nft_lists_them() {
    use NftType::{InterfaceName, Ipv4, Ipv6, Mark, Port};
    let values = |types: &[NftType]| NftData::Values(types.to_vec());
    let counted = NftSetSpec { counter: true, ..NftSetSpec::exact(SERVICE, NftData::Verdict) };
    let port = |port: u16| fields::join([&port.to_be_bytes()]);
    let mut ops = vec![NftOp::CreateTable, chain("spread", Vec::new())];
    ops.extend([
        set("services4", counted),
        add(
            "services4",
            NftKey::exact(service("203.0.113.10", 6, 8080)),
            goto("spread"),
            Some("ns/a"),
        ),
        add("services4", NftKey::exact(service("203.0.113.10", 132, 9)), goto("spread"), None),
        add(
            "services4",
            NftKey::exact(service("203.0.113.9", 17, 53)),
            NftValue::Verdict(NftVerdict::Drop),
            None,
        ),
        set("services6", NftSetSpec::exact([Ipv6, NftType::Protocol, Port], NftData::Verdict)),
        add(
            "services6",
            NftKey::exact(service("2001:db8::10", 17, 53)),
            goto("spread"),
            Some("ns/b"),
        ),
        set("marks", NftSetSpec::exact([Mark], NftData::Verdict)),
        add("marks", NftKey::exact(0x0001_0000_u32.to_ne_bytes()), goto("spread"), None),
        set("uplinks", NftSetSpec::exact([InterfaceName], NftData::Verdict)),
        add("uplinks", NftKey::exact(fields::interface("eth1")), goto("spread"), None),
        set("egress4", NftSetSpec::exact([Ipv4, InterfaceName], values(&[Ipv4]))),
        add(
            "egress4",
            NftKey::exact(fields::join([&address("10.1.0.7"), &fields::interface("eth1")])),
            NftValue::Bytes(address("203.0.113.10").into()),
            None,
        ),
        set(
            "affinity4",
            NftSetSpec {
                dynamic: true,
                timeout: Some(10_800),
                size: Some(65_536),
                ..NftSetSpec::exact([Ipv4, Port], values(&[Ipv4, Port]))
            },
        ),
        set(
            "quarantine4",
            NftSetSpec { timeout: Some(0), ..NftSetSpec::exact(SERVICE, NftData::Nothing) },
        ),
        set(
            "short-lived",
            NftSetSpec { timeout: Some(90), ..NftSetSpec::exact(SERVICE, NftData::Nothing) },
        ),
        set("shift", NftSetSpec::exact([Port], values(&[Port]))),
        add("shift", NftKey::exact(port(443)), NftValue::Bytes(port(448)), None),
    ]);
    check(&ops);
}

#[test]
fn intervals_are_written_as_nft_lists_them() {
    use NftType::{Ipv4, Ipv6, Port};
    let intervals =
        |key: &[NftType], data| NftSetSpec { interval: true, ..NftSetSpec::exact(key, data) };
    let values = |types: &[NftType]| NftData::Values(types.to_vec());
    let port = |port: u16| fields::join([&port.to_be_bytes()]);
    check(&[
        NftOp::CreateTable,
        set("ranges4", intervals(&SERVICE, values(&[Port]))),
        add(
            "ranges4",
            NftKey::interval(service("203.0.113.10", 17, 5060), service("203.0.113.10", 17, 5080)),
            NftValue::Bytes(port(5060)),
            None,
        ),
        add(
            "ranges4",
            NftKey::interval(service("203.0.113.11", 6, 5060), service("203.0.113.11", 6, 5060)),
            NftValue::Bytes(port(5060)),
            Some("one"),
        ),
        set("sources4", intervals(&[Ipv4], NftData::Nothing)),
        add(
            "sources4",
            NftKey::interval(address("10.0.0.0"), address("10.255.255.255")),
            NftValue::Nothing,
            None,
        ),
        add(
            "sources4",
            NftKey::interval(address("192.168.1.4"), address("192.168.1.9")),
            NftValue::Nothing,
            None,
        ),
        add(
            "sources4",
            NftKey::interval(address("1.1.1.1"), address("1.1.1.1")),
            NftValue::Nothing,
            None,
        ),
        add(
            "sources4",
            NftKey::interval(address("224.0.0.0"), address("255.255.255.255")),
            NftValue::Nothing,
            None,
        ),
        set("everyone4", intervals(&[Ipv4], NftData::Nothing)),
        add(
            "everyone4",
            NftKey::interval(address("0.0.0.0"), address("255.255.255.255")),
            NftValue::Nothing,
            None,
        ),
        set("sources6", intervals(&[Ipv6], NftData::Nothing)),
        add(
            "sources6",
            NftKey::interval(
                address("2001:db8::"),
                address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            NftValue::Nothing,
            None,
        ),
    ]);
}

#[test]
fn base_chains_are_written_as_nft_lists_them() {
    use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
    use NftChainKind::{Filter, Nat, Route};
    let mut ops = vec![NftOp::CreateTable];
    for (number, (kind, hook, priority)) in [
        (Filter, Prerouting, -150),
        (Nat, Prerouting, -101),
        (Nat, Output, -101),
        (Nat, Postrouting, 99),
        (Filter, Forward, -150),
        (Filter, Input, -150),
        (Route, Output, -150),
        (Filter, Postrouting, 110),
        (Filter, Output, 7),
        (Filter, Input, 61),
    ]
    .into_iter()
    .enumerate()
    {
        let base = Some(NftBase { kind, hook, priority, drops: false });
        let name = format!("chain-{number}").into();
        ops.push(NftOp::PutChain { name, chain: NftChain { base, rules: Vec::new() } });
    }
    check(&ops);
}

fn payload(base: PayloadBase, offset: u32, length: u32, to: u8) -> NftExpr {
    NftExpr::Payload { base, offset, length, to: Register(to) }
}

fn meta(key: MetaKey, to: u8) -> NftExpr {
    NftExpr::Meta { key, to: Register(to) }
}

fn compare(from: u8, negated: bool, value: &[u8]) -> NftExpr {
    NftExpr::Compare { from: Register(from), negated, value: value.into() }
}

fn bitwise(register: u8, mask: &[u8], xor: &[u8]) -> NftExpr {
    let (from, to) = (Register(register), Register(register));
    NftExpr::Bitwise { from, to, mask: mask.into(), xor: xor.into() }
}

fn look_up(set: &str, key: u8, result: LookupResult) -> NftExpr {
    NftExpr::Lookup { set: set.into(), key: Register(key), result }
}

fn ipv4() -> Vec<NftExpr> {
    vec![meta(MetaKey::NfProto, 8), compare(8, false, &[2])]
}

fn protocol(number: u8) -> Vec<NftExpr> {
    vec![meta(MetaKey::L4Proto, 8), compare(8, false, &[number])]
}

fn accept() -> Vec<NftExpr> {
    vec![NftExpr::Verdict(NftVerdict::Accept)]
}

/// `ip daddr . meta l4proto . th dport` from a register on.
fn endpoint(from: u8) -> Vec<NftExpr> {
    vec![
        payload(PayloadBase::Network, 16, 4, from),
        meta(MetaKey::L4Proto, from + 1),
        payload(PayloadBase::Transport, 2, 2, from + 2),
    ]
}

fn client(to: u8) -> Vec<NftExpr> {
    vec![payload(PayloadBase::Network, 12, 4, to)]
}

#[test]
fn marks_and_connections_are_written_as_nft_lists_them() {
    let number = u32::to_ne_bytes;
    let masked = |key, mask: u32, negated, value: u32| {
        let read = NftExpr::Ct { key, to: Register(8) };
        let compared = compare(8, negated, &number(value));
        [vec![read, bitwise(8, &number(mask), &[0; 4]), compared], accept()].concat()
    };
    let changed = |mask: u32, xor: u32| {
        vec![
            NftExpr::Ct { key: CtKey::Mark, to: Register(8) },
            bitwise(8, &number(mask), &number(xor)),
            NftExpr::SetMark { from: Register(8) },
        ]
    };
    let direction = NftExpr::Ct { key: CtKey::Direction, to: Register(8) };
    let state = NftExpr::Ct { key: CtKey::State, to: Register(8) };
    let rules = vec![
        masked(CtKey::Mark, 0x00ff_0000, false, 0),
        masked(CtKey::Mark, 0x0040_0000, true, 0x0040_0000),
        masked(CtKey::State, 8, true, 0),
        masked(CtKey::State, 6, true, 0),
        masked(CtKey::State, 6, false, 0),
        masked(CtKey::Status, 8, false, 0),
        masked(CtKey::Status, 8, false, 8),
        masked(CtKey::Status, 0x38, false, 0x30),
        changed(0xffe0_ffff, 0x0001_0000),
        changed(0xffff_ffff, 0x0001_0000),
        changed(0xff, 0x0101),
        changed(0x00ff_0000, 0),
        vec![meta(MetaKey::Mark, 3), NftExpr::SetCtMark { from: Register(3) }],
        [vec![direction, compare(8, false, &[1])], accept()].concat(),
        [vec![state.clone(), compare(8, false, &number(1))], accept()].concat(),
        [vec![state, compare(8, true, &number(10))], accept()].concat(),
    ];
    check(&[NftOp::CreateTable, chain("rules", rules)]);
}

#[test]
fn headers_are_written_as_nft_lists_them() {
    let flags = |mask: u8, negated, value: u8| {
        let read = payload(PayloadBase::Transport, 13, 1, 9);
        let compared = [bitwise(9, &[mask], &[0]), compare(9, negated, &[value])];
        [protocol(6), vec![read], compared.to_vec(), accept()].concat()
    };
    let one = |before: Vec<NftExpr>, read: NftExpr, value: &[u8]| {
        [before, vec![read, compare(9, false, value)], accept()].concat()
    };
    let port = || payload(PayloadBase::Transport, 2, 2, 9);
    let daddr = |length| payload(PayloadBase::Network, 16, length, 9);
    let ipv6 = vec![meta(MetaKey::NfProto, 0), compare(0, false, &[10])];
    let local =
        [NftExpr::DestinationType { to: Register(9) }, compare(9, false, &2_u32.to_ne_bytes())];
    let network =
        [daddr(4), bitwise(9, &[240, 0, 0, 0], &[0; 4]), compare(9, false, &[224, 0, 0, 0])];
    let names = [meta(MetaKey::InputName, 0), compare(0, true, &fields::interface("eth1"))];
    let rules = vec![
        flags(0x17, true, 2),
        flags(0x12, false, 2),
        flags(2, false, 0),
        flags(2, false, 2),
        flags(6, true, 0),
        flags(0x12, false, 0x12),
        one(ipv4(), daddr(4), &[10, 0, 0, 1]),
        one(Vec::new(), daddr(4), &[10, 0, 0, 1]),
        one(ipv4(), daddr(1), &[127]),
        one(ipv6, payload(PayloadBase::Network, 24, 2, 9), &[0xfe, 0x80]),
        one(protocol(17), port(), &[0, 68]),
        one([ipv4(), protocol(17)].concat(), port(), &[0, 68]),
        one(Vec::new(), port(), &[0, 68]),
        one(protocol(1), payload(PayloadBase::Transport, 0, 1, 9), &[8]),
        one([ipv4(), protocol(1)].concat(), payload(PayloadBase::Transport, 0, 1, 9), &[8]),
        one(protocol(58), payload(PayloadBase::Transport, 0, 1, 9), &[135]),
        one(protocol(17), payload(PayloadBase::Transport, 0, 4, 9), &[0, 67, 0, 68]),
        one(protocol(1), payload(PayloadBase::Transport, 0, 2, 9), &[3, 4]),
        one(protocol(132), payload(PayloadBase::Transport, 12, 1, 9), &[1]),
        [protocol(58), accept()].concat(),
        [ipv4(), accept()].concat(),
        [local.to_vec(), accept()].concat(),
        [ipv4(), network.to_vec(), accept()].concat(),
        [names.to_vec(), vec![NftExpr::Counter], accept()].concat(),
        [protocol(6), vec![NftExpr::Reject(RejectWith::TcpReset)]].concat(),
        vec![NftExpr::Reject(RejectWith::PortUnreachable)],
    ];
    check(&[NftOp::CreateTable, chain("rules", rules)]);
}

#[test]
fn look_ups_and_translations_are_written_as_nft_lists_them() {
    use NftType::{Ipv4, Mark, Port};
    let values = |types: &[NftType]| NftData::Values(types.to_vec());
    let chosen = [&SERVICE[..], &[Mark]].concat();
    let affinity = [&[Ipv4], &SERVICE[..]].concat();
    let dynamic = NftSetSpec {
        dynamic: true,
        timeout: Some(10_800),
        size: Some(1_024),
        ..NftSetSpec::exact(affinity, values(&[Ipv4, Port]))
    };
    let sources = NftSetSpec { interval: true, ..NftSetSpec::exact([Ipv4], NftData::Nothing) };
    let value = |set: &str, key, to| look_up(set, key, LookupResult::Value(Register(to)));
    let random = || vec![NftExpr::Random { modulus: 3, to: Register(3) }];
    let translate = |kind, address, port: Option<u8>| {
        let (address, port) = (Register(address), port.map(Register));
        vec![NftExpr::Nat { kind, family: Family::V4, address, port }]
    };
    let (source, destination) = (NatKind::Source, NatKind::Destination);
    let shifted = vec![payload(PayloadBase::Transport, 2, 2, 10), value("shift", 10, 10)];
    let change = |update, timeout_millis| NftExpr::Dynset {
        set: "affinity4".into(),
        update,
        key: Register(0),
        value: Some(Register(9)),
        timeout_millis,
    };
    let plain =
        vec![payload(PayloadBase::Network, 16, 4, 9), payload(PayloadBase::Transport, 2, 2, 10)];
    let keyed = || [ipv4(), client(0), endpoint(1), plain.clone()].concat();
    let rules = vec![
        [ipv4(), endpoint(0), vec![look_up("services4", 0, LookupResult::Verdict)]].concat(),
        [
            ipv4(),
            client(0),
            vec![look_up("sources4", 0, LookupResult::Membership { negated: true })],
            accept(),
        ]
        .concat(),
        [
            ipv4(),
            endpoint(0),
            random(),
            vec![value("endpoints4", 0, 0)],
            translate(destination, 0, Some(1)),
        ]
        .concat(),
        [
            ipv4(),
            endpoint(0),
            random(),
            vec![value("endpoints4", 0, 9)],
            translate(destination, 9, Some(10)),
        ]
        .concat(),
        [
            ipv4(),
            endpoint(0),
            random(),
            vec![value("range-endpoints4", 0, 9)],
            shifted,
            translate(destination, 9, Some(10)),
        ]
        .concat(),
        [keyed(), vec![change(SetUpdate::Update, Some(20_000))], accept()].concat(),
        [keyed(), vec![change(SetUpdate::Delete, None)], accept()].concat(),
    ];
    let leaving = vec![
        [ipv4(), client(9), translate(source, 9, None)].concat(),
        vec![NftExpr::Masquerade],
        [
            ipv4(),
            client(0),
            vec![meta(MetaKey::OutputName, 1), value("egress4", 0, 9)],
            translate(source, 9, None),
        ]
        .concat(),
    ];
    let base = |hook, rules: Vec<Vec<NftExpr>>| NftChain {
        base: Some(NftBase { kind: NftChainKind::Nat, hook, priority: 0, drops: false }),
        rules: rules
            .into_iter()
            .map(|expressions| NftRule { expressions, comment: Some("why".into()) })
            .collect(),
    };
    check(&[
        NftOp::CreateTable,
        set("services4", NftSetSpec::exact(SERVICE, NftData::Verdict)),
        set("sources4", sources),
        set("endpoints4", NftSetSpec::exact(chosen.clone(), values(&[Ipv4, Port]))),
        set("range-endpoints4", NftSetSpec::exact(chosen, values(&[Ipv4]))),
        set("shift", NftSetSpec::exact([Port], values(&[Port]))),
        set("egress4", NftSetSpec::exact([Ipv4, NftType::InterfaceName], values(&[Ipv4]))),
        set("affinity4", dynamic),
        NftOp::PutChain { name: "in".into(), chain: base(BuiltinHook::Prerouting, rules) },
        NftOp::PutChain { name: "out".into(), chain: base(BuiltinHook::Postrouting, leaving) },
    ]);
}
