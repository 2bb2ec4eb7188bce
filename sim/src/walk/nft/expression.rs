//! The expressions of a rule.

use std::net::IpAddr;

use smartnat_core::model::Family;
use smartnat_core::objects::PortMapping;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftElement, NftExpr, NftKey, NftName, NftValue,
    NftVerdict, Register, SetUpdate, fields,
};

use super::registers::Value;
use super::{Deeds, Held, Position, Traversal, header};
use crate::kernel::{Direction, Entry, HeldElement, Sought};
use crate::walk::path::{Flight, Halt, Walk};
use crate::walk::refusal::Refusal;
use crate::walk::trace::{NftAction, Relation};
use crate::walk::track::{Slot, SlotStatus, Tracking};

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const NFPROTO_V4: u8 = 2;
const NFPROTO_V6: u8 = 10;
/// `RTN_UNICAST`, `RTN_LOCAL`.
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;

/// A change of a dynamic set.
struct Change<'r> {
    set: &'r NftName,
    update: SetUpdate,
    key: Register,
    value: Option<Register>,
    timeout: Option<u64>,
}

impl<'k> Walk<'k> {
    pub(super) fn expression(
        &mut self,
        at: &mut Traversal<'k>,
        position: &Position,
        expression: &NftExpr,
        flight: &mut Flight<'k>,
        deeds: &mut Deeds,
    ) -> Result<Held, Halt> {
        match expression {
            NftExpr::Payload { base, offset, length, to } => {
                at.registers.store(*to, &header::read(&flight.packet, *base, *offset, *length)?);
            }
            NftExpr::Meta { key, to } => at.registers.store(*to, &meta(*key, flight)),
            NftExpr::Ct { key, to } => match self.connection(*key, flight.tracking) {
                Some(value) => at.registers.store(*to, &value),
                None => return Ok(Held::No),
            },
            NftExpr::DestinationType { to } => {
                at.registers.store(*to, &self.destination_type(flight)?);
            }
            NftExpr::SetMark { from } => {
                flight.packet.mark = at.registers.number(*from)?;
                deeds.actions.push(NftAction::Marked(flight.packet.mark));
            }
            NftExpr::SetCtMark { from } => {
                if let Tracking::Of { slot, .. } = flight.tracking {
                    let mark = at.registers.number(*from)?;
                    self.slots[slot].entry.flow.mark = mark;
                    deeds.actions.push(NftAction::ConnectionMarked(mark));
                }
            }
            NftExpr::Bitwise { from, to, mask, xor } => {
                let held = at.registers.load(*from, mask.len());
                let masked = held.bytes.iter().zip(mask).zip(xor);
                let value = Value {
                    bytes: masked.map(|((byte, mask), xor)| (byte & mask) ^ xor).collect(),
                    known: held.known.iter().zip(mask).map(|(known, mask)| known | !mask).collect(),
                };
                at.registers.store(*to, &value);
            }
            NftExpr::Constant { value, to } => at.registers.store(*to, &Value::known(value)),
            NftExpr::Compare { from, negated, value } => {
                return Ok(hold(compare(at, *from, value)? != *negated));
            }
            NftExpr::Lookup { set, key, result } => {
                return Ok(self.look_into(at, set, *key, *result, deeds)?);
            }
            NftExpr::Random { modulus, to } => {
                // reciprocal_scale.
                let scaled = (u64::from(self.random.next_32()) * u64::from(*modulus)) >> 32;
                let number = u32::try_from(scaled).unwrap_or_default();
                at.registers.store(*to, &Value::known(&number.to_ne_bytes()));
            }
            NftExpr::Dynset { set, update, key, value, timeout_millis } => {
                let (update, key, value) = (*update, *key, *value);
                let change = Change { set, update, key, value, timeout: *timeout_millis };
                return Ok(self.change_set(at, &change, deeds)?);
            }
            NftExpr::Nat { kind, family, address, port } => {
                let ends = (*address, *port);
                return Ok(self.bind(at, (*kind, *family), ends, flight, deeds)?);
            }
            NftExpr::Masquerade => {
                self.masquerade(flight)?;
                deeds.actions.push(NftAction::Masqueraded);
                return Ok(Held::Verdict(NftVerdict::Accept));
            }
            NftExpr::Reject(with) => {
                self.reject_at(at.hook, *with, flight)?;
                deeds.actions.push(NftAction::Rejected(*with));
                return Ok(Held::Rejected);
            }
            NftExpr::Counter => {}
            NftExpr::Verdict(verdict) => return Ok(Held::Verdict(verdict.clone())),
            NftExpr::Unknown(text) => {
                return Err(Halt::Refused(Refusal::NftRule {
                    table: at.table.to_owned(),
                    chain: position.name.to_string(),
                    index: position.next,
                    text: text.clone(),
                }));
            }
        }
        Ok(Held::Yes)
    }

    /// `nft_ct_get_eval`; `None` without a connection, but for the state.
    fn connection(&self, key: CtKey, tracking: Tracking) -> Option<Value> {
        if key == CtKey::State {
            return Some(Value::known(&state(tracking).to_ne_bytes()));
        }
        let Tracking::Of { slot, direction, .. } = tracking else { return None };
        let slot = &self.slots[slot];
        Some(match key {
            CtKey::State => return None,
            CtKey::Direction => Value::known(&[u8::from(direction == Direction::Reply)]),
            CtKey::Mark => Value::known(&slot.entry.flow.mark.to_ne_bytes()),
            CtKey::Status => status(slot),
        })
    }

    /// `nft_fib4_eval_type`, `nft_fib6_eval_type`.
    fn destination_type(&self, flight: &Flight<'_>) -> Result<Value, Refusal> {
        let to = flight.packet.destination;
        let local = self.links.is_local(to);
        if !local && !to.is_ipv4() {
            // Anycast addresses and the lack of a route have types of their own.
            return Refusal::not_modelled(format!("the type of address {to}"));
        }
        self.refuse_groups(&flight.packet)?;
        let kind = if local { LOCAL } else { UNICAST };
        Ok(Value::known(&kind.to_ne_bytes()))
    }

    /// The element that a look-up finds counts it, if its set counts.
    fn count(&mut self, at: &Traversal<'k>, name: &NftName, key: Register) {
        let set = self.nft.table(at.table).and_then(|table| table.set(name));
        // Only then, since it may have to be copied.
        if set.is_some_and(|set| set.spec().counter)
            && let Some(set) = self.nft.set_mut(at.table, name)
        {
            set.count(at.registers.load(key, set.key_length()), self.now);
        }
    }

    /// `nft_lookup_eval`.
    fn look_into(
        &mut self,
        at: &mut Traversal<'k>,
        name: &NftName,
        key: Register,
        result: LookupResult,
        deeds: &mut Deeds,
    ) -> Result<Held, Refusal> {
        self.count(at, name, key);
        let Some(set) = self.nft.table(at.table).and_then(|table| table.set(name)) else {
            return Refusal::not_modelled(format!("a look-up in {name}, which is not there"));
        };
        let found = match set.seek(at.registers.load(key, set.key_length()), self.now) {
            Sought::Found(held) => Some(&held.element),
            Sought::Nothing => None,
            Sought::Unclear => {
                return Refusal::not_modelled(format!("a look-up in {name} by unknown bits"));
            }
        };
        if let Some(comment) = found.and_then(|element| element.comment.as_ref()) {
            deeds.comment = Some(comment.clone());
        }
        let held = match (result, found.map(|element| &element.value)) {
            (LookupResult::Membership { negated }, found) => hold(found.is_some() != negated),
            (LookupResult::Verdict, Some(NftValue::Verdict(verdict))) => {
                Held::Verdict(verdict.clone())
            }
            (LookupResult::Value(to), Some(NftValue::Bytes(bytes))) => {
                at.registers.store(to, &Value::known(bytes));
                Held::Yes
            }
            _ => Held::No,
        };
        Ok(held)
    }

    /// `nft_dynset_eval`: a deletion goes on whether or not there was an element, a full set takes
    /// nothing more and the rule ends.
    fn change_set(
        &mut self,
        at: &Traversal<'k>,
        change: &Change<'_>,
        deeds: &mut Deeds,
    ) -> Result<Held, Refusal> {
        let (now, name) = (self.now, change.set);
        let Some(set) = self.nft.set_mut(at.table, name) else {
            return Refusal::not_modelled(format!("a change of {name}, which is not there"));
        };
        let key = NftKey::exact(at.registers.exact(change.key, set.key_length())?);
        let value = match change.value {
            None => NftValue::Nothing,
            Some(value) => NftValue::Bytes(at.registers.exact(value, set.value_length())?.into()),
        };
        if change.update == SetUpdate::Delete {
            set.swap(&key, None);
        } else {
            let held = set.held(&key, now).cloned();
            if held.is_none() && !set.has_room() {
                return Ok(Held::No);
            }
            let expires = set.expiry(now, change.timeout);
            let element = NftElement { value, comment: None };
            let new = HeldElement { element, expires, packets: 0 };
            let refreshed = match held {
                // Its value stays, and an element without a timeout has none from then on either.
                Some(held) => HeldElement { expires: held.expires.and(expires), ..held },
                None => new,
            };
            set.swap(&key, Some(refreshed));
        }
        deeds.actions.push(NftAction::SetChanged { set: name.clone(), update: change.update });
        Ok(Held::Yes)
    }

    /// `nft_nat_inet_eval`: nothing for packets of another family.
    fn bind(
        &mut self,
        at: &Traversal<'k>,
        (kind, family): (NatKind, Family),
        (address, port): (Register, Option<Register>),
        flight: &Flight<'k>,
        deeds: &mut Deeds,
    ) -> Result<Held, Refusal> {
        if family != flight.packet.family() {
            return Ok(Held::Yes);
        }
        let address = match family {
            Family::V4 => <[u8; 4]>::try_from(at.registers.exact(address, 4)?).map(IpAddr::from),
            Family::V6 => <[u8; 16]>::try_from(at.registers.exact(address, 16)?).map(IpAddr::from),
        };
        let Ok(address) = address else {
            return Refusal::not_modelled("an address that is cut off");
        };
        let port = port.map(|port| at.registers.exact(port, 2)).transpose()?;
        let port =
            port.map(|bytes| bytes.iter().fold(0, |port, byte| (port << 8) | u16::from(*byte)));
        match (kind, port) {
            (NatKind::Source, None) => self.translate_source(flight, address),
            (NatKind::Destination, None) => {
                self.translate_destination(flight, address, PortMapping::Keep);
            }
            (NatKind::Destination, Some(1..)) if flight.packet.ports().is_some() => {
                let ports = port.map_or(PortMapping::Keep, PortMapping::To);
                self.translate_destination(flight, address, ports);
            }
            _ => return Refusal::not_modelled("a translation of that port"),
        }
        deeds.actions.push(NftAction::Translated { kind, address, port });
        Ok(Held::Verdict(NftVerdict::Accept))
    }
}

fn hold(holds: bool) -> Held {
    if holds { Held::Yes } else { Held::No }
}

/// `nft_meta_get_eval`. A hook without such an interface has an empty name.
fn meta(key: MetaKey, flight: &Flight<'_>) -> Value {
    let packet = &flight.packet;
    match key {
        MetaKey::NfProto => Value::known(&[match packet.family() {
            Family::V4 => NFPROTO_V4,
            Family::V6 => NFPROTO_V6,
        }]),
        MetaKey::L4Proto => Value::known(&[packet.tuple().protocol]),
        MetaKey::InputName => Value::known(&fields::interface(flight.input.unwrap_or_default())),
        MetaKey::OutputName => Value::known(&fields::interface(flight.output.unwrap_or_default())),
        MetaKey::Mark => Value::known(&packet.mark.to_ne_bytes()),
    }
}

/// Whether the register has these bytes.
fn compare(at: &Traversal<'_>, from: Register, value: &[u8]) -> Result<bool, Refusal> {
    let held = at.registers.load(from, value.len());
    if !held.may_be(value) {
        return Ok(false);
    }
    at.registers.exact(from, value.len()).map(|_| true)
}

/// `NF_CT_STATE_BIT`.
fn state(tracking: Tracking) -> u32 {
    match tracking {
        Tracking::Of { relation: Relation::Established, .. } => 2,
        Tracking::Of { relation: Relation::Related, .. } => 4,
        Tracking::Of { relation: Relation::New, .. } => 8,
        Tracking::Untracked => 64,
        Tracking::Invalid | Tracking::Unseen => 1,
    }
}

/// `enum ip_conntrack_status`, the bits that are modelled.
fn status(slot: &Slot) -> Value {
    const SEEN_REPLY: u32 = 1 << 1;
    const ASSURED: u32 = 1 << 2;
    const CONFIRMED: u32 = 1 << 3;
    const SOURCE_TRANSLATED: u32 = 1 << 4;
    const DESTINATION_TRANSLATED: u32 = 1 << 5;
    const SOURCE_SETTLED: u32 = 1 << 7;
    const DESTINATION_SETTLED: u32 = 1 << 8;
    let entry: &Entry = &slot.entry;
    let bits = [
        (SEEN_REPLY, entry.seen_reply),
        (ASSURED, entry.assured),
        (CONFIRMED, slot.status != SlotStatus::New),
        (SOURCE_TRANSLATED, entry.source_translated()),
        (DESTINATION_TRANSLATED, entry.destination_translated()),
        (SOURCE_SETTLED, entry.source_settled),
        (DESTINATION_SETTLED, entry.destination_settled),
    ];
    let known = bits.iter().fold(0, |known, (bit, _)| known | bit);
    let set = bits.iter().filter(|(_, on)| *on).fold(0_u32, |set, (bit, _)| set | bit);
    Value { bytes: set.to_ne_bytes().to_vec(), known: u32::to_ne_bytes(known).to_vec() }
}
