//! Whether a rule holds for a packet.

use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::Family;
use smartnat_core::objects::{
    ConnectionStates, InterfaceMatch, L4Match, SetDirection, SetElement, SetKind, SetName, XtMatch,
    XtRule,
};

use super::packet::{Icmp, Packet, Payload};
use super::path::{Flight, Walk};
use super::refusal::Refusal;
use super::trace::Relation;
use super::track::{SlotStatus, Tracking};
use crate::kernel::{Direction, Set};

/// Sets of networks up to this size are searched one by one.
const SMALL_SET: usize = 8;

impl Walk<'_> {
    pub(super) fn holds(&mut self, rule: &XtRule, flight: &Flight<'_>) -> Result<bool, Refusal> {
        let packet = &flight.packet;
        let header = rule.source.is_none_or(|net| net.contains(&packet.source))
            && rule.destination.is_none_or(|net| net.contains(&packet.destination))
            && is_interface(rule.in_interface.as_ref(), flight.input)
            && is_interface(rule.out_interface.as_ref(), flight.output)
            && rule.protocol.is_none_or(|wanted| is_protocol(wanted, packet));
        if !header {
            return Ok(false);
        }
        for m in &rule.matches {
            if !self.matches(m, flight)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn matches(&mut self, m: &XtMatch, flight: &Flight<'_>) -> Result<bool, Refusal> {
        let packet = &flight.packet;
        let holds = match m {
            XtMatch::DestinationPorts(ranges) => packet
                .ports()
                .is_some_and(|(_, port)| ranges.iter().any(|range| range.contains(port))),
            XtMatch::SourcePort(wanted) => packet.ports().is_some_and(|(port, _)| port == *wanted),
            XtMatch::TcpSyn { negated } => packet.tcp_flags().is_some_and(|flags| {
                let opens = flags.syn() && !(flags.ack() || flags.rst() || flags.fin());
                opens != *negated
            }),
            XtMatch::IcmpType { kind, code } => is_icmp_type(packet, *kind, *code),
            XtMatch::State { states, negated } => is_state(*states, flight.tracking) != *negated,
            XtMatch::Direction { reply } => match flight.tracking {
                Tracking::Of { direction, .. } => (direction == Direction::Reply) == *reply,
                _ => false,
            },
            // conntrack_mt: without a connection only a match on the state can hold.
            XtMatch::Unconfirmed => match flight.tracking {
                Tracking::Of { slot, .. } => self.slots[slot].status == SlotStatus::New,
                _ => false,
            },
            // connmark_mt: without a connection neither it nor its negation holds.
            XtMatch::ConnMark { value, mask, negated } => match flight.tracking {
                Tracking::Of { slot, .. } => {
                    (self.slots[slot].entry.flow.mark & mask == *value) != *negated
                }
                _ => false,
            },
            XtMatch::Mark { value, mask, negated } => (packet.mark & mask == *value) != *negated,
            XtMatch::Set { name, directions, negated } => {
                self.is_member(name, directions, packet)? != *negated
            }
            XtMatch::DestinationLocal => self.links.is_local(packet.destination),
            XtMatch::Random { threshold } => self.random.next_31() < *threshold,
            XtMatch::Comment(_) => true,
        };
        Ok(holds)
    }

    fn is_member(
        &self,
        name: &SetName,
        directions: &[SetDirection],
        packet: &Packet,
    ) -> Result<bool, Refusal> {
        let Some(set) = self.sets.get(name) else {
            return Refusal::not_modelled(format!("a match on set {name}, which is not there"));
        };
        let address = |direction: &SetDirection| match direction {
            SetDirection::Source => packet.source,
            SetDirection::Destination => packet.destination,
        };
        let holds = |element: SetElement| {
            let held = set.elements.get(&element);
            held.is_some_and(|expiry| expiry.is_none_or(|at| at > self.now))
        };
        match (set.spec.kind, directions) {
            (SetKind::HashIp, [direction]) => Ok(holds(SetElement::Ip(address(direction)))),
            (SetKind::HashNet, [direction]) => Ok(in_networks(set, address(direction), holds)),
            (SetKind::HashIpPortIp, [ip, port, other]) => {
                // Only protocols with ports have elements here.
                let Some((protocol, ports)) = packet.transport().zip(packet.ports()) else {
                    return Ok(false);
                };
                let port = match port {
                    SetDirection::Source => ports.0,
                    SetDirection::Destination => ports.1,
                };
                let (ip, other) = (address(ip), address(other));
                Ok(holds(SetElement::IpPortIp { ip, protocol, port, other }))
            }
            _ => Refusal::not_modelled(format!("a match on set {name} by {directions:?}")),
        }
    }
}

/// In a large set each prefix length is looked up, as the kernel does.
fn in_networks(set: &Set, address: IpAddr, holds: impl Fn(SetElement) -> bool) -> bool {
    let contains = |element: &SetElement| match element {
        SetElement::Net(net) => net.contains(&address),
        _ => false,
    };
    if set.elements.len() <= SMALL_SET {
        return set.elements.keys().any(|element| contains(element) && holds(*element));
    }
    (1..=Family::of(&address).bits())
        .filter_map(|length| IpNet::new(address, length).ok())
        .any(|net| holds(SetElement::Net(net.trunc())))
}

/// A hook without such an interface compares with an empty name.
fn is_interface(wanted: Option<&InterfaceMatch>, name: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| (Some(wanted.name.as_str()) == name) != wanted.negated)
}

fn is_protocol(wanted: L4Match, packet: &Packet) -> bool {
    match wanted {
        L4Match::Transport(protocol) => packet.transport() == Some(protocol),
        L4Match::Icmp => matches!(packet.payload, Payload::Icmp(_)),
    }
}

fn is_icmp_type(packet: &Packet, kind: u8, code: Option<u8>) -> bool {
    let numbers = |message: Icmp| message.numbers(packet.family());
    match packet.payload {
        Payload::Icmp(message) => {
            let (held_kind, held_code) = numbers(message);
            held_kind == kind && code.is_none_or(|code| code == held_code)
        }
        _ => false,
    }
}

/// `conntrack_mt`.
fn is_state(states: ConnectionStates, tracking: Tracking) -> bool {
    match tracking {
        Tracking::Of { relation: Relation::New, .. } => states.new,
        Tracking::Of { relation: Relation::Established, .. } => states.established,
        Tracking::Of { relation: Relation::Related, .. } => states.related,
        Tracking::Untracked => states.untracked,
        Tracking::Invalid | Tracking::Unseen => states.invalid,
    }
}
