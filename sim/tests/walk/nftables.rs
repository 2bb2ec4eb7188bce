//! Packets through tables of nftables.

mod affinity;
mod order;
mod translation;
mod verdicts;

use smartnat_core::model::{Family, Protocol};
use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    LookupResult, MetaKey, NFT_TABLE, NatKind, NftBase, NftChain, NftChainKind, NftData,
    NftElement, NftExpr, NftKey, NftRule, NftSetSpec, NftType, NftValue, NftVerdict, PayloadBase,
    Register, fields,
};
use smartnat_core::ops::NftOp;
use smartnat_sim::SimHost;
use smartnat_sim::walk::{Outcome, Packet, Trace};

use crate::router::{LEFT, Side, ip};

type Rules = Vec<Vec<NftExpr>>;

/// Changes our table, which comes into being if need be.
fn nft(host: &mut SimHost, ops: &[NftOp]) {
    host.kernel.foreign_nft(NFT_TABLE, &[&[NftOp::CreateTable], ops].concat());
}

fn chain(name: &str, rules: Rules) -> NftOp {
    put(name, None, rules)
}

fn base(name: &str, place: (NftChainKind, BuiltinHook, i32), rules: Rules) -> NftOp {
    let (kind, hook, priority) = place;
    put(name, Some(NftBase { kind, hook, priority, drops: false }), rules)
}

fn put(name: &str, base: Option<NftBase>, rules: Rules) -> NftOp {
    let rules = rules.into_iter().map(|expressions| NftRule { expressions, comment: None });
    NftOp::PutChain { name: name.into(), chain: NftChain { base, rules: rules.collect() } }
}

fn set(name: &str, spec: NftSetSpec) -> NftOp {
    NftOp::CreateSet { name: name.into(), spec }
}

fn add(set: &str, key: NftKey, value: NftValue) -> NftOp {
    let element = NftElement { value, comment: Some(format!("of {set}").into()) };
    NftOp::AddElement { set: set.into(), key, element }
}

fn accept() -> NftExpr {
    NftExpr::Verdict(NftVerdict::Accept)
}

fn drop() -> NftExpr {
    NftExpr::Verdict(NftVerdict::Drop)
}

fn jump(chain: &str) -> NftExpr {
    NftExpr::Verdict(NftVerdict::Jump(chain.into()))
}

fn goto(chain: &str) -> NftExpr {
    NftExpr::Verdict(NftVerdict::Goto(chain.into()))
}

fn is(from: u8, value: &[u8]) -> NftExpr {
    NftExpr::Compare { from: Register(from), negated: false, value: value.into() }
}

fn meta(key: MetaKey, to: u8) -> NftExpr {
    NftExpr::Meta { key, to: Register(to) }
}

/// Sets the packet's mark to that of the mask with bits of its own.
fn set_mark(value: u32, mask: u32) -> Vec<NftExpr> {
    vec![meta(MetaKey::Mark, 15), bits(15, !mask, value), NftExpr::SetMark { from: Register(15) }]
}

fn bits(at: u8, mask: u32, xor: u32) -> NftExpr {
    NftExpr::Bitwise {
        from: Register(at),
        to: Register(at),
        mask: mask.to_ne_bytes().into(),
        xor: xor.to_ne_bytes().into(),
    }
}

/// Packets of a transport protocol to a port.
fn to_port(protocol: Protocol, port: u16) -> Vec<NftExpr> {
    let read =
        NftExpr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: Register(0) };
    vec![meta(MetaKey::L4Proto, 0), is(0, &[protocol.number()]), read, is(0, &port.to_be_bytes())]
}

/// The key `ip daddr . meta l4proto . th dport`, from register 0 on; where it ends.
fn external(family: Family) -> (Vec<NftExpr>, u8) {
    let address = registers(family);
    let port = NftExpr::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        length: 2,
        to: Register(address + 1),
    };
    let number = if family == Family::V4 { 2 } else { 10 };
    let mut rule = vec![meta(MetaKey::NfProto, 0), is(0, &[number])];
    rule.extend([destination(family, 0), meta(MetaKey::L4Proto, address), port]);
    (rule, address + 2)
}

/// How many registers an address takes.
fn registers(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

fn source(family: Family, to: u8) -> NftExpr {
    address(family, to, (12, 8))
}

fn destination(family: Family, to: u8) -> NftExpr {
    address(family, to, (16, 24))
}

fn address(family: Family, to: u8, (v4, v6): (u32, u32)) -> NftExpr {
    let (offset, length) = match family {
        Family::V4 => (v4, 4),
        Family::V6 => (v6, 16),
    };
    NftExpr::Payload { base: PayloadBase::Network, offset, length, to: Register(to) }
}

fn lookup(set: &str, key: u8, result: LookupResult) -> NftExpr {
    NftExpr::Lookup { set: set.into(), key: Register(key), result }
}

fn endpoint(address: &str, protocol: Protocol, port: u16) -> Box<[u8]> {
    let address = fields::address(ip(address));
    fields::join([&address, &[protocol.number()], &port.to_be_bytes()])
}

fn translate(kind: NatKind, family: Family, address: u8, port: Option<u8>) -> NftExpr {
    NftExpr::Nat { kind, family, address: Register(address), port: port.map(Register) }
}

/// Whether a packet from the left passes.
fn passes(host: &mut SimHost, packet: Packet) -> bool {
    let trace = host.receive(LEFT, packet).expect("all is understood");
    matches!(trace.outcome, Outcome::Left { .. })
}

fn receive(host: &mut SimHost, by: &str, packet: Packet) -> Trace {
    host.receive(by, packet).expect("all is understood")
}

/// Addresses and ports of endpoints by external endpoint and position.
fn endpoints_spec(family: Family) -> NftSetSpec {
    let address = NftType::address(family);
    let key = [address, NftType::Protocol, NftType::Port, NftType::Mark];
    NftSetSpec::exact(key, NftData::Values(vec![address, NftType::Port]))
}

fn positioned(external: &[u8], position: u32) -> NftKey {
    NftKey::exact([external, &position.to_ne_bytes()].concat())
}

fn target(address: &str, port: u16) -> NftValue {
    NftValue::Bytes(fields::join([&fields::address(ip(address)), &port.to_be_bytes()]))
}

/// UDP to port 53 of the external address goes to the two servers, one as often as the other.
fn spread(side: &Side) -> Vec<NftOp> {
    let family = side.family;
    let external_end = endpoint(side.external, Protocol::Udp, 53);
    let (mut rule, end) = external(family);
    rule.push(NftExpr::Random { modulus: 2, to: Register(end) });
    let value = end + 1;
    rule.push(lookup("endpoints", 0, LookupResult::Value(Register(value))));
    rule.push(translate(NatKind::Destination, family, value, Some(value + registers(family))));
    vec![
        set("endpoints", endpoints_spec(family)),
        add("endpoints", positioned(&external_end, 0), target(side.server, 5353)),
        add("endpoints", positioned(&external_end, 1), target(side.other_server, 5354)),
        base("translate", (NftChainKind::Nat, BuiltinHook::Prerouting, -101), vec![rule]),
    ]
}
