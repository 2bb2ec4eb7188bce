//! One object of each kind.

mod chains;
mod sets;

use std::net::IpAddr;

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    MetaKey, NftBase, NftChain, NftChainKind, NftData, NftElement, NftExpr, NftKey, NftName,
    NftRule, NftSetSpec, NftType, NftValue, NftVerdict, PayloadBase, Register, fields,
};
use smartnat_core::ops::NftOp;

pub(crate) const R0: Register = Register(0);
pub(crate) const R1: Register = Register(1);

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

/// Everything, in an order that the kernel takes.
pub(crate) fn everything() -> Vec<NftOp> {
    let begin = [NftOp::CreateTable, put("translate", []), put("refuse", [])];
    [&begin[..], &sets::all(), &chains::all()].concat()
}
