//! Clients: requests, connections that last, pings.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use smartnat_core::model::Protocol;

use super::Network;
use crate::walk::packet::{Icmp, IcmpError, Packet, Payload, SctpChunk, TcpFlags};
use crate::walk::refusal::Refusal;
use crate::walk::sockets::{Connection, ConnectionState};
use crate::walk::trace::{DropCause, Outcome, Trace};

/// Owner of the sockets of clients.
const CLIENT: &str = "client";
/// Ports of clients end here.
const LAST_PORT: u16 = 60_999;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Name of the server.
    pub server: String,
    /// The peer that the server saw.
    pub seen_peer: SocketAddr,
    /// The client's own end.
    pub local: SocketAddr,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestOutcome {
    /// A server answered.
    Answered(Answer),
    /// TCP: a reset. UDP: port unreachable. SCTP: an abort.
    Refused,
    /// Reset or closed by the peer after the connection was there.
    Closed,
    /// An ICMP error other than port unreachable, or no route.
    Unreachable,
    /// Nothing came back.
    TimedOut,
    /// The host's own kernel did not let it go.
    NotSent(DropCause),
    /// The host does not have the source address.
    NoSuchAddress,
}

impl RequestOutcome {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The name of the server that answered.
    pub fn server(&self) -> Option<&str> {
        self.answer().map(|a| a.server.as_str())
    }

    /// Whether a server answered.
    pub fn is_answered(&self) -> bool {
        self.answer().is_some()
    }

    fn of_error(error: IcmpError) -> Self {
        match error {
            IcmpError::PortUnreachable => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

impl fmt::Display for RequestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => {
                write!(f, "answered by {}, which saw {}", answer.server, answer.seen_peer)
            }
            Self::Refused => f.write_str("refused"),
            Self::Closed => f.write_str("closed by the peer"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TimedOut => f.write_str("no answer"),
            Self::NotSent(cause) => write!(f, "not sent: {cause}"),
            Self::NoSuchAddress => f.write_str("the host does not have the source address"),
        }
    }
}

/// An open connection or UDP port of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    host: String,
    protocol: Protocol,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Conversation {
    /// The client's own end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

/// A packet of an open connection with a request or an answer in it.
pub(super) fn data_packet(
    protocol: Protocol,
    local: SocketAddr,
    peer: SocketAddr,
    data: u32,
) -> Packet {
    let (source, destination) = (local.port(), peer.port());
    let payload = match protocol {
        Protocol::Tcp => Payload::Tcp { source, destination, flags: TcpFlags::ACK },
        Protocol::Udp => Payload::Udp { source, destination },
        Protocol::Sctp => Payload::Sctp { source, destination, chunk: SctpChunk::Data },
    };
    Packet::new(local.ip(), peer.ip(), payload).with_data(data)
}

impl Network {
    /// Opens a connection from a fresh port, asks once and closes it.
    pub fn request(
        &mut self,
        host: &str,
        source: Option<IpAddr>,
        protocol: Protocol,
        to: SocketAddr,
    ) -> Result<RequestOutcome, Refusal> {
        let source = source.map(|address| SocketAddr::new(address, 0));
        match self.open(host, source, protocol, to)? {
            Ok(conversation) => {
                let outcome = self.ask(&conversation)?;
                self.close(conversation)?;
                Ok(outcome)
            }
            Err(outcome) => Ok(outcome),
        }
    }

    /// Opens a connection or a UDP port; with a port in `source`, that one. The outer error is a
    /// refusal to simulate, the inner one how the attempt ended.
    pub fn open(
        &mut self,
        host: &str,
        source: Option<SocketAddr>,
        protocol: Protocol,
        to: SocketAddr,
    ) -> Result<Result<Conversation, RequestOutcome>, Refusal> {
        let address = match source {
            Some(source) if !self.host(host)?.kernel.links().is_local(source.ip()) => {
                return Ok(Err(RequestOutcome::NoSuchAddress));
            }
            Some(source) => source.ip(),
            None => match self.host_mut(host)?.source_for(to.ip())? {
                Some(address) => address,
                None => return Ok(Err(RequestOutcome::Unreachable)),
            },
        };
        let port = source.map(|s| s.port()).filter(|port| *port != 0);
        let local = SocketAddr::new(address, port.unwrap_or_else(|| self.next_port()));
        let conversation = Conversation { host: host.to_owned(), protocol, local, peer: to };
        let state = if protocol == Protocol::Udp {
            ConnectionState::Open
        } else {
            ConnectionState::Opening
        };
        let connection = Connection {
            owner: CLIENT.to_owned(),
            accepted: false,
            mark: 0,
            state,
            received: Vec::new(),
        };
        self.host_mut(host)?.sockets.connect((protocol, local, to), connection);
        if protocol == Protocol::Udp {
            return Ok(Ok(conversation));
        }
        let (from, at) = ((local.ip(), local.port()), (to.ip(), to.port()));
        let trace = self.send(host, Packet::opening(protocol, from, at))?;
        let outcome = match self.state_of(&conversation)? {
            ConnectionState::Open => return Ok(Ok(conversation)),
            ConnectionState::Failed(error) => RequestOutcome::of_error(error),
            ConnectionState::Reset => RequestOutcome::Refused,
            _ if is_unroutable(&trace) => RequestOutcome::Unreachable,
            _ => RequestOutcome::TimedOut,
        };
        self.host_mut(host)?.sockets.close(&(protocol, local, to));
        Ok(Err(outcome))
    }

    /// Sends a request on an open connection and waits for the answer.
    pub fn ask(&mut self, conversation: &Conversation) -> Result<RequestOutcome, Refusal> {
        let Conversation { host, protocol, local, peer } = conversation;
        let key = (*protocol, *local, *peer);
        self.last_data += 1;
        let data = self.last_data;
        if let Some(connection) = self.host_mut(host)?.sockets.connection_mut(&key) {
            match connection.state {
                ConnectionState::Reset | ConnectionState::Closed | ConnectionState::Closing => {
                    return Ok(RequestOutcome::Closed);
                }
                _ => connection.state = ConnectionState::Open,
            }
        }
        let trace = self.send(host, data_packet(*protocol, *local, *peer, data))?;
        let (state, answered) = match self.host(host)?.sockets.connection(key.0, key.1, key.2) {
            Some(c) => (c.state, c.received.contains(&data)),
            None => (ConnectionState::Closed, false),
        };
        if let (true, Some((server, seen_peer))) = (answered, self.answers.remove(&data)) {
            return Ok(RequestOutcome::Answered(Answer { server, seen_peer, local: *local }));
        }
        Ok(match (state, trace.outcome) {
            (ConnectionState::Failed(error), _) => RequestOutcome::of_error(error),
            (ConnectionState::Reset | ConnectionState::Closed, _) => RequestOutcome::Closed,
            (_, Outcome::Dropped { cause: DropCause::NoRoute, .. }) => RequestOutcome::Unreachable,
            // A datagram that a rule stops on its own host fails in the system call (EPERM).
            (_, Outcome::Dropped { cause, .. }) if *protocol == Protocol::Udp => {
                RequestOutcome::NotSent(cause)
            }
            _ => RequestOutcome::TimedOut,
        })
    }

    /// Closes a connection from the client's side.
    pub fn close(&mut self, conversation: Conversation) -> Result<(), Refusal> {
        let Conversation { host, protocol, local, peer } = conversation;
        let key = (protocol, local, peer);
        let sockets = &mut self.host_mut(&host)?.sockets;
        let open = sockets.connection_mut(&key).filter(|c| c.state == ConnectionState::Open);
        if let (Some(connection), Protocol::Tcp) = (open, protocol) {
            connection.state = ConnectionState::Closing;
            let (from, to) = ((local.ip(), local.port()), (peer.ip(), peer.port()));
            self.send(&host, Packet::tcp(from, to, TcpFlags::FIN_ACK))?;
        }
        self.host_mut(&host)?.sockets.close(&key);
        Ok(())
    }

    /// Sends an echo request; answered by the address that was asked.
    pub fn ping(
        &mut self,
        host: &str,
        source: IpAddr,
        to: IpAddr,
    ) -> Result<RequestOutcome, Refusal> {
        if !self.host(host)?.kernel.links().is_local(source) {
            return Ok(RequestOutcome::NoSuchAddress);
        }
        let (id, kept) = (self.next_port(), self.traces.take());
        self.traces = Some(Vec::new());
        let sent = self.send(host, Packet::ping(source, to, id));
        let seen = std::mem::replace(&mut self.traces, kept).unwrap_or_default();
        if let Some(traces) = &mut self.traces {
            traces.extend(seen.iter().cloned());
        }
        let trace = sent?;
        let arrived = |wanted: fn(&Icmp) -> bool| {
            seen.iter()
                .filter(|(at, _)| at == host)
                .any(|(_, trace)| took_in(trace, source, wanted))
        };
        let local = SocketAddr::new(source, id);
        Ok(if arrived(|message| matches!(message, Icmp::Echo { reply: true, .. })) {
            let server = to.to_string();
            RequestOutcome::Answered(Answer { server, seen_peer: local, local })
        } else if arrived(|message| matches!(message, Icmp::Error { .. })) || is_unroutable(&trace)
        {
            RequestOutcome::Unreachable
        } else {
            RequestOutcome::TimedOut
        })
    }

    fn state_of(&self, conversation: &Conversation) -> Result<ConnectionState, Refusal> {
        let Conversation { host, protocol, local, peer } = conversation;
        let connection = self.host(host)?.sockets.connection(*protocol, *local, *peer);
        Ok(connection.map_or(ConnectionState::Closed, |c| c.state))
    }

    /// Each connection has a port of its own until all were used.
    fn next_port(&mut self) -> u16 {
        self.last_port = if self.last_port >= LAST_PORT { 32_768 } else { self.last_port + 1 };
        self.last_port
    }
}

fn is_unroutable(trace: &Trace) -> bool {
    matches!(trace.outcome, Outcome::Dropped { cause: DropCause::NoRoute, .. })
}

/// Whether an ICMP message was delivered to `own` in a trace or an answer in it.
fn took_in(trace: &Trace, own: IpAddr, wanted: fn(&Icmp) -> bool) -> bool {
    let here = matches!(
        &trace.outcome,
        Outcome::Delivered { packet: Packet { payload: Payload::Icmp(message), destination, .. }, .. }
            if *destination == own && wanted(message)
    );
    here || trace.answers.iter().any(|answer| took_in(answer, own, wanted))
}
