//! Connection tracking of a packet: what it belongs to, and when its connection becomes known.

mod sctp;
mod tcp;

use smartnat_core::model::{Family, Timestamp};
use smartnat_core::objects::Layer4;

use super::packet::{Icmp, Packet, Payload, Quoted};
use super::path::{Flight, Halt, Walk};
use super::refusal::Refusal;
use super::trace::{DropCause, Membership, Relation, Step};
use crate::kernel::{Direction, Entry, Progress, inverse};

/// `nf_conntrack_udp_timeout`, `_stream`, `nf_conntrack_icmp_timeout` in seconds.
const UDP_UNREPLIED: u64 = 30;
const UDP_STREAM: u64 = 120;
const ICMP: u64 = 30;
/// A UDP flow that is older than this is a stream (`stream_ts`), in milliseconds.
const UDP_STREAM_AGE: u64 = 2000;

/// What a packet is to conntrack while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// Conntrack has not seen it, or is off.
    Unseen,
    /// It belongs to nothing.
    Invalid,
    /// It is exempt.
    Untracked,
    /// It belongs to the connection of a slot.
    Of { slot: usize, relation: Relation, direction: Direction },
}

/// A connection while packets of it are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    pub(super) status: SlotStatus,
}

/// Whether the table of conntrack has a slot's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotStatus {
    /// Not yet.
    New,
    /// It has.
    Known,
    /// Not any more.
    Gone,
}

/// What a protocol makes of a packet.
pub(super) enum Progressed {
    /// It belongs to the connection; the entry lives on for so many seconds.
    Alive { seconds: u64 },
    /// The same, and nothing about the entry changes.
    Unchanged,
    /// It belongs to the connection and ends it.
    Last,
    /// It does not fit.
    Invalid,
    /// The entry is done with: the packet opens a new connection.
    Reopens,
}

fn deadline(now: Timestamp, seconds: u64) -> Timestamp {
    now.plus_millis(seconds * 1000)
}

impl Walk<'_> {
    /// `nf_conntrack_in`.
    pub(super) fn track(&mut self, flight: &mut Flight<'_>) -> Result<(), Halt> {
        let family = flight.packet.family();
        // "Previously seen (loopback or untracked)? Ignore."
        let tracks = self.xtables.tracks(family) || self.nft.tracks();
        if flight.tracking == Tracking::Unseen && tracks {
            flight.tracking = match flight.packet.payload {
                Payload::Icmp(Icmp::Error { quoted, .. }) => self.relate(&flight.packet, &quoted),
                Payload::Icmp(Icmp::Other { kind, code }) => other_message(family, kind, code)?,
                _ => self.resolve(&flight.packet),
            };
        }
        if self.detailed && flight.tracking != Tracking::Unseen {
            let membership = self.membership(flight.tracking);
            self.steps.push(Step::Tracked(membership));
        }
        Ok(())
    }

    /// A packet that has left already, with the connection that it belongs to: as it is after all
    /// translation, it is the inverse of what the other direction sends.
    pub(super) fn flight_that_left<'k>(&mut self, packet: Packet) -> Flight<'k> {
        let mut flight = Flight::new(packet, None);
        if let Some((entry, opposite)) = self.conntrack.find(&inverse(&packet.tuple()), self.now) {
            let slot = Slot { entry: *entry, status: SlotStatus::Known };
            let (relation, direction) = (Relation::Established, opposite.opposite());
            flight.tracking = Tracking::Of { slot: self.take_slot(slot), relation, direction };
        }
        flight
    }

    fn membership(&self, tracking: Tracking) -> Membership {
        match tracking {
            Tracking::Of { slot, relation, direction } => {
                let mark = self.slots[slot].entry.flow.mark;
                Membership::Of { state: relation, direction, mark }
            }
            Tracking::Untracked => Membership::Untracked,
            Tracking::Invalid | Tracking::Unseen => Membership::Invalid,
        }
    }

    /// `nf_conntrack_inet_error`: the connection that an error is about, found by the quoted packet,
    /// must end where the error goes.
    fn relate(&mut self, packet: &Packet, quoted: &Quoted) -> Tracking {
        let Some((entry, direction)) = self.conntrack.find(&inverse(&quoted.tuple), self.now)
        else {
            return Tracking::Invalid;
        };
        if entry.tuple(direction).destination != packet.destination {
            return Tracking::Invalid;
        }
        let slot = Slot { entry: *entry, status: SlotStatus::Known };
        Tracking::Of { slot: self.take_slot(slot), relation: Relation::Related, direction }
    }

    fn take_slot(&mut self, slot: Slot) -> usize {
        self.slots.push(slot);
        self.slots.len() - 1
    }

    /// `resolve_normal_ct`, then the protocol's own tracker.
    fn resolve(&mut self, packet: &Packet) -> Tracking {
        let tuple = packet.tuple();
        if let Some((entry, direction)) = self.conntrack.find(&tuple, self.now) {
            let mut entry = *entry;
            match progress(&mut entry, direction, packet, self.now, false) {
                Progressed::Invalid => return Tracking::Invalid,
                Progressed::Reopens => {
                    self.conntrack.delete(&entry.flow.key);
                    return self.begin(packet);
                }
                Progressed::Last => {
                    self.conntrack.delete(&entry.flow.key);
                    return self.belongs(entry, SlotStatus::Gone, direction);
                }
                Progressed::Unchanged => {}
                // A fixed timeout of an entry that was made by hand is none.
                Progressed::Alive { .. } if entry.expires.is_none() => {}
                Progressed::Alive { seconds } => entry.expires = Some(deadline(self.now, seconds)),
            }
            return self.belongs(entry, SlotStatus::Known, direction);
        }
        self.begin(packet)
    }

    fn belongs(&mut self, mut entry: Entry, status: SlotStatus, direction: Direction) -> Tracking {
        let relation = match direction {
            Direction::Original if !entry.seen_reply => Relation::New,
            _ => Relation::Established,
        };
        entry.seen_reply |= direction == Direction::Reply;
        if status == SlotStatus::Known {
            self.conntrack.update(&entry);
        }
        let slot = self.take_slot(Slot { entry, status });
        Tracking::Of { slot, relation, direction }
    }

    /// `init_conntrack`: the first packet of what may become a connection.
    fn begin(&mut self, packet: &Packet) -> Tracking {
        let Some(state) = first_state(packet, self.now) else { return Tracking::Invalid };
        let mut entry = Entry::first(packet.tuple(), state);
        match progress(&mut entry, Direction::Original, packet, self.now, true) {
            Progressed::Alive { seconds } => entry.expires = Some(deadline(self.now, seconds)),
            Progressed::Unchanged => {}
            Progressed::Last | Progressed::Invalid | Progressed::Reopens => {
                return Tracking::Invalid;
            }
        }
        let slot = self.take_slot(Slot { entry, status: SlotStatus::New });
        Tracking::Of { slot, relation: Relation::New, direction: Direction::Original }
    }

    /// `nf_conntrack_confirm`: at the end of the path the connection becomes known.
    pub(super) fn confirm(&mut self, flight: &Flight<'_>) -> Result<(), Halt> {
        let Tracking::Of { slot, direction, .. } = flight.tracking else { return Ok(()) };
        let Slot { entry, status } = self.slots[slot];
        if status != SlotStatus::New {
            self.write_back(slot);
            return Ok(());
        }
        // A reset or an error about a packet that was never accepted confirms nothing.
        if direction == Direction::Reply {
            return Ok(());
        }
        let taken = [entry.flow.key.original, entry.flow.reply]
            .iter()
            .any(|tuple| self.conntrack.find(tuple, self.now).is_some());
        if taken {
            return Err(Halt::Dropped(DropCause::TupleTaken));
        }
        let key = self.conntrack.insert(entry);
        let slot = &mut self.slots[slot];
        slot.entry.flow.key = key;
        slot.status = SlotStatus::Known;
        self.note(|| Step::Confirmed);
        Ok(())
    }

    /// What packets changed about a known connection.
    pub(super) fn write_back(&mut self, slot: usize) {
        let Slot { entry, status } = &self.slots[slot];
        if *status == SlotStatus::Known {
            self.conntrack.update(entry);
        }
    }

    /// `nf_ct_kill`.
    pub(super) fn kill(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        if slot.status == SlotStatus::Known {
            self.conntrack.delete(&slot.entry.flow.key);
        }
        slot.status = SlotStatus::Gone;
    }
}

/// `icmpv6_error`: neighbour discovery and listener reports are exempt.
fn other_message(family: Family, kind: u8, code: u8) -> Result<Tracking, Refusal> {
    match (family, kind) {
        (Family::V6, 130..=137 | 143) => Ok(Tracking::Untracked),
        _ => Refusal::not_modelled(format!("ICMP type {kind} code {code}")),
    }
}

/// The state before the first packet; `None` where it cannot be a first one.
fn first_state(packet: &Packet, now: Timestamp) -> Option<Progress> {
    match packet.payload {
        Payload::Tcp { .. } => Some(Progress::Tcp(tcp::BEFORE)),
        Payload::Udp { .. } => Some(Progress::Udp(now.plus_millis(UDP_STREAM_AGE))),
        Payload::Sctp { chunk, .. } => sctp::first(chunk).map(Progress::Sctp),
        // valid_new: an echo reply without a request is none.
        Payload::Icmp(Icmp::Echo { reply: false, .. }) => Some(Progress::Stateless),
        Payload::Icmp(_) => None,
    }
}

fn progress(
    entry: &mut Entry,
    direction: Direction,
    packet: &Packet,
    now: Timestamp,
    first: bool,
) -> Progressed {
    match (entry.progress, packet.payload) {
        (Progress::Tcp(held), Payload::Tcp { flags, .. }) => {
            tcp::progress(entry, held, direction, flags)
        }
        (Progress::Sctp(held), Payload::Sctp { chunk, .. }) => {
            sctp::progress(entry, held, direction, chunk, first)
        }
        (Progress::Udp(stream_from), Payload::Udp { .. }) => udp(entry, stream_from, now),
        _ => Progressed::Alive { seconds: ICMP },
    }
}

/// `nf_conntrack_udp_packet`.
fn udp(entry: &mut Entry, stream_from: Timestamp, now: Timestamp) -> Progressed {
    let stream = entry.seen_reply && now > stream_from;
    entry.assured |= stream;
    Progressed::Alive { seconds: if stream { UDP_STREAM } else { UDP_UNREPLIED } }
}

/// The identifier of a query, which source translation may change.
pub(super) fn query_id(layer4: Layer4) -> Option<u16> {
    match layer4 {
        Layer4::Icmp { id, .. } => Some(id),
        _ => None,
    }
}

/// A reset that the host itself sends ends the connection soon (`nf_ct_set_closing`).
pub(super) fn closing(entry: &mut Entry, now: Timestamp) {
    if let Some(seconds) = tcp::set_closing(entry) {
        entry.expires = Some(deadline(now, seconds));
    }
}
