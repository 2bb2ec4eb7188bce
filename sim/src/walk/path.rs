//! The way through a host: hooks in the kernel's order, routing, forwarding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smartnat_core::model::{Family, Timestamp};
use smartnat_core::objects::{BuiltinHook, SysctlKey};

use super::address;
use super::packet::{IcmpError, Packet};
use super::random::Random;
use super::refusal::Refusal;
use super::route::{Fib, Found, Hop, LOOPBACK, Query};
use super::sockets::Sockets;
use super::trace::{Decision, DropCause, Outcome, RuleTable, Step, Trace};
use super::track::{Slot, Tracking};
use crate::kernel::{
    CONNTRACK, Conntrack, Hooks, Links, Nftables, Routing, Sets, Sysctls, Xtables,
};

/// Packets that may follow from one on one host.
const MAX_ANSWERS: usize = 16;

/// A packet's way through a host, with what it meets.
pub(super) struct Walk<'k> {
    pub(super) now: Timestamp,
    pub(super) xtables: &'k Xtables,
    pub(super) sets: &'k mut Sets,
    pub(super) nft: &'k mut Nftables,
    pub(super) hooks: &'k Hooks,
    pub(super) links: &'k Links,
    pub(super) routing: &'k Routing,
    pub(super) sysctls: &'k Sysctls,
    pub(super) conntrack: &'k mut Conntrack,
    pub(super) sockets: &'k mut Sockets,
    pub(super) random: &'k mut Random,
    /// Connections of the packets under way.
    pub(super) slots: Vec<Slot>,
    /// Steps of the packet under way, if they are asked for.
    pub(super) steps: Vec<Step>,
    pub(super) detailed: bool,
    pub(super) answers: Vec<Trace>,
    pub(super) packets: usize,
}

/// A packet under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight<'k> {
    pub(super) packet: Packet,
    pub(super) tracking: Tracking,
    pub(super) input: Option<&'k str>,
    pub(super) output: Option<&'k str>,
    pub(super) next_hop: Option<IpAddr>,
    /// Where a packet of the host itself goes, by the last look for a route.
    pub(super) exit: Option<Exit<'k>>,
}

/// Why a packet goes no further.
pub(super) enum Halt {
    Dropped(DropCause),
    Refused(Refusal),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<'k> Flight<'k> {
    pub(super) fn new(packet: Packet, input: Option<&'k str>) -> Self {
        Self { packet, tracking: Tracking::Unseen, input, output: None, next_hop: None, exit: None }
    }
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit<'k> {
    interface: &'k str,
    next_hop: IpAddr,
}

impl<'k> Walk<'k> {
    /// Adds a step if steps are asked for.
    pub(super) fn note(&mut self, step: impl FnOnce() -> Step) {
        if self.detailed {
            self.steps.push(step());
        }
    }

    /// A packet comes in by an interface.
    pub(super) fn arrive(&mut self, flight: Flight<'k>) -> Result<Trace, Refusal> {
        self.follow(flight, Self::come_in)
    }

    /// The host itself sends a packet.
    pub(super) fn depart(&mut self, flight: Flight<'k>) -> Result<Trace, Refusal> {
        self.follow(flight, Self::go_out)
    }

    fn follow(
        &mut self,
        mut flight: Flight<'k>,
        path: fn(&mut Self, &mut Flight<'k>) -> Result<Outcome, Halt>,
    ) -> Result<Trace, Refusal> {
        self.packets += 1;
        if self.packets > MAX_ANSWERS {
            return Err(Refusal::Endless(MAX_ANSWERS));
        }
        let outer = (std::mem::take(&mut self.steps), std::mem::take(&mut self.answers));
        let (packet, interface) = (flight.packet, flight.input.map(str::to_owned));
        let outcome = match path(self, &mut flight) {
            Ok(outcome) => outcome,
            Err(Halt::Refused(refusal)) => return Err(refusal),
            Err(Halt::Dropped(cause)) => {
                if let Tracking::Of { slot, .. } = flight.tracking {
                    self.write_back(slot);
                }
                Outcome::Dropped { cause, packet: flight.packet }
            }
        };
        let steps = std::mem::replace(&mut self.steps, outer.0);
        let answers = std::mem::replace(&mut self.answers, outer.1);
        Ok(Trace { interface, packet, steps, outcome, answers })
    }

    fn come_in(&mut self, flight: &mut Flight<'k>) -> Result<Outcome, Halt> {
        let Packet { source, destination, .. } = flight.packet;
        if source.is_loopback() || destination.is_loopback() {
            return Err(Halt::Dropped(DropCause::Martian));
        }
        self.prerouting(flight)?;
        match self.route_in(flight)? {
            Found::Local => self.take_in(flight),
            Found::Onwards(hop) => self.forward(flight, &hop),
        }
    }

    fn prerouting(&mut self, flight: &mut Flight<'k>) -> Result<(), Halt> {
        self.hook(BuiltinHook::Prerouting, ..CONNTRACK, flight)?;
        self.track(flight)?;
        self.translating_hook(BuiltinHook::Prerouting, CONNTRACK.., flight)
    }

    /// `ip_route_input_slow`, `ip6_route_input`.
    fn route_in(&mut self, flight: &Flight<'k>) -> Result<Found<'k>, Halt> {
        let packet = &flight.packet;
        self.refuse_groups(packet)?;
        let input = flight.input.unwrap_or(LOOPBACK);
        let found = self.look_up(&Query { to: packet.destination, mark: packet.mark, input })?;
        let v4 = packet.family() == Family::V4;
        match found {
            None => {
                // ip_error: a host that does not forward stays silent; ip6_pkt_discard does not.
                if !v4 || self.forwards(Family::V4) {
                    self.send_error(IcmpError::NetUnreachable, flight)?;
                }
                Err(Halt::Dropped(DropCause::NoRoute))
            }
            Some(found) => {
                let output = match &found {
                    Found::Local => LOOPBACK,
                    Found::Onwards(hop) => {
                        if !self.forwards(packet.family()) {
                            return Err(Halt::Dropped(DropCause::NotForwarding));
                        }
                        hop.interface
                    }
                };
                if v4 {
                    self.validate_source(packet, input, output)?;
                }
                Ok(found)
            }
        }
    }

    pub(super) fn look_up(&mut self, query: &Query<'_>) -> Result<Option<Found<'k>>, Refusal> {
        let fib = Fib { routing: self.routing, links: self.links };
        let found = fib.lookup(query)?;
        self.note(|| Step::Routed(found.map_or(Decision::Nowhere, Decision::from)));
        Ok(found)
    }

    /// Broadcast and multicast are not modelled.
    pub(super) fn refuse_groups(&self, packet: &Packet) -> Result<(), Refusal> {
        let to = packet.destination;
        let broadcast = |to: IpAddr| {
            to == IpAddr::V4(Ipv4Addr::BROADCAST)
                || self.links.connected().any(|(_, net)| {
                    net.addr().is_ipv4() && net.prefix_len() < 31 && net.broadcast() == to
                })
        };
        if to.is_multicast() || (to.is_ipv4() && broadcast(to)) {
            return Refusal::not_modelled(format!("broadcast or multicast to {to}"));
        }
        Ok(())
    }

    fn forwards(&self, family: Family) -> bool {
        self.sysctls.largest(|key| *key == SysctlKey::Forwarding(family)) != 0
    }

    /// `fib_validate_source`: the reverse lookup sees the packet as coming from where it goes to.
    fn validate_source(&self, packet: &Packet, input: &str, output: &str) -> Result<(), Halt> {
        if packet.source.is_unspecified() || packet.source.is_multicast() {
            return Err(Halt::Dropped(DropCause::Martian));
        }
        let of_input = |name: &str| name == "all" || name == input;
        let filter = self
            .sysctls
            .largest(|key| matches!(key, SysctlKey::ReversePathFilter(name) if of_input(name)));
        let with_mark = self
            .sysctls
            .largest(|key| matches!(key, SysctlKey::SourceValidMark(name) if of_input(name)));
        let mark = if with_mark == 0 { 0 } else { packet.mark };
        let fib = Fib { routing: self.routing, links: self.links };
        match fib.lookup(&Query { to: packet.source, mark, input: output })? {
            Some(Found::Local) => Err(Halt::Dropped(DropCause::Martian)),
            Some(Found::Onwards(hop)) if hop.interface == input || filter != 1 => Ok(()),
            None if filter == 0 => Ok(()),
            _ => Err(Halt::Dropped(DropCause::ReversePath)),
        }
    }

    /// `ip_forward`, `ip6_forward`.
    fn forward(&mut self, flight: &mut Flight<'k>, hop: &Hop<'k>) -> Result<Outcome, Halt> {
        if flight.packet.ttl <= 1 {
            self.send_error(IcmpError::TimeExceeded, flight)?;
            return Err(Halt::Dropped(DropCause::TimeExceeded));
        }
        if let IpAddr::V6(source) = flight.packet.source
            && (source.is_unspecified() || source.is_unicast_link_local())
        {
            return Err(Refusal::NotModelled(format!("forwarding from {source}")).into());
        }
        flight.packet.ttl -= 1;
        flight.output = Some(hop.interface);
        self.hook(BuiltinHook::Forward, .., flight)?;
        let next_hop = hop.next_hop(flight.packet.destination);
        self.leave(flight, Exit { interface: hop.interface, next_hop })
    }

    /// POSTROUTING, then the link.
    fn leave(&mut self, flight: &mut Flight<'k>, exit: Exit<'k>) -> Result<Outcome, Halt> {
        flight.output = Some(exit.interface);
        flight.next_hop = Some(exit.next_hop);
        self.translating_hook(BuiltinHook::Postrouting, .., flight)?;
        self.confirm(flight)?;
        if exit.interface == LOOPBACK {
            return self.loop_back(flight);
        }
        match self.links.get(exit.interface) {
            Some(link) if link.up && link.carrier => {}
            _ => return Err(Halt::Dropped(DropCause::LinkDown)),
        }
        Ok(Outcome::Left {
            interface: exit.interface.to_owned(),
            next_hop: exit.next_hop,
            packet: flight.packet,
        })
    }

    /// `loopback_xmit`: mark, connection and route of the packet stay with it.
    fn loop_back(&mut self, flight: &mut Flight<'k>) -> Result<Outcome, Halt> {
        self.note(|| Step::LoopedBack);
        let destination = flight.packet.destination;
        (flight.input, flight.output, flight.next_hop) = (Some(LOOPBACK), None, None);
        self.prerouting(flight)?;
        if flight.packet.destination == destination {
            return self.take_in(flight);
        }
        match self.route_in(flight)? {
            Found::Local => self.take_in(flight),
            Found::Onwards(hop) => self.forward(flight, &hop),
        }
    }

    /// INPUT, then the sockets.
    fn take_in(&mut self, flight: &mut Flight<'k>) -> Result<Outcome, Halt> {
        self.translating_hook(BuiltinHook::Input, .., flight)?;
        self.confirm(flight)?;
        self.deliver(flight)
    }

    /// A packet of the host: routing, OUTPUT, routing again where a table changed what it depends on.
    fn go_out(&mut self, flight: &mut Flight<'k>) -> Result<Outcome, Halt> {
        self.refuse_groups(&flight.packet)?;
        let Some(exit) = self.route_out(&mut flight.packet)? else {
            return Err(Halt::Dropped(DropCause::NoRoute));
        };
        // state->out stays the first route's for all of OUTPUT.
        (flight.output, flight.exit) = (Some(exit.interface), Some(exit));
        self.hook(BuiltinHook::Output, ..CONNTRACK, flight)?;
        self.track(flight)?;
        self.translating_hook(BuiltinHook::Output, CONNTRACK.., flight)?;
        let exit = flight.exit.unwrap_or(exit);
        self.leave(flight, exit)
    }

    /// `nf_nat_ipv4_local_fn` compares addresses of the connection, not of the packet.
    pub(super) fn destination_was_translated(&self, flight: &Flight<'k>) -> bool {
        let Tracking::Of { slot, direction, .. } = flight.tracking else { return false };
        let entry = &self.slots[slot].entry;
        self.translates(flight.packet.family())
            && entry.tuple(direction).destination != entry.tuple(direction.opposite()).source
    }

    /// The source address that routing chooses for packets to `to`.
    pub(super) fn source_for(&mut self, to: IpAddr) -> Result<Option<IpAddr>, Refusal> {
        let source = match to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut packet = Packet::ping(source, to, 0);
        match self.route_out(&mut packet) {
            Ok(exit) => Ok(exit.map(|_| packet.source)),
            Err(Halt::Refused(refusal)) => Err(refusal),
            Err(Halt::Dropped(_)) => Ok(None),
        }
    }

    /// `ip_route_me_harder`, `ip6_route_me_harder`.
    pub(super) fn route_again(
        &mut self,
        flight: &mut Flight<'k>,
        why: impl FnOnce() -> RuleTable,
    ) -> Result<(), Halt> {
        flight.exit = self.route_out(&mut flight.packet)?;
        match flight.exit {
            Some(_) => Ok(()),
            None => Err(Halt::Dropped(DropCause::NoRouteAfter(why()))),
        }
    }

    /// `ip_route_output_key`, `ip6_route_output`; chooses the source of a packet that has none.
    fn route_out(&mut self, packet: &mut Packet) -> Result<Option<Exit<'k>>, Halt> {
        let to = packet.destination;
        let query = Query { to, mark: packet.mark, input: LOOPBACK };
        let exit = match self.look_up(&query)? {
            None => return Ok(None),
            Some(Found::Local) => Exit { interface: LOOPBACK, next_hop: to },
            Some(Found::Onwards(hop)) => {
                Exit { interface: hop.interface, next_hop: hop.next_hop(to) }
            }
        };
        if packet.source.is_unspecified() {
            let chosen = if exit.interface == LOOPBACK {
                Some(to)
            } else {
                address::select(self.links, exit.interface, exit.next_hop, to)
            };
            packet.source = chosen.ok_or(Halt::Dropped(DropCause::NoAddress))?;
        }
        Ok(Some(exit))
    }
}
