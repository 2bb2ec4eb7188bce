//! Builds rules from what they say.

use std::net::IpAddr;

use crate::model::{Family, Protocol};
use crate::objects::RejectWith;
use crate::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftExpr, NftName, NftRule, NftVerdict, PayloadBase,
    Register, SetUpdate, fields,
};

/// Bits of `ct state` (`NF_CT_STATE_BIT`).
pub(super) const INVALID: u32 = 1;
pub(super) const ESTABLISHED: u32 = 2;
pub(super) const RELATED: u32 = 4;
pub(super) const NEW: u32 = 8;
/// `IPS_CONFIRMED`.
const CONFIRMED: u32 = 1 << 3;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;
/// FIN, SYN, RST and ACK, of the flags in the fourteenth byte of the TCP header.
const TCP_FLAGS: (u32, u8) = (13, 0x17);
const SYN: u8 = 0x02;

/// A register that no key reaches.
const SPARE: Register = Register(Register::COUNT - 1);
/// What nft shows of a name that was looked up.
const STANDS_IN: [u8; 16] = *b"by name\0\0\0\0\0\0\0\0\0";

/// The first register: where a value is alone.
const FIRST: Register = Register(0);

/// A rule under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    expressions: Vec<NftExpr>,
    comment: Option<Box<str>>,
}

/// The fields of a key, one after the other in the registers.
#[derive(Clone, Debug)]
pub(super) struct Key {
    family: Family,
    next: u8,
    /// First registers of the fields.
    fields: Vec<Register>,
    loads: Vec<NftExpr>,
}

pub(super) fn rule() -> Rule {
    Rule::default()
}

impl From<Rule> for NftRule {
    fn from(rule: Rule) -> Self {
        Self { expressions: rule.expressions, comment: rule.comment }
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn protocol_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn address_at(family: Family, source: bool) -> (u32, u32) {
    match (family, source) {
        (Family::V4, true) => (12, 4),
        (Family::V4, false) => (16, 4),
        (Family::V6, true) => (8, 16),
        (Family::V6, false) => (24, 16),
    }
}

#[allow(clippy::wrong_self_convention, reason = "steps of a builder that read like the rule")]
impl Rule {
    fn push(mut self, expression: NftExpr) -> Self {
        self.expressions.push(expression);
        self
    }

    fn is(self, value: &[u8]) -> Self {
        self.push(NftExpr::Compare { from: FIRST, negated: false, value: value.into() })
    }

    fn meta(self, key: MetaKey) -> Self {
        self.push(NftExpr::Meta { key, to: FIRST })
    }

    fn ct(self, key: CtKey) -> Self {
        self.push(NftExpr::Ct { key, to: FIRST })
    }

    fn bits(self, mask: u32, xor: u32) -> Self {
        self.push(NftExpr::Bitwise {
            from: FIRST,
            to: FIRST,
            mask: mask.to_ne_bytes().into(),
            xor: xor.to_ne_bytes().into(),
        })
    }

    fn payload(self, base: PayloadBase, offset: u32, length: u32) -> Self {
        self.push(NftExpr::Payload { base, offset, length, to: FIRST })
    }

    /// Packets of one family.
    pub(super) fn family(self, family: Family) -> Self {
        self.meta(MetaKey::NfProto).is(&[protocol_family(family)])
    }

    /// `meta l4proto`.
    pub(super) fn protocol(self, protocol: Protocol) -> Self {
        self.meta(MetaKey::L4Proto).is(&[protocol.number()])
    }

    /// In one of these states.
    pub(super) fn state(self, states: u32) -> Self {
        let negated = true;
        self.ct(CtKey::State).bits(states, 0).push(zero(negated))
    }

    /// In none of these states.
    pub(super) fn no_state(self, states: u32) -> Self {
        self.ct(CtKey::State).bits(states, 0).push(zero(false))
    }

    /// The very first packet of a connection.
    pub(super) fn unconfirmed(self) -> Self {
        self.ct(CtKey::Status).bits(CONFIRMED, 0).push(zero(false))
    }

    pub(super) fn original(self) -> Self {
        self.ct(CtKey::Direction).is(&[0])
    }

    pub(super) fn reply(self) -> Self {
        self.ct(CtKey::Direction).is(&[1])
    }

    /// `ct mark & mask == value`.
    pub(super) fn ct_mark(self, value: u32, mask: u32) -> Self {
        self.ct(CtKey::Mark).bits(mask, 0).is(&value.to_ne_bytes())
    }

    /// `meta mark & mask != 0`.
    pub(super) fn marked(self, mask: u32) -> Self {
        self.meta(MetaKey::Mark).bits(mask, 0).push(zero(true))
    }

    /// The bits of `mask` become `value`.
    pub(super) fn set_mark(self, value: u32, mask: u32) -> Self {
        self.meta(MetaKey::Mark).bits(!mask, value).push(NftExpr::SetMark { from: FIRST })
    }

    /// The bits of `mask` become `value`.
    pub(super) fn set_ct_mark(self, value: u32, mask: u32) -> Self {
        self.ct(CtKey::Mark).bits(!mask, value).push(NftExpr::SetCtMark { from: FIRST })
    }

    pub(super) fn arrives_by(self, set: &str) -> Self {
        self.meta(MetaKey::InputName).member(set)
    }

    pub(super) fn leaves_by(self, set: &str) -> Self {
        self.meta(MetaKey::OutputName).member(set)
    }

    fn member(self, set: &str) -> Self {
        let result = LookupResult::Membership { negated: false };
        self.push(NftExpr::Lookup { set: set.into(), key: FIRST, result })
    }

    /// The verdict for the interface that it came in by.
    pub(super) fn by_input(self, map: &str) -> Self {
        self.meta(MetaKey::InputName).verdict_of(map, FIRST)
    }

    /// The verdict for `ct mark & mask`.
    pub(super) fn by_ct_mark(self, mask: u32, map: &str) -> Self {
        self.ct(CtKey::Mark).bits(mask, 0).verdict_of(map, FIRST)
    }

    fn verdict_of(self, map: impl Into<NftName>, key: Register) -> Self {
        self.push(NftExpr::Lookup { set: map.into(), key, result: LookupResult::Verdict })
    }

    /// TCP that opens no connection: none of its four flags but SYN is wanted.
    pub(super) fn tcp_without_syn(self) -> Self {
        let (offset, mask) = TCP_FLAGS;
        self.protocol(Protocol::Tcp)
            .payload(PayloadBase::Transport, offset, 1)
            .push(NftExpr::Bitwise { from: FIRST, to: FIRST, mask: [mask].into(), xor: [0].into() })
            .push(NftExpr::Compare { from: FIRST, negated: true, value: [SYN].into() })
    }

    /// An ICMP message of the family, of any code unless one is given.
    pub(super) fn icmp(self, family: Family, kind: u8, code: Option<u8>) -> Self {
        let number = match family {
            Family::V4 => 1,
            Family::V6 => 58,
        };
        let rule = self.family(family).meta(MetaKey::L4Proto).is(&[number]);
        match code {
            None => rule.payload(PayloadBase::Transport, 0, 1).is(&[kind]),
            Some(code) => rule.payload(PayloadBase::Transport, 0, 2).is(&[kind, code]),
        }
    }

    /// UDP from one port to another.
    pub(super) fn udp(self, source: u16, destination: u16) -> Self {
        let ports: Vec<u8> = [source, destination].into_iter().flat_map(u16::to_be_bytes).collect();
        self.protocol(Protocol::Udp).payload(PayloadBase::Transport, 0, 4).is(&ports)
    }

    /// To an address of this host.
    pub(super) fn to_this_host(self) -> Self {
        self.push(NftExpr::DestinationType { to: FIRST }).is(&LOCAL.to_ne_bytes())
    }

    /// From this address.
    pub(super) fn from_address(self, address: IpAddr) -> Self {
        let family = Family::of(&address);
        let (offset, length) = address_at(family, true);
        self.family(family)
            .payload(PayloadBase::Network, offset, length)
            .is(&fields::address(address))
    }

    /// From an address that begins with these bytes, of which the last is compared under a mask.
    pub(super) fn from_prefix(self, family: Family, bytes: [u8; 2], mask: [u8; 2]) -> Self {
        let (offset, _) = address_at(family, true);
        self.family(family)
            .payload(PayloadBase::Network, offset, 2)
            .push(NftExpr::Bitwise {
                from: FIRST,
                to: FIRST,
                mask: mask.into(),
                xor: [0, 0].into(),
            })
            .is(&bytes)
    }

    /// To an address whose first byte is this one.
    pub(super) fn to_first_byte(self, family: Family, byte: u8) -> Self {
        let (offset, _) = address_at(family, false);
        self.family(family).payload(PayloadBase::Network, offset, 1).is(&[byte])
    }

    /// Reads a key.
    pub(super) fn key(mut self, key: &mut Key) -> Self {
        if self.expressions.is_empty() {
            self = self.family(key.family);
        }
        self.expressions.append(&mut key.loads);
        self
    }

    /// The key that begins at a register is in a set.
    pub(super) fn is_in(self, set: &str, key: Register) -> Self {
        let result = LookupResult::Membership { negated: false };
        self.push(NftExpr::Lookup { set: set.into(), key, result })
    }

    /// The value for the key that begins at a register goes to a register.
    pub(super) fn value_of(self, map: &str, key: Register, to: Register) -> Self {
        let result = LookupResult::Value(to);
        self.push(NftExpr::Lookup { set: map.into(), key, result })
    }

    /// A random number below `modulus` goes to a register.
    pub(super) fn random(self, modulus: u32, to: Register) -> Self {
        self.push(NftExpr::Random { modulus, to })
    }

    /// The packet's mark goes to a register.
    pub(super) fn mark_to(self, to: Register) -> Self {
        self.push(NftExpr::Meta { key: MetaKey::Mark, to })
    }

    /// The four bytes that a map has for the key that begins at a register go to a register by way of
    /// the packet's mark, which is as before in the end. nft can't list a key or an element that has
    /// a part that was looked up (`netlink_parse_concat_expr` of nft 1.0.6), but one that has a mark.
    pub(super) fn value_by_mark(self, map: &str, key: Register, to: Register) -> Self {
        assert!(key < SPARE && to < SPARE, "the mark is kept aside meanwhile");
        self.mark_to(SPARE)
            .value_of(map, key, to)
            .push(NftExpr::SetMark { from: to })
            .mark_to(to)
            .push(NftExpr::SetMark { from: SPARE })
    }

    /// The verdict that `targets` has for the name that a map has for a key, after padding: nft takes
    /// a register for what was last put there by itself, so of a name that was looked up from the
    /// register before on it lists what was there before ([`Rule::value_by_mark`]); a comment says
    /// what it is.
    pub(super) fn by_name(mut self, map: &str, targets: &str, key: &Key) -> Self {
        let name = key.end();
        self.comment = Some(format!("by the name that @{map} has for it").into());
        self.push(NftExpr::Constant { value: STANDS_IN.into(), to: name })
            .value_of(map, key.first(), key.last())
            .verdict_of(targets, name)
    }

    /// The destination port goes to a register.
    pub(super) fn port_to(self, to: Register) -> Self {
        self.push(destination_port(to))
    }

    /// The port in a register becomes what a map says.
    pub(super) fn port_by(self, map: &str, port: Register) -> Self {
        let result = LookupResult::Value(port);
        self.push(NftExpr::Lookup { set: map.into(), key: port, result })
    }

    /// A dynamic map is changed.
    pub(super) fn dynset(
        self,
        map: &str,
        update: SetUpdate,
        key: Register,
        value: Register,
        timeout_millis: Option<u64>,
    ) -> Self {
        self.push(NftExpr::Dynset {
            set: map.into(),
            update,
            key,
            value: Some(value),
            timeout_millis,
        })
    }

    /// Translates.
    pub(super) fn translate(
        self,
        kind: NatKind,
        family: Family,
        address: Register,
        port: Option<Register>,
    ) -> Self {
        self.push(NftExpr::Nat { kind, family, address, port })
    }

    pub(super) fn masquerade(self) -> Self {
        self.push(NftExpr::Masquerade)
    }

    pub(super) fn reject(self, with: RejectWith) -> Self {
        self.push(NftExpr::Reject(with))
    }

    pub(super) fn verdict(self, verdict: NftVerdict) -> Self {
        self.push(NftExpr::Verdict(verdict))
    }

    pub(super) fn accept(self) -> Self {
        self.verdict(NftVerdict::Accept)
    }

    pub(super) fn drop(self) -> Self {
        self.verdict(NftVerdict::Drop)
    }

    pub(super) fn back(self) -> Self {
        self.verdict(NftVerdict::Return)
    }

    pub(super) fn jump(self, chain: &str) -> Self {
        self.verdict(NftVerdict::Jump(chain.into()))
    }

    pub(super) fn goto(self, chain: &str) -> Self {
        self.verdict(NftVerdict::Goto(chain.into()))
    }
}

/// Compares four bytes with zero.
fn zero(negated: bool) -> NftExpr {
    NftExpr::Compare { from: FIRST, negated, value: [0; 4].into() }
}

fn destination_port(to: Register) -> NftExpr {
    NftExpr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to }
}

impl Key {
    /// An empty key of packets of a family.
    pub(super) fn of(family: Family) -> Self {
        Self { family, next: 0, fields: Vec::new(), loads: Vec::new() }
    }

    fn field(mut self, registers: u8, load: impl FnOnce(Register) -> NftExpr) -> Self {
        let register = Register(self.next);
        self.fields.push(register);
        self.loads.push(load(register));
        self.next += registers;
        assert!(self.next <= Register::COUNT, "a key fits the registers");
        self
    }

    fn address(self, source: bool) -> Self {
        let (offset, length) = address_at(self.family, source);
        let base = PayloadBase::Network;
        let registers = if self.family == Family::V4 { 1 } else { 4 };
        self.field(registers, |to| NftExpr::Payload { base, offset, length, to })
    }

    pub(super) fn source(self) -> Self {
        self.address(true)
    }

    pub(super) fn destination(self) -> Self {
        self.address(false)
    }

    pub(super) fn protocol(self) -> Self {
        self.field(1, |to| NftExpr::Meta { key: MetaKey::L4Proto, to })
    }

    pub(super) fn source_port(self) -> Self {
        let base = PayloadBase::Transport;
        self.field(1, |to| NftExpr::Payload { base, offset: 0, length: 2, to })
    }

    pub(super) fn destination_port(self) -> Self {
        self.field(1, destination_port)
    }

    /// Leaves registers free.
    pub(super) fn skip(mut self, registers: u8) -> Self {
        self.next += registers;
        self
    }

    /// Replaces the fields from number `from` on by what a map has for them, beginning one register
    /// before with padding: so nft can list it, see [`Rule::by_name`].
    pub(super) fn replaced_by(mut self, map: &str, from: usize) -> Self {
        let key = self.fields[from];
        assert!(key.0 > 0, "there is a register before");
        let result = LookupResult::Value(Register(key.0 - 1));
        // The padding falls on what is before, so that is read again.
        let before: Vec<NftExpr> = self.loads[..from].to_vec();
        self.loads.push(NftExpr::Lookup { set: map.into(), key, result });
        self.loads.extend(before);
        self
    }

    pub(super) fn output(self) -> Self {
        self.field(4, |to| NftExpr::Meta { key: MetaKey::OutputName, to })
    }

    /// A random number below `modulus`.
    pub(super) fn random(self, modulus: u32) -> Self {
        self.field(1, |to| NftExpr::Random { modulus, to })
    }

    /// How many fields it has.
    pub(super) fn count(&self) -> usize {
        self.fields.len()
    }

    /// Of which packets.
    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// The first register of the key.
    pub(super) fn first(&self) -> Register {
        self.fields[0]
    }

    /// The last register of the key.
    pub(super) fn last(&self) -> Register {
        Register(self.next - 1)
    }

    /// The register after the key.
    pub(super) fn end(&self) -> Register {
        Register(self.next)
    }

    /// The register after an address that begins at the end of the key.
    pub(super) fn after_address(&self) -> Register {
        let registers = if self.family == Family::V4 { 1 } else { 4 };
        let register = Register(self.next + registers);
        assert!(register.0 < Register::COUNT, "an address and a port fit the registers");
        register
    }
}
