//! What the kernel itself sends in answer to a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smartnat_core::model::Family;
use smartnat_core::objects::{BuiltinHook, RejectWith, SysctlKey};

use super::address;
use super::packet::{Icmp, IcmpError, Packet, Payload, Quoted, SctpChunk, TcpFlags};
use super::path::{Flight, Walk};
use super::refusal::Refusal;
use super::route::{Found, LOOPBACK, Query};
use super::trace::Relation;
use super::track::{Tracking, closing};

impl<'k> Walk<'k> {
    /// `xt_REJECT`.
    pub(super) fn reject(&mut self, with: RejectWith, flight: &Flight<'k>) -> Result<(), Refusal> {
        match with {
            RejectWith::PortUnreachable => self.send_error(IcmpError::PortUnreachable, flight),
            RejectWith::TcpReset => {
                if let Tracking::Of { slot, .. } = flight.tracking {
                    closing(&mut self.slots[slot].entry, self.now);
                }
                self.send_reset(flight, self.caused_by(flight.tracking))
            }
        }
    }

    /// `nf_send_reset`, `tcp_v4_send_reset`: a reset is never answered by one.
    pub(super) fn send_reset(
        &mut self,
        flight: &Flight<'k>,
        tracking: Tracking,
    ) -> Result<(), Refusal> {
        let packet = &flight.packet;
        let Payload::Tcp { source, destination, flags } = packet.payload else { return Ok(()) };
        if flags.rst() {
            return Ok(());
        }
        let flags = if flags.ack() { TcpFlags::RST } else { TcpFlags::RST_ACK };
        let (from, to) = ((packet.destination, destination), (packet.source, source));
        let mark = self.reflected(packet);
        self.send(Packet::tcp(from, to, flags).with_mark(mark), tracking)
    }

    /// `nft_reject_inet_eval`. Before routing the kernel answers only a sender that it has a route to
    /// without any mark (`nf_reject_fill_skb_dst`).
    pub(super) fn reject_at(
        &mut self,
        hook: BuiltinHook,
        with: RejectWith,
        flight: &Flight<'k>,
    ) -> Result<(), Refusal> {
        if hook != BuiltinHook::Prerouting {
            return self.reject(with, flight);
        }
        let to = flight.packet.source;
        match self.look_up(&Query { to, mark: 0, input: LOOPBACK })? {
            None => Ok(()),
            // icmp_send takes the route to the sender for the packet's own: it leads elsewhere.
            Some(Found::Onwards(_)) if with == RejectWith::PortUnreachable && to.is_ipv4() => {
                self.send_error_from(unspecified(Family::V4), IcmpError::PortUnreachable, flight)
            }
            Some(_) => self.reject(with, flight),
        }
    }

    /// `icmp_send`, `icmpv6_send`.
    pub(super) fn send_error(
        &mut self,
        error: IcmpError,
        flight: &Flight<'k>,
    ) -> Result<(), Refusal> {
        let packet = &flight.packet;
        let source = match (flight.input, packet.family()) {
            _ if self.links.is_local(packet.destination) => packet.destination,
            // Linux 6.18 speaks with an address of the interface that the packet came in by.
            (Some(input), Family::V6) => {
                let chosen = address::select(self.links, input, packet.source, packet.source);
                chosen.unwrap_or(unspecified(Family::V6))
            }
            (_, family) => unspecified(family),
        };
        self.send_error_from(source, error, flight)
    }

    /// An error about anything but an error. Routing chooses an unspecified source.
    fn send_error_from(
        &mut self,
        source: IpAddr,
        error: IcmpError,
        flight: &Flight<'k>,
    ) -> Result<(), Refusal> {
        let packet = &flight.packet;
        let about_error =
            matches!(packet.payload, Payload::Icmp(Icmp::Error { .. } | Icmp::Other { .. }));
        if about_error || packet.source.is_unspecified() || packet.source.is_multicast() {
            return Ok(());
        }
        let quoted = Quoted::of(packet);
        let payload = Payload::Icmp(Icmp::Error { error, quoted });
        let mark = self.reflected(packet);
        let answer = Packet::new(source, packet.source, payload).with_mark(mark);
        self.send(answer, self.caused_by(flight.tracking))
    }

    /// `icmp_echo`, `icmpv6_echo_reply`.
    pub(super) fn send_echo_reply(&mut self, packet: &Packet, id: u16) -> Result<(), Refusal> {
        let payload = Payload::Icmp(Icmp::Echo { reply: true, id });
        let mut answer = Packet::new(packet.destination, packet.source, payload);
        answer.mark = self.reflected(packet);
        (answer.length, answer.data) = (packet.length, packet.data);
        self.send(answer, Tracking::Unseen)
    }

    /// An SCTP packet back to where one came from.
    pub(super) fn send_chunk(&mut self, packet: &Packet, chunk: SctpChunk) -> Result<(), Refusal> {
        let Some((source, destination)) = packet.ports() else { return Ok(()) };
        let payload = Payload::Sctp { source: destination, destination: source, chunk };
        self.send(Packet::new(packet.destination, packet.source, payload), Tracking::Unseen)
    }

    /// Sends a packet of the host itself and keeps its path among the answers.
    pub(super) fn send(&mut self, packet: Packet, tracking: Tracking) -> Result<(), Refusal> {
        let trace = self.depart(Flight { tracking, ..Flight::new(packet, None) })?;
        self.answers.push(trace);
        Ok(())
    }

    /// `IP4_REPLY_MARK`, `IP6_REPLY_MARK`.
    fn reflected(&self, packet: &Packet) -> u32 {
        let family = packet.family();
        let reflects = self.sysctls.largest(|key| *key == SysctlKey::MarkReflect(family)) != 0;
        if reflects { packet.mark } else { 0 }
    }

    /// `nf_ct_attach`: a reset or an error of netfilter belongs to the connection that it is about.
    #[allow(clippy::unused_self, reason = "reads as a property of the walk")]
    fn caused_by(&self, tracking: Tracking) -> Tracking {
        match tracking {
            Tracking::Of { slot, direction, .. } => {
                let (relation, direction) = (Relation::Related, direction.opposite());
                Tracking::Of { slot, relation, direction }
            }
            _ => Tracking::Unseen,
        }
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
