//! Hosts on segments: packets go from host to host until nothing is under way.

mod build;
mod request;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use smartnat_core::model::{Family, Protocol, Timestamp};
use smartnat_core::objects::SysctlKey;

use super::packet::{Packet, Payload, SctpChunk, TcpFlags};
use super::refusal::Refusal;
use super::trace::{Outcome, Receiver, Trace};
use super::{Detail, SimHost};
use crate::Driver;

pub use build::NetworkError;
pub use request::{Answer, Conversation, RequestOutcome};

/// Packets that may follow from one that is sent.
const MAX_HOPS: usize = 256;
/// How many packets on links are remembered.
const MAX_CARRIED: usize = 4096;

/// A packet on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Host and interface that it left by.
    pub from: (String, String),
    /// Host and interface that it came in by; `None`: nobody has the next hop's address.
    pub to: Option<(String, String)>,
    /// The packet.
    pub packet: Packet,
}

/// Simulated hosts, joined by segments.
///
/// A next hop is found by its address on the segment: no neighbour discovery takes place, and
/// nothing is lost, delayed or sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    hosts: BTreeMap<String, SimHost>,
    /// Host and interface of each attachment, by segment.
    segments: Vec<Vec<(String, String)>>,
    queue: VecDeque<(String, String, Packet)>,
    carried: VecDeque<Carried>,
    /// Packets on links since the beginning.
    carried_ever: u64,
    traces: Option<Vec<(String, Trace)>>,
    deliveries: BTreeMap<String, u64>,
    answers: BTreeMap<u32, (String, SocketAddr)>,
    last_port: u16,
    last_data: u32,
}

impl Network {
    /// A host by name.
    pub fn host(&self, name: &str) -> Result<&SimHost, Refusal> {
        self.hosts.get(name).ok_or_else(|| Refusal::NoHost(name.to_owned()))
    }

    /// A host by name, for changes.
    pub fn host_mut(&mut self, name: &str) -> Result<&mut SimHost, Refusal> {
        self.hosts.get_mut(name).ok_or_else(|| Refusal::NoHost(name.to_owned()))
    }

    /// Lends a host's kernel to a gateway for as long as `work` takes.
    pub fn drive<T>(
        &mut self,
        host: &str,
        driver: &mut Driver,
        work: impl FnOnce(&mut Driver) -> T,
    ) -> Result<T, Refusal> {
        std::mem::swap(&mut self.host_mut(host)?.kernel, &mut driver.kernel);
        let result = work(driver);
        std::mem::swap(&mut self.host_mut(host)?.kernel, &mut driver.kernel);
        self.catch_up();
        Ok(result)
    }

    /// Lets time pass on all hosts.
    pub fn advance(&mut self, millis: u64) {
        self.hosts.values_mut().for_each(|host| host.kernel.advance(millis));
    }

    /// Hosts whose time lags behind catch up.
    fn catch_up(&mut self) {
        let now = self.hosts.values().map(|h| h.kernel.now()).max().unwrap_or(Timestamp(0));
        for host in self.hosts.values_mut() {
            host.kernel.advance(now.0 - host.kernel.now().0);
        }
    }

    /// Answers requests on ports of a host, on these addresses or on all of the host.
    pub fn serve(
        &mut self,
        host: &str,
        owner: &str,
        addresses: &[IpAddr],
        ports: &[(Protocol, u16)],
    ) -> Result<(), Refusal> {
        let sockets = &mut self.host_mut(host)?.sockets;
        for (protocol, port) in ports {
            if addresses.is_empty() {
                sockets.listen(owner, *protocol, None, *port);
            }
            for address in addresses {
                sockets.listen(owner, *protocol, Some(*address), *port);
            }
        }
        Ok(())
    }

    /// Ends a server and its connections, without a word to its peers.
    pub fn stop(&mut self, host: &str, owner: &str) -> Result<(), Refusal> {
        self.host_mut(host)?.sockets.close_all_of(owner);
        Ok(())
    }

    /// Requests that reached a server; for TCP and SCTP a connection counts as one too.
    pub fn deliveries(&self, owner: &str) -> u64 {
        self.deliveries.get(owner).copied().unwrap_or(0)
    }

    /// The last packets on links.
    pub fn carried(&self) -> impl Iterator<Item = &Carried> {
        self.carried.iter()
    }

    /// How many packets were on links since the beginning.
    pub fn carried_ever(&self) -> u64 {
        self.carried_ever
    }

    /// The packets on links after the first `mark` ones; `None` where some of them are forgotten.
    pub fn carried_since(&self, mark: u64) -> Option<impl Iterator<Item = &Carried>> {
        let wanted = usize::try_from(self.carried_ever.checked_sub(mark)?).ok()?;
        Some(self.carried.range(self.carried.len().checked_sub(wanted)?..))
    }

    /// Forgets the packets on links so far.
    pub fn forget_carried(&mut self) {
        self.carried.clear();
    }

    /// Keeps every host's traces from now on.
    pub fn keep_traces(&mut self) {
        self.traces = Some(Vec::new());
        self.hosts.values_mut().for_each(|host| host.detail = Detail::Steps);
    }

    /// The traces since they were last taken, with the host of each.
    pub fn take_traces(&mut self) -> Vec<(String, Trace)> {
        self.traces.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A process sends a packet; returns when nothing is under way any more. The trace is that of
    /// the packet on its own host.
    pub fn send(&mut self, host: &str, packet: Packet) -> Result<Trace, Refusal> {
        let trace = self.host_mut(host)?.send(packet)?;
        self.process(host, &trace)?;
        for _ in 0..MAX_HOPS {
            let Some((host, interface, packet)) = self.queue.pop_front() else { return Ok(trace) };
            let arrived = self.host_mut(&host)?.receive(&interface, packet)?;
            self.process(&host, &arrived)?;
        }
        self.queue.clear();
        Err(Refusal::Endless(MAX_HOPS))
    }

    /// What follows from a packet's path on one host.
    fn process(&mut self, host: &str, trace: &Trace) -> Result<(), Refusal> {
        self.keep(host, trace);
        let mut pending = VecDeque::from([trace.clone()]);
        for _ in 0..MAX_HOPS {
            let Some(Trace { outcome, answers, .. }) = pending.pop_front() else { return Ok(()) };
            pending.extend(answers);
            let more = match outcome {
                Outcome::Left { interface, next_hop, packet } => {
                    self.transmit(host, &interface, next_hop, packet)?
                }
                Outcome::Delivered { to: Receiver::Socket { owner }, packet } => {
                    self.serve_request(host, &owner, &packet)?
                }
                Outcome::Delivered { .. } | Outcome::Dropped { .. } => None,
            };
            if let Some(trace) = more {
                self.keep(host, &trace);
                pending.push_back(trace);
            }
        }
        Err(Refusal::Endless(MAX_HOPS))
    }

    fn keep(&mut self, host: &str, trace: &Trace) {
        if let Some(traces) = &mut self.traces {
            traces.push((host.to_owned(), trace.clone()));
        }
    }

    /// Puts a packet on a link. Without a neighbour the sender's kernel gives an error.
    fn transmit(
        &mut self,
        host: &str,
        interface: &str,
        next_hop: IpAddr,
        packet: Packet,
    ) -> Result<Option<Trace>, Refusal> {
        let from = (host.to_owned(), interface.to_owned());
        let to = self.neighbour(&from, next_hop);
        if self.carried.len() == MAX_CARRIED {
            self.carried.pop_front();
        }
        self.carried_ever += 1;
        self.carried.push_back(Carried { from, to: to.clone(), packet });
        if let Some((host, interface)) = to {
            self.queue.push_back((host, interface, packet.with_mark(0)));
            return Ok(None);
        }
        self.host_mut(host)?.no_neighbour(packet)
    }

    /// Who answers for an address on the segment of an interface: who holds it there, or, for IPv4 and
    /// with `arp_ignore` 0, on another link.
    fn neighbour(&self, from: &(String, String), address: IpAddr) -> Option<(String, String)> {
        let segment = self.segments.iter().find(|segment| segment.contains(from))?;
        let attached: Vec<_> = segment.iter().filter(|end| *end != from).collect();
        let own = attached.iter().find(|(host, name)| self.answers_for(host, name, address, true));
        let weak = || {
            let mut others = attached.iter().filter(|(host, _)| *host != from.0);
            others.find(|(host, name)| self.answers_for(host, name, address, false))
        };
        own.or_else(weak).map(|end| (*end).clone())
    }

    fn answers_for(&self, host: &str, interface: &str, address: IpAddr, own: bool) -> bool {
        let Some(kernel) = self.hosts.get(host).map(|h| &h.kernel) else { return false };
        let Some(link) = kernel.links().get(interface) else { return false };
        if !(link.up && link.carrier) {
            return false;
        }
        if own {
            return link.addresses.iter().any(|a| a.address.addr() == address);
        }
        let ignores = kernel.sysctls().largest(
            |key| matches!(key, SysctlKey::ArpIgnore(name) if name == "all" || name == interface),
        );
        Family::of(&address) == Family::V4
            && ignores == 0
            && !address.is_loopback()
            && kernel.links().is_local(address)
    }

    /// Servers answer every request, once, with the number that came with it.
    fn serve_request(
        &mut self,
        host: &str,
        owner: &str,
        packet: &Packet,
    ) -> Result<Option<Trace>, Refusal> {
        let (Some(protocol), Some((source, destination))) = (packet.transport(), packet.ports())
        else {
            return Ok(None);
        };
        let (local, peer) = (
            SocketAddr::new(packet.destination, destination),
            SocketAddr::new(packet.source, source),
        );
        let connection = self.host(host)?.sockets.connection(protocol, local, peer);
        if connection.is_some_and(|c| !c.accepted) {
            return Ok(None);
        }
        let mark = connection.map_or(0, |c| c.mark);
        let opens = packet.tcp_flags() == Some(TcpFlags::SYN)
            || matches!(packet.payload, Payload::Sctp { chunk: SctpChunk::Init, .. });
        if opens || packet.data != 0 {
            *self.deliveries.entry(owner.to_owned()).or_default() += 1;
        }
        if packet.data == 0 {
            return Ok(None);
        }
        self.answers.insert(packet.data, (owner.to_owned(), peer));
        let answer = request::data_packet(protocol, local, peer, packet.data).with_mark(mark);
        self.host_mut(host)?.send(answer).map(Some)
    }
}
