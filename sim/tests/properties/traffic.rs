//! Packets on their way through a gateway, judged against the oracle.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Family, Protocol, ServiceEndpoint};
use smartnat_sim::oracle::{Established, Expectation, Oracle, Origin, Probe, ProbeKind};
use smartnat_sim::walk::{
    DropCause, Outcome, Packet, Payload, Receiver, SctpChunk, TcpFlags, Trace,
};
use smartnat_sim::{SimHost, SimKernel};

use crate::common::ip;
use crate::probes::{self, interface, packet};

/// The host's addresses on its inside.
const INSIDE: [&str; 2] = ["10.0.0.2", "fd00::2"];

/// What packets are judged by.
pub(crate) struct Judge<'a> {
    /// The snapshots that may be in force; what one of them says is right.
    pub(crate) oracles: &'a [Oracle],
    /// How marks name uplinks (P5), once that is settled.
    pub(crate) numbers: Option<(MarkLayout, BTreeMap<String, u32>)>,
}

/// A connection through the gateway, as both its ends see it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) known: Established,
    /// The interface that its client is behind.
    pub(crate) interface: String,
    client_port: u16,
    /// The client as its endpoint sees it.
    seen_as: (IpAddr, u16),
}

/// A trace with what is wrong about it.
fn misjudged(what: &str, traces: &[&Trace]) -> String {
    traces.iter().fold(format!("{what}\n"), |text, trace| text + &trace.to_string())
}

impl Judge<'_> {
    /// Sends the first packet of a would-be connection. If it is translated, the answer and one
    /// more packet follow.
    pub(crate) fn probe(
        &self,
        host: &mut SimHost,
        probe: &Probe,
        client_port: u16,
    ) -> Result<Option<Connection>, String> {
        let trace = host
            .receive(interface(probe), packet(probe, client_port))
            .map_err(|refusal| format!("the walk refuses {probe:?}: {refusal}"))?;
        let expected: Vec<Expectation> = self.oracles.iter().map(|o| o.expect(probe)).collect();
        let Some(met) = expected.iter().find(|e| agrees(e, probe, &trace)) else {
            return Err(misjudged(&format!("P1, P2: expected {expected:?}"), &[&trace]));
        };
        if let Some((layout, numbers)) = &self.numbers {
            check_marks(host, *layout, numbers, probe, client_port, &trace)?;
        }
        match met {
            Expectation::Translated { .. } => {
                let connection = Connection::translated(probe, client_port, &trace);
                connection.answer(host, true, &trace)?;
                connection.talk(host)?;
                Ok(Some(connection))
            }
            Expectation::Egress { address, .. } => {
                egress_is_answered(host, probe, client_port, *address, &trace)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl Connection {
    fn translated(probe: &Probe, client_port: u16, trace: &Trace) -> Self {
        let Outcome::Left { packet, .. } = &trace.outcome else { unreachable!("it agrees") };
        let (seen_port, port) = packet.ports().expect("a transport protocol");
        let ProbeKind::Transport { protocol, port: external_port } = probe.kind else {
            unreachable!("it is translated")
        };
        Self {
            known: Established {
                client: probe.source,
                external: probe.destination,
                protocol,
                port: external_port,
                endpoint: ServiceEndpoint { address: packet.destination, port },
            },
            interface: interface(probe).to_owned(),
            client_port,
            seen_as: (packet.source, seen_port),
        }
    }

    /// What its first packet was.
    fn probe(&self) -> Probe {
        let Established { client: source, external: destination, protocol, port, .. } = self.known;
        let kind = ProbeKind::Transport { protocol, port };
        Probe { origin: Origin::Interface(self.interface.clone()), source, destination, kind }
    }

    /// Whether its client's interface has a way back.
    pub(crate) fn can_come(&self, kernel: &SimKernel) -> bool {
        probes::can_come(&self.probe(), kernel)
    }

    /// Whether a packet within it may be the first of another to the same endpoint: not of TCP.
    pub(crate) fn begins_anew(&self, oracle: &Oracle) -> bool {
        let Expectation::Translated { endpoints, .. } = oracle.expect(&self.probe()) else {
            return false;
        };
        self.known.protocol != Protocol::Tcp && endpoints.contains(&self.known.endpoint)
    }

    /// A packet of the client within the connection.
    fn client_packet(&self) -> Packet {
        let Established { client, external, protocol, port, .. } = self.known;
        let ports = (self.client_port, port);
        segment(
            protocol,
            (client, ports.0),
            (external, ports.1),
            TcpFlags::ACK,
            SctpChunk::CookieEcho,
        )
    }

    /// Whether a packet of the client still gets to the endpoint; the way it took.
    pub(crate) fn reaches(&self, host: &mut SimHost) -> Result<(bool, Trace), String> {
        let trace = host
            .receive(&self.interface, self.client_packet())
            .map_err(|refusal| format!("the walk refuses {self:?}: {refusal}"))?;
        let ServiceEndpoint { address, port } = self.known.endpoint;
        let there = matches!(&trace.outcome, Outcome::Left { packet, .. }
            if packet.destination == address && packet.ports().is_some_and(|(_, p)| p == port));
        Ok((there, trace))
    }

    /// A packet of the client and one of the endpoint (T1, T11, P4).
    pub(crate) fn talk(&self, host: &mut SimHost) -> Result<(), String> {
        let (reaches, trace) = self.reaches(host)?;
        let seen = matches!(&trace.outcome, Outcome::Left { packet, .. }
            if (packet.source, packet.ports().map_or(0, |(port, _)| port)) == self.seen_as);
        if !reaches || !seen {
            let expected = format!("expected at {} from {:?}", self.known.endpoint, self.seen_as);
            return Err(misjudged(&format!("T1: a connection broke, {expected}"), &[&trace]));
        }
        self.answer(host, false, &trace)
    }

    /// P4: the endpoint's packet leaves by where the client is, from the external address and port.
    fn answer(&self, host: &mut SimHost, first: bool, asked: &Trace) -> Result<(), String> {
        let Established { client, external, protocol, port, endpoint } = self.known;
        let (flags, chunk) = if first {
            (TcpFlags::SYN_ACK, SctpChunk::InitAck)
        } else {
            (TcpFlags::ACK, SctpChunk::CookieEcho)
        };
        let reply =
            segment(protocol, (endpoint.address, endpoint.port), self.seen_as, flags, chunk);
        let trace = host
            .receive("int0", reply)
            .map_err(|refusal| format!("the walk refuses the reply of {self:?}: {refusal}"))?;
        let right = match &trace.outcome {
            Outcome::Left { interface, packet, next_hop } => {
                let to_client = (packet.source, packet.destination) == (external, client)
                    && packet.ports() == Some((port, self.client_port));
                let by_gateway = first_hop(interface, &client).is_none_or(|hop| hop == *next_hop);
                *interface == self.interface && to_client && by_gateway
            }
            _ => false,
        };
        if right {
            return Ok(());
        }
        let expected = format!(
            "P4: expected to leave by {} from {external} port {port} to {client} port {}",
            self.interface, self.client_port
        );
        Err(misjudged(&expected, &[asked, &trace]))
    }
}

/// The gateway of an uplink; all clients are beyond it.
fn first_hop(interface: &str, client: &IpAddr) -> Option<IpAddr> {
    let gateway = match (interface, Family::of(client)) {
        ("ext1" | "ext3", Family::V4) => "203.0.113.1",
        ("ext1", Family::V6) => "2001:db8:1::1",
        ("ext2", Family::V4) => "198.51.100.1",
        ("ext2", Family::V6) => "2001:db8:2::1",
        _ => return None,
    };
    Some(ip(gateway))
}

fn segment(
    protocol: Protocol,
    (from, source): (IpAddr, u16),
    (to, destination): (IpAddr, u16),
    flags: TcpFlags,
    chunk: SctpChunk,
) -> Packet {
    let payload = match protocol {
        Protocol::Tcp => Payload::Tcp { source, destination, flags },
        Protocol::Udp => Payload::Udp { source, destination },
        Protocol::Sctp => Payload::Sctp { source, destination, chunk },
    };
    Packet::new(from, to, payload)
}

/// Whether what happened is what the contract says.
fn agrees(expected: &Expectation, probe: &Probe, trace: &Trace) -> bool {
    let silent = trace.answers.is_empty();
    match (expected, &trace.outcome) {
        (
            Expectation::Translated { endpoints, masqueraded, .. },
            Outcome::Left { packet, interface, .. },
        ) => {
            let to = packet.ports().map(|(_, port)| (packet.destination, port));
            let hits = |address: IpAddr, port: u16| {
                endpoints.iter().any(|e| (e.address, e.port) == (address, port))
            };
            to.is_some_and(|(address, port)| hits(address, port))
                && (packet.source != probe.source) == *masqueraded
                && interface == "int0"
        }
        (Expectation::Refused { .. }, Outcome::Dropped { .. }) => silent,
        (
            Expectation::NobodyHome { .. },
            Outcome::Dropped { cause: DropCause::Rejected(_), .. },
        ) => leaves_by_the_way_it_came(probe, trace),
        // Nothing is translated that nobody owns (P1).
        (Expectation::Unconcerned, Outcome::Left { packet, .. }) => {
            packet.destination == probe.destination
        }
        (Expectation::Unconcerned, _) | (Expectation::Dropped, Outcome::Dropped { .. }) => true,
        (Expectation::Host, Outcome::Delivered { to, .. }) => {
            // An answer from an inside address must not leave an uplink (T4).
            let may_answer = !is_uplink(probe) || !INSIDE.map(ip).contains(&probe.destination);
            matches!(to, Receiver::Kernel | Receiver::Nobody)
                && (!may_answer || leaves_by_the_way_it_came(probe, trace))
        }
        (Expectation::Egress { address, uplink }, Outcome::Left { interface, packet, .. }) => {
            interface == uplink && packet.source == *address
        }
        _ => false,
    }
}

fn is_uplink(probe: &Probe) -> bool {
    interface(probe).starts_with("ext")
}

/// T11: what the host answers.
fn leaves_by_the_way_it_came(probe: &Probe, trace: &Trace) -> bool {
    let came_by = interface(probe);
    !trace.answers.is_empty()
        && trace.answers.iter().all(|answer| {
            matches!(&answer.outcome, Outcome::Left { interface, .. } if interface == came_by)
        })
}

/// T13: what comes back gets to the pod.
fn egress_is_answered(
    host: &mut SimHost,
    probe: &Probe,
    client_port: u16,
    address: IpAddr,
    asked: &Trace,
) -> Result<(), String> {
    let Outcome::Left { interface, packet, .. } = &asked.outcome else { return Ok(()) };
    let reply = match (probe.kind, packet.ports()) {
        (ProbeKind::Transport { protocol, port }, Some((from, _))) => {
            let (flags, chunk) = (TcpFlags::SYN_ACK, SctpChunk::InitAck);
            segment(protocol, (probe.destination, port), (address, from), flags, chunk)
        }
        _ => return Ok(()),
    };
    let trace = host
        .receive(interface, reply)
        .map_err(|refusal| format!("the walk refuses the answer to {probe:?}: {refusal}"))?;
    let right = matches!(&trace.outcome, Outcome::Left { interface, packet, .. }
        if interface == "int0" && packet.destination == probe.source
            && packet.ports().is_some_and(|(_, to)| to == client_port));
    if right { Ok(()) } else { Err(misjudged("T13: the answer is lost", &[asked, &trace])) }
}

/// P5: the connection's mark names the uplink that it came in by and no other, within our mask.
fn check_marks(
    host: &SimHost,
    layout: MarkLayout,
    numbers: &BTreeMap<String, u32>,
    probe: &Probe,
    client_port: u16,
    trace: &Trace,
) -> Result<(), String> {
    let began = packet(probe, client_port);
    let (Outcome::Delivered { packet: end, .. }
    | Outcome::Left { packet: end, .. }
    | Outcome::Dropped { packet: end, .. }) = &trace.outcome;
    let number = |mark| Some(layout.uplink_number(mark)).filter(|n| *n != 0);
    let came_by = numbers.get(interface(probe)).copied();
    let entry = host.kernel.conntrack().iter().find(|flow| {
        let original = &flow.key.original;
        (original.source, original.destination) == (began.source, began.destination)
            && Some((original.source_port(), original.destination_port())) == began.ports()
            && began.transport().is_some_and(|p| p.number() == original.protocol)
    });
    let mark = entry.map_or(0, |flow| flow.mark);
    if (mark | end.mark) & !layout.mask() != 0 {
        return Err(misjudged("P5: bits of others are set", &[trace]));
    }
    let of_connection = match (entry, came_by) {
        // A packet that came in by an uplink has its number; others get one with egress alone.
        (Some(_), Some(n)) => number(mark) == Some(n),
        (Some(_), None) if !layout.is_egress(mark) => number(mark).is_none(),
        _ => number(mark).is_none_or(|n| numbers.values().any(|known| *known == n)),
    };
    let of_packet = number(end.mark).is_none_or(|n| numbers.values().any(|known| *known == n));
    if of_connection && of_packet {
        return Ok(());
    }
    let text = format!("P5: connection mark {mark:#x}, packet mark {:#x}, {numbers:?}", end.mark);
    Err(misjudged(&text, &[trace]))
}
