//! Delivery to the host: sockets, and what the kernel answers by itself.

use std::net::SocketAddr;

use smartnat_core::model::Protocol;
use smartnat_core::objects::{Layer4, SysctlKey};

use super::packet::{Icmp, IcmpError, Packet, Payload, Quoted, SctpChunk, TcpFlags};
use super::path::{Flight, Halt, Walk};
use super::refusal::Refusal;
use super::sockets::{Connection, ConnectionKey, ConnectionState};
use super::trace::{Outcome, Receiver};
use super::track::Tracking;

impl<'k> Walk<'k> {
    /// Hands a packet to whoever it is for.
    pub(super) fn deliver(&mut self, flight: &Flight<'k>) -> Result<Outcome, Halt> {
        let packet = &flight.packet;
        let to = match packet.payload {
            Payload::Tcp { flags, .. } => self.deliver_segment(flight, flags)?,
            Payload::Udp { .. } => self.deliver_datagram(flight)?,
            Payload::Sctp { chunk, .. } => self.deliver_chunk(flight, chunk)?,
            Payload::Icmp(Icmp::Echo { reply: false, id }) => {
                self.send_echo_reply(packet, id)?;
                Receiver::Kernel
            }
            Payload::Icmp(Icmp::Error { error, quoted }) => self.deliver_error(error, &quoted),
            Payload::Icmp(Icmp::Echo { .. } | Icmp::Other { .. }) => Receiver::Kernel,
        };
        Ok(Outcome::Delivered { to, packet: *packet })
    }

    fn deliver_segment(
        &mut self,
        flight: &Flight<'k>,
        flags: TcpFlags,
    ) -> Result<Receiver, Refusal> {
        let packet = &flight.packet;
        let key = key(Protocol::Tcp, packet);
        let opens = flags.syn() && !flags.ack();
        if let Some(connection) = self.sockets.connection_mut(&key).filter(|_| !opens) {
            let (owner, mark) = (connection.owner.clone(), connection.mark);
            let answer = advance(connection, flags, packet.data);
            if flags.rst() && connection.accepted {
                self.sockets.close(&key);
            }
            if let Some(flags) = answer {
                self.send_segment(&key, flags, mark)?;
            }
            return Ok(Receiver::Socket { owner });
        }
        let Some(owner) = self.sockets.listener(Protocol::Tcp, key.1).filter(|_| opens) else {
            // Another lookup of conntrack than REJECT's: nothing is attached (ip_send_unicast_reply).
            self.send_reset(flight, Tracking::Unseen)?;
            return Ok(Receiver::Nobody);
        };
        let owner = owner.to_owned();
        // inet_request_mark: counts for IPv6 too.
        let takes_mark = self.sysctls.largest(|key| *key == SysctlKey::TcpMarkAccept) != 0;
        let mark = if takes_mark { packet.mark } else { 0 };
        self.sockets.connect(key, accepted(&owner, mark));
        self.send_segment(&key, TcpFlags::SYN_ACK, mark)?;
        Ok(Receiver::Socket { owner })
    }

    fn send_segment(
        &mut self,
        (_, local, peer): &ConnectionKey,
        flags: TcpFlags,
        mark: u32,
    ) -> Result<(), Refusal> {
        let (from, to) = ((local.ip(), local.port()), (peer.ip(), peer.port()));
        self.send(Packet::tcp(from, to, flags).with_mark(mark), Tracking::Unseen)
    }

    fn deliver_datagram(&mut self, flight: &Flight<'k>) -> Result<Receiver, Refusal> {
        let packet = &flight.packet;
        let key = key(Protocol::Udp, packet);
        if let Some(connection) = self.sockets.connection_mut(&key) {
            connection.received.push(packet.data);
            return Ok(Receiver::Socket { owner: connection.owner.clone() });
        }
        if let Some(owner) = self.sockets.listener(Protocol::Udp, key.1) {
            return Ok(Receiver::Socket { owner: owner.to_owned() });
        }
        self.send_error(IcmpError::PortUnreachable, flight)?;
        Ok(Receiver::Nobody)
    }

    /// Without any SCTP socket the kernel does not speak the protocol: its module is not loaded.
    fn deliver_chunk(
        &mut self,
        flight: &Flight<'k>,
        chunk: SctpChunk,
    ) -> Result<Receiver, Refusal> {
        let packet = &flight.packet;
        let key = key(Protocol::Sctp, packet);
        if !self.sockets.speaks(Protocol::Sctp) {
            self.send_error(IcmpError::ProtocolUnreachable, flight)?;
            return Ok(Receiver::Nobody);
        }
        if chunk == SctpChunk::Init {
            let Some(owner) = self.sockets.listener(Protocol::Sctp, key.1).map(str::to_owned)
            else {
                self.send_chunk(packet, SctpChunk::Abort)?;
                return Ok(Receiver::Nobody);
            };
            self.sockets.connect(key, accepted(&owner, 0));
            self.send_chunk(packet, SctpChunk::InitAck)?;
            return Ok(Receiver::Socket { owner });
        }
        let Some(connection) = self.sockets.connection_mut(&key) else {
            if chunk != SctpChunk::Abort {
                self.send_chunk(packet, SctpChunk::Abort)?;
            }
            return Ok(Receiver::Nobody);
        };
        let owner = connection.owner.clone();
        let answer = match chunk {
            SctpChunk::InitAck => Some(SctpChunk::CookieEcho),
            SctpChunk::CookieEcho => Some(SctpChunk::CookieAck),
            _ => None,
        };
        match chunk {
            SctpChunk::Abort => connection.state = ConnectionState::Reset,
            SctpChunk::CookieEcho | SctpChunk::CookieAck => {
                connection.state = ConnectionState::Open;
            }
            SctpChunk::Data if !connection.accepted => connection.received.push(packet.data),
            SctpChunk::Init | SctpChunk::InitAck | SctpChunk::Data => {}
        }
        if let Some(chunk) = answer {
            self.send_chunk(packet, chunk)?;
        }
        Ok(Receiver::Socket { owner })
    }

    /// `__udp4_lib_err`, `tcp_v4_err`: the socket that sent the quoted packet.
    fn deliver_error(&mut self, error: IcmpError, quoted: &Quoted) -> Receiver {
        let tuple = &quoted.tuple;
        let (Some(protocol), Layer4::Ports { source, destination }) =
            (Protocol::from_number(tuple.protocol), tuple.layer4)
        else {
            return Receiver::Kernel;
        };
        let local = SocketAddr::new(tuple.source, source);
        let peer = SocketAddr::new(tuple.destination, destination);
        let Some(connection) = self.sockets.connection_mut(&(protocol, local, peer)) else {
            return Receiver::Kernel;
        };
        // Too big a packet is sent again smaller; an error for a connection that stands is passing.
        if error == IcmpError::TooBig {
            return Receiver::Socket { owner: connection.owner.clone() };
        }
        if protocol == Protocol::Udp || connection.state == ConnectionState::Opening {
            connection.state = ConnectionState::Failed(error);
        }
        Receiver::Socket { owner: connection.owner.clone() }
    }
}

/// The end here that a packet is for, and its peer.
fn key(protocol: Protocol, packet: &Packet) -> ConnectionKey {
    let (source, destination) = packet.ports().unwrap_or_default();
    let local = SocketAddr::new(packet.destination, destination);
    (protocol, local, SocketAddr::new(packet.source, source))
}

fn accepted(owner: &str, mark: u32) -> Connection {
    Connection {
        owner: owner.to_owned(),
        accepted: true,
        mark,
        state: ConnectionState::Open,
        received: Vec::new(),
    }
}

/// What a segment does to a connection, and the flags of the answer to it.
fn advance(connection: &mut Connection, flags: TcpFlags, data: u32) -> Option<TcpFlags> {
    if flags.rst() {
        connection.state = ConnectionState::Reset;
        return None;
    }
    match (connection.state, flags.syn(), flags.fin()) {
        (ConnectionState::Opening, true, _) => {
            connection.state = ConnectionState::Open;
            Some(TcpFlags::ACK)
        }
        // Each side closes when the other does.
        (ConnectionState::Open, false, true) => {
            connection.state = ConnectionState::Closed;
            Some(TcpFlags::FIN_ACK)
        }
        (ConnectionState::Closing, false, true) => {
            connection.state = ConnectionState::Closed;
            Some(TcpFlags::ACK)
        }
        (ConnectionState::Open, false, false) if data != 0 && !connection.accepted => {
            connection.received.push(data);
            None
        }
        _ => None,
    }
}
