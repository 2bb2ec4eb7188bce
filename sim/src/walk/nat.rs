//! Address translation (`nf_nat_core.c`, `nf_nat_proto.c`).

use std::net::IpAddr;

use smartnat_core::model::{Family, ServiceEndpoint};
use smartnat_core::objects::{BuiltinHook, FlowTuple, Layer4, PortMapping};

use super::address;
use super::packet::{Icmp, Packet, Payload, Quoted};
use super::path::{Flight, Halt, Walk};
use super::trace::{DropCause, Relation, Step};
use super::track::{SlotStatus, Tracking, query_id};
use crate::kernel::{Direction, Entry, inverse};

/// `NF_NAT_MAX_ATTEMPTS`, `NF_NAT_HARDER_THRESH`.
const MAX_ATTEMPTS: u32 = 128;
const MIN_ATTEMPTS: u32 = 16;

/// Which end of a packet is rewritten (`enum nf_nat_manip_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    /// `HOOK2MANIP`.
    fn at(hook: BuiltinHook) -> Self {
        match hook {
            BuiltinHook::Postrouting | BuiltinHook::Input => Self::Source,
            _ => Self::Destination,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }

    fn settled(self, entry: &Entry) -> bool {
        match self {
            Self::Source => entry.source_settled,
            Self::Destination => entry.destination_settled,
        }
    }

    fn rewrite(self, packet: &mut Packet, tuple: &FlowTuple) {
        match self {
            Self::Source => packet.set_source(tuple),
            Self::Destination => packet.set_destination(tuple),
        }
    }
}

/// `struct nf_nat_range2`.
#[derive(Clone, Copy, Debug)]
struct Range {
    address: IpAddr,
    ports: PortMapping,
}

impl<'k> Walk<'k> {
    /// The hook of translation (`nf_nat_inet_fn`). Its rules see the first packet alone.
    pub(super) fn translate(
        &mut self,
        hook: BuiltinHook,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        if !self.translates(flight.packet.family()) {
            return Ok(());
        }
        let Tracking::Of { slot, relation, direction } = flight.tracking else { return Ok(()) };
        let end = End::at(hook);
        if relation == Relation::Related
            && let Payload::Icmp(Icmp::Error { error, quoted }) = flight.packet.payload
        {
            let quoted = self.translate_error(slot, direction, end, &mut flight.packet, quoted);
            flight.packet.payload = Payload::Icmp(Icmp::Error { error, quoted });
            return Ok(());
        }
        if relation != Relation::Established && !end.settled(&self.slots[slot].entry) {
            self.translating_chains(hook, end, slot, flight)?;
            if !end.settled(&self.slots[slot].entry) {
                self.settle_as_is(slot, end);
            }
        } else if self.leaves_elsewhere(slot, hook, direction, flight) {
            self.kill(slot);
            return Err(Halt::Dropped(DropCause::OtherInterface));
        }
        self.rewrite(slot, direction, end, &mut flight.packet);
        Ok(())
    }

    /// Whether the hooks of translation are registered.
    pub(super) fn translates(&self, family: Family) -> bool {
        self.xtables.translates(family) || self.nft.translates()
    }

    /// One after the other, until one has settled the connection's end.
    fn translating_chains(
        &mut self,
        hook: BuiltinHook,
        end: End,
        slot: usize,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        let hooks = self.hooks;
        for hooked in hooks.at(flight.packet.family(), hook).iter().filter(|hooked| hooked.nat) {
            self.enter(hooked, hook, flight)?;
            if end.settled(&self.slots[slot].entry) {
                break;
            }
        }
        Ok(())
    }

    /// `nf_nat_oif_changed`: concerns masqueraded connections.
    fn leaves_elsewhere(
        &self,
        slot: usize,
        hook: BuiltinHook,
        direction: Direction,
        flight: &Flight<'_>,
    ) -> bool {
        let index = flight.output.and_then(|name| self.links.get(name)).map(|link| link.index);
        hook == BuiltinHook::Postrouting
            && direction == Direction::Original
            && self.slots[slot].entry.masqueraded_over.is_some_and(|held| Some(held) != index)
    }

    /// `nf_nat_packet`.
    fn rewrite(&mut self, slot: usize, direction: Direction, end: End, packet: &mut Packet) {
        let entry = &self.slots[slot].entry;
        if !concerns(entry, direction, end) {
            return;
        }
        let target = inverse(entry.tuple(direction.opposite()));
        let before = *packet;
        end.rewrite(packet, &target);
        self.note_translation(end, &before, packet);
    }

    fn note_translation(&mut self, end: End, before: &Packet, after: &Packet) {
        let ends = |p: &Packet| match (end, p.ports().unwrap_or_default()) {
            (End::Source, (port, _)) => ServiceEndpoint { address: p.source, port },
            (End::Destination, (_, port)) => ServiceEndpoint { address: p.destination, port },
        };
        let (from, to) = (ends(before), ends(after));
        if from != to {
            self.note(|| match end {
                End::Source => Step::SourceTranslated { from, to },
                End::Destination => Step::DestinationTranslated { from, to },
            });
        }
    }

    /// `nf_nat_icmp_reply_translation`: an error is translated on the outside and in its quotation.
    fn translate_error(
        &mut self,
        slot: usize,
        direction: Direction,
        end: End,
        packet: &mut Packet,
        quoted: Quoted,
    ) -> Quoted {
        let entry = &self.slots[slot].entry;
        if !concerns(entry, direction, end) {
            return quoted;
        }
        let opposite = *entry.tuple(direction.opposite());
        let before = *packet;
        let tuple = match end.other() {
            End::Source => with_source(quoted.tuple, &opposite),
            End::Destination => with_destination(quoted.tuple, &opposite),
        };
        end.rewrite(packet, &inverse(&opposite));
        self.note_translation(end, &before, packet);
        Quoted { tuple }
    }

    /// `xt_DNAT`.
    pub(super) fn translate_destination(
        &mut self,
        flight: &Flight<'_>,
        address: IpAddr,
        ports: PortMapping,
    ) {
        if let Tracking::Of { slot, .. } = flight.tracking {
            self.settle(slot, End::Destination, Range { address, ports });
        }
    }

    /// `xt_SNAT`.
    pub(super) fn translate_source(&mut self, flight: &Flight<'_>, address: IpAddr) {
        if let Tracking::Of { slot, .. } = flight.tracking {
            self.settle(slot, End::Source, Range { address, ports: PortMapping::Keep });
        }
    }

    /// `nf_nat_masquerade_ipv4`, `_ipv6`.
    pub(super) fn masquerade(&mut self, flight: &Flight<'_>) -> Result<(), Halt> {
        let Tracking::Of { slot, .. } = flight.tracking else { return Ok(()) };
        if self.slots[slot].entry.flow.key.original.source.is_unspecified() {
            return Ok(());
        }
        let interface = flight.output.unwrap_or_default();
        let to = flight.packet.destination;
        let next_hop = flight.next_hop.unwrap_or(to);
        let Some(address) = address::select(self.links, interface, next_hop, to) else {
            return Err(Halt::Dropped(DropCause::NoAddress));
        };
        self.slots[slot].entry.masqueraded_over = self.links.get(interface).map(|link| link.index);
        self.settle(slot, End::Source, Range { address, ports: PortMapping::Keep });
        Ok(())
    }

    /// `nf_nat_alloc_null_binding`: the address stays; a source port may have to give way.
    fn settle_as_is(&mut self, slot: usize, end: End) {
        let reply = &self.slots[slot].entry.flow.reply;
        let address = match end {
            End::Source => reply.destination,
            End::Destination => reply.source,
        };
        self.settle(slot, end, Range { address, ports: PortMapping::Keep });
    }

    /// `nf_nat_setup_info`: "Can't setup nat info for confirmed ct." A connection from before the
    /// first rule of table nat stays as it is.
    fn settle(&mut self, slot: usize, end: End, range: Range) {
        if self.slots[slot].status != SlotStatus::New {
            return;
        }
        let entry = self.slots[slot].entry;
        let current = inverse(&entry.flow.reply);
        let new = self.unique_tuple(&entry, current, end, range);
        let entry = &mut self.slots[slot].entry;
        entry.flow.reply = inverse(&new);
        match end {
            End::Source => entry.source_settled = true,
            End::Destination => entry.destination_settled = true,
        }
    }

    /// `get_unique_tuple`.
    fn unique_tuple(
        &mut self,
        entry: &Entry,
        current: FlowTuple,
        end: End,
        range: Range,
    ) -> FlowTuple {
        if end == End::Source {
            if current.source == range.address {
                if !self.taken(entry, &current) {
                    return current;
                }
            } else if let Some(found) = self.moved_before(&current, range.address)
                && !self.taken(entry, &found)
            {
                return found;
            }
        }
        let tuple = match end {
            End::Source => FlowTuple { source: range.address, ..current },
            End::Destination => FlowTuple { destination: range.address, ..current },
        };
        match range.ports {
            PortMapping::Keep if !self.taken(entry, &tuple) => tuple,
            // "If it's dst rewrite, can't change port."
            PortMapping::Keep if end == End::Destination => tuple,
            PortMapping::Keep => self.free_source_port(entry, tuple),
            PortMapping::To(port) => with_destination_port(tuple, port),
            PortMapping::Shift { first, last, base } => {
                self.shifted_port(entry, tuple, (first, last), base)
            }
        }
    }

    /// `nf_nat_used_tuple`: whether a reply would be another connection's.
    fn taken(&self, entry: &Entry, tuple: &FlowTuple) -> bool {
        let reply = inverse(tuple);
        self.conntrack
            .find(&reply, self.now)
            .is_some_and(|(held, _)| held.flow.key.original != entry.flow.key.original)
    }

    /// `find_appropriate_src`: an earlier connection of the same source was given this end already.
    fn moved_before(&self, current: &FlowTuple, address: IpAddr) -> Option<FlowTuple> {
        let held = self
            .conntrack
            .moved_from(current, self.now)
            .find(|held| held.flow.reply.destination == address)?;
        Some(with_source(*current, &inverse(&held.flow.reply)))
    }

    /// `nf_nat_l4proto_unique_tuple` for a source without a given range.
    fn free_source_port(&mut self, entry: &Entry, mut tuple: FlowTuple) -> FlowTuple {
        let held = query_id(tuple.layer4).map_or_else(|| tuple.source_port(), |_| 0);
        let (first, size): (u16, u32) = match (query_id(tuple.layer4), held) {
            (Some(_), _) => (0, 65_536),
            (None, 0..512) => (1, 511),
            (None, 512..1024) => (600, 424),
            (None, _) => (1024, 64_512),
        };
        let mut attempts = size.min(MAX_ATTEMPTS);
        loop {
            let offset = u32::from(self.random.next_16());
            for step in 0..attempts {
                let port = u32::from(first) + (offset + step) % size;
                set_source_end(&mut tuple, u16::try_from(port).unwrap_or(u16::MAX));
                if !self.taken(entry, &tuple) {
                    return tuple;
                }
            }
            if attempts >= size || attempts < MIN_ATTEMPTS {
                return tuple;
            }
            attempts /= 2;
        }
    }

    /// `NF_NAT_RANGE_PROTO_OFFSET`. The kernel takes the next port of the range where a reply
    /// would be another connection's.
    fn shifted_port(
        &self,
        entry: &Entry,
        tuple: FlowTuple,
        (first, last): (u16, u16),
        base: u16,
    ) -> FlowTuple {
        let size = u32::from(last.saturating_sub(first)) + 1;
        let offset = tuple.destination_port().wrapping_sub(base);
        let at = |step: u32| {
            let offset = offset.wrapping_add(u16::try_from(step).unwrap_or_default());
            let port = u32::from(first) + u32::from(offset) % size;
            with_destination_port(tuple, u16::try_from(port).unwrap_or(u16::MAX))
        };
        let attempts = size.min(MAX_ATTEMPTS);
        (0..attempts)
            .map(at)
            .find(|candidate| !self.taken(entry, candidate))
            .unwrap_or_else(|| at(attempts - 1))
    }
}

/// Whether translation rewrites this end of packets of a direction: what is the source in one is
/// the destination in the other.
fn concerns(entry: &Entry, direction: Direction, end: End) -> bool {
    let of_original = if direction == Direction::Reply { end.other() } else { end };
    match of_original {
        End::Source => entry.source_translated(),
        End::Destination => entry.destination_translated(),
    }
}

fn with_source(tuple: FlowTuple, from: &FlowTuple) -> FlowTuple {
    let layer4 = match (tuple.layer4, from.layer4) {
        (Layer4::Ports { destination, .. }, Layer4::Ports { source, .. }) => {
            Layer4::Ports { source, destination }
        }
        (Layer4::Icmp { kind, code, .. }, Layer4::Icmp { id, .. }) => {
            Layer4::Icmp { kind, code, id }
        }
        (held, _) => held,
    };
    FlowTuple { source: from.source, layer4, ..tuple }
}

fn with_destination(tuple: FlowTuple, from: &FlowTuple) -> FlowTuple {
    let layer4 = match (tuple.layer4, from.layer4) {
        (Layer4::Ports { source, .. }, Layer4::Ports { destination, .. }) => {
            Layer4::Ports { source, destination }
        }
        (Layer4::Icmp { kind, code, .. }, Layer4::Icmp { id, .. }) => {
            Layer4::Icmp { kind, code, id }
        }
        (held, _) => held,
    };
    FlowTuple { destination: from.destination, layer4, ..tuple }
}

fn with_destination_port(mut tuple: FlowTuple, port: u16) -> FlowTuple {
    if let Layer4::Ports { destination, .. } = &mut tuple.layer4 {
        *destination = port;
    }
    tuple
}

/// Source port, or identifier of a query.
fn set_source_end(tuple: &mut FlowTuple, value: u16) {
    match &mut tuple.layer4 {
        Layer4::Ports { source, .. } => *source = value,
        Layer4::Icmp { id, .. } => *id = value,
        Layer4::Other => {}
    }
}
