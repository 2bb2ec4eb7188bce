//! A host: a kernel with sockets.

use std::net::IpAddr;

use super::packet::{IcmpError, Packet};
use super::path::{Flight, Walk};
use super::random::Random;
use super::refusal::Refusal;
use super::sockets::Sockets;
use super::trace::Trace;
use crate::SimKernel;
use crate::kernel::Parts;

/// How much a trace tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Every step.
    #[default]
    Steps,
    /// The outcome alone.
    Outcome,
}

/// A kernel with sockets, through which packets walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimHost {
    /// The kernel.
    pub kernel: SimKernel,
    /// Sockets of its processes.
    pub sockets: Sockets,
    /// How much traces tell.
    pub detail: Detail,
    random: Random,
}

impl SimHost {
    /// A host without sockets. The seed decides where rules leave it to chance.
    pub fn new(kernel: SimKernel, seed: u64) -> Self {
        let sockets = Sockets::default();
        Self { kernel, sockets, detail: Detail::Steps, random: Random::new(seed) }
    }

    /// From here on another seed decides where rules leave it to chance.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    /// A packet comes in by an interface. Its mark is ignored: no link carries one.
    pub fn receive(&mut self, interface: &str, packet: Packet) -> Result<Trace, Refusal> {
        self.walk(|walk| {
            let Some((name, _)) = walk.links.iter().find(|(name, _)| *name == interface) else {
                return Err(Refusal::NoInterface(interface.to_owned()));
            };
            walk.arrive(Flight::new(packet.with_mark(0), Some(name)))
        })
    }

    /// A process of the host sends a packet, with the mark of its socket. Without a source address
    /// routing chooses one.
    pub fn send(&mut self, packet: Packet) -> Result<Trace, Refusal> {
        self.walk(|walk| walk.depart(Flight::new(packet, None)))
    }

    /// The source address that routing chooses for packets to `to`; `None` without a route.
    pub fn source_for(&mut self, to: IpAddr) -> Result<Option<IpAddr>, Refusal> {
        self.walk(|walk| walk.source_for(to))
    }

    /// The link of a packet that left has no neighbour with the next hop's address: its sender is
    /// told, if there is a way to tell it.
    pub(super) fn no_neighbour(&mut self, packet: Packet) -> Result<Option<Trace>, Refusal> {
        self.walk(|walk| {
            let flight = walk.flight_that_left(packet);
            walk.send_error(IcmpError::HostUnreachable, &flight)?;
            Ok(walk.answers.pop())
        })
    }

    fn walk<T>(&mut self, path: impl FnOnce(&mut Walk<'_>) -> T) -> T {
        let Parts { now, xtables, sets, nft, hooks, links, routing, sysctls, conntrack } =
            self.kernel.parts();
        path(&mut Walk {
            now,
            xtables,
            sets,
            nft,
            hooks,
            links,
            routing,
            sysctls,
            conntrack,
            sockets: &mut self.sockets,
            random: &mut self.random,
            slots: Vec::new(),
            steps: Vec::new(),
            detailed: self.detail == Detail::Steps,
            answers: Vec::new(),
            packets: 0,
        })
    }
}
