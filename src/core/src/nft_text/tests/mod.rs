//! The texts are what nft 1.0.6 printed of the same expressions, unless a test says otherwise.

mod rules;
mod sets;
mod tables;

use std::collections::BTreeMap;

use super::NftSets;
use crate::objects::nft::{
    CtKey, LookupResult, MetaKey, NftData, NftExpr, NftRule, NftSet, NftSetSpec, NftType,
    NftVerdict, PayloadBase, Register,
};

fn payload(base: PayloadBase, offset: u32, length: u32, to: u8) -> NftExpr {
    NftExpr::Payload { base, offset, length, to: Register(to) }
}

fn network(offset: u32, length: u32, to: u8) -> NftExpr {
    payload(PayloadBase::Network, offset, length, to)
}

fn transport(offset: u32, length: u32, to: u8) -> NftExpr {
    payload(PayloadBase::Transport, offset, length, to)
}

fn meta(key: MetaKey, to: u8) -> NftExpr {
    NftExpr::Meta { key, to: Register(to) }
}

fn ct(key: CtKey, to: u8) -> NftExpr {
    NftExpr::Ct { key, to: Register(to) }
}

fn compare(from: u8, value: &[u8]) -> NftExpr {
    NftExpr::Compare { from: Register(from), negated: false, value: value.into() }
}

fn differ(from: u8, value: &[u8]) -> NftExpr {
    NftExpr::Compare { from: Register(from), negated: true, value: value.into() }
}

fn bitwise(from: u8, to: u8, mask: &[u8], xor: &[u8]) -> NftExpr {
    NftExpr::Bitwise { from: Register(from), to: Register(to), mask: mask.into(), xor: xor.into() }
}

/// `register & mask`, in place.
fn mask(register: u8, mask: &[u8]) -> NftExpr {
    bitwise(register, register, mask, &vec![0; mask.len()])
}

fn lookup(set: &str, key: u8, result: LookupResult) -> NftExpr {
    NftExpr::Lookup { set: set.into(), key: Register(key), result }
}

fn value_of(set: &str, key: u8, to: u8) -> NftExpr {
    lookup(set, key, LookupResult::Value(Register(to)))
}

fn verdict_of(set: &str, key: u8) -> NftExpr {
    lookup(set, key, LookupResult::Verdict)
}

fn member(set: &str, key: u8) -> NftExpr {
    lookup(set, key, LookupResult::Membership { negated: false })
}

fn accept() -> NftExpr {
    NftExpr::Verdict(NftVerdict::Accept)
}

/// `meta nfproto ipv4`, in register 8.
fn ipv4() -> [NftExpr; 2] {
    [meta(MetaKey::NfProto, 8), compare(8, &[2])]
}

/// `meta l4proto`, in register 8.
fn protocol(number: u8) -> [NftExpr; 2] {
    [meta(MetaKey::L4Proto, 8), compare(8, &[number])]
}

/// `ip daddr . meta l4proto . th dport` from a register on.
fn endpoint(from: u8) -> [NftExpr; 3] {
    [network(16, 4, from), meta(MetaKey::L4Proto, from + 1), transport(2, 2, from + 2)]
}

fn rule(parts: &[&[NftExpr]]) -> NftRule {
    NftRule { expressions: parts.concat(), comment: None }
}

fn set(key: &[NftType], data: NftData) -> NftSet {
    NftSet { spec: NftSetSpec::exact(key, data), elements: BTreeMap::new() }
}

/// Sets and maps that rules of these tests refer to.
fn sets() -> NftSets {
    use NftType::{Ipv4, Mark, Port, Protocol};
    let values = |types: &[NftType]| NftData::Values(types.to_vec());
    let endpoint = [Ipv4, Protocol, Port];
    let chosen = [Ipv4, Protocol, Port, Mark];
    let client = [Ipv4, Ipv4, Protocol, Port];
    let sets = [
        ("services4", set(&endpoint, NftData::Verdict)),
        ("ranges4", set(&endpoint, values(&[Port]))),
        ("padded4", set(&endpoint, values(&chosen))),
        ("endpoints4", set(&chosen, values(&[Ipv4, Port]))),
        ("range-endpoints4", set(&chosen, values(&[Ipv4]))),
        ("shift-5", set(&[Port], values(&[Port]))),
        ("affinity4", set(&client, values(&[Ipv4, Port]))),
        ("members4", set(&[Ipv4, Protocol, Port, Ipv4, Port], NftData::Nothing)),
        ("sources4", set(&[Ipv4], NftData::Nothing)),
        ("clients4", set(&[Ipv4, Port], NftData::Nothing)),
        ("marks", set(&[Mark], NftData::Verdict)),
        ("known-marks", set(&[Mark], NftData::Nothing)),
        ("egress4", set(&[Ipv4, NftType::InterfaceName], values(&[Ipv4]))),
    ];
    sets.into_iter().map(|(name, set)| (name.into(), set)).collect()
}
