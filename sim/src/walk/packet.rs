//! Packets, as far as the kernel looks into them.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smartnat_core::model::{Family, Protocol};
use smartnat_core::objects::{FlowTuple, Layer4};

/// IANA number of ICMP.
const ICMP: u8 = 1;
/// IANA number of `ICMPv6`.
const ICMP_V6: u8 = 58;
/// TTL or hop limit that a host begins with.
const DEFAULT_TTL: u8 = 64;
/// Octets of IP and transport header, about.
const DEFAULT_LENGTH: u16 = 60;

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packet {
    /// Source address; unspecified in a packet of the host itself: routing chooses it.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What it carries.
    pub payload: Payload,
    /// Packet mark; means something on one host only.
    pub mark: u32,
    /// Octets.
    pub length: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Number of the request or answer that it carries; 0: none.
    pub data: u32,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// A TCP segment.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags.
        flags: TcpFlags,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// An SCTP packet of one chunk.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The chunk.
        chunk: SctpChunk,
    },
    /// ICMP in IPv4, `ICMPv6` in IPv6.
    Icmp(Icmp),
}

/// Flags of a TCP segment, as bits of its header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// Opens a connection.
    pub const SYN: Self = Self(0x02);
    /// Accepts a connection.
    pub const SYN_ACK: Self = Self(0x12);
    /// Acknowledges, with or without data.
    pub const ACK: Self = Self(0x10);
    /// Closes one direction.
    pub const FIN_ACK: Self = Self(0x11);
    /// Resets, in answer to a segment with ACK.
    pub const RST: Self = Self(0x04);
    /// Resets, in answer to one without.
    pub const RST_ACK: Self = Self(0x14);

    /// As they are in the header.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// FIN.
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// SYN.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// RST.
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// ACK.
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            [(self.syn(), "SYN"), (self.fin(), "FIN"), (self.rst(), "RST"), (self.ack(), "ACK")];
        let set: Vec<_> = names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(if set.is_empty() { "no flags" } else { "" })?;
        f.write_str(&set.join(","))
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpFlags({self})")
    }
}

/// Chunks of SCTP that are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SctpChunk {
    /// INIT.
    Init,
    /// INIT-ACK.
    InitAck,
    /// COOKIE-ECHO.
    CookieEcho,
    /// COOKIE-ACK.
    CookieAck,
    /// DATA.
    Data,
    /// ABORT.
    Abort,
}

/// Messages of ICMP and `ICMPv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Icmp {
    /// Echo.
    Echo {
        /// Reply instead of request.
        reply: bool,
        /// Identifier.
        id: u16,
    },
    /// An error about a packet.
    Error {
        /// Which.
        error: IcmpError,
        /// The packet, as it was when the error arose.
        quoted: Quoted,
    },
    /// Another message by its numbers.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// Errors of ICMP and their like in `ICMPv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IcmpError {
    /// No route.
    NetUnreachable,
    /// The next hop or the destination does not answer on its link.
    HostUnreachable,
    /// No such protocol on the destination.
    ProtocolUnreachable,
    /// No socket on the port.
    PortUnreachable,
    /// Larger than the link takes.
    TooBig,
    /// TTL or hop limit was used up.
    TimeExceeded,
}

/// The part of a packet that an ICMP error repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quoted {
    /// Addresses, ports or query.
    pub tuple: FlowTuple,
}

impl Quoted {
    /// The quotation of a packet.
    pub fn of(packet: &Packet) -> Self {
        Self { tuple: packet.tuple() }
    }
}

impl IcmpError {
    /// Type and code in a family.
    pub fn numbers(self, family: Family) -> (u8, u8) {
        match family {
            Family::V4 => match self {
                Self::NetUnreachable => (3, 0),
                Self::HostUnreachable => (3, 1),
                Self::ProtocolUnreachable => (3, 2),
                Self::PortUnreachable => (3, 3),
                Self::TooBig => (3, 4),
                Self::TimeExceeded => (11, 0),
            },
            Family::V6 => match self {
                Self::NetUnreachable => (1, 0),
                Self::HostUnreachable => (1, 3),
                Self::ProtocolUnreachable => (4, 1),
                Self::PortUnreachable => (1, 4),
                Self::TooBig => (2, 0),
                Self::TimeExceeded => (3, 0),
            },
        }
    }
}

impl Icmp {
    /// Type and code in a family.
    pub fn numbers(self, family: Family) -> (u8, u8) {
        match (self, family) {
            (Self::Echo { reply: false, .. }, Family::V4) => (8, 0),
            (Self::Echo { reply: true, .. }, Family::V4) => (0, 0),
            (Self::Echo { reply: false, .. }, Family::V6) => (128, 0),
            (Self::Echo { reply: true, .. }, Family::V6) => (129, 0),
            (Self::Error { error, .. }, family) => error.numbers(family),
            (Self::Other { kind, code }, _) => (kind, code),
        }
    }
}

impl Packet {
    /// A packet without mark, of ordinary length and TTL.
    pub fn new(source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        let (length, ttl) = (DEFAULT_LENGTH, DEFAULT_TTL);
        Self { source, destination, payload, mark: 0, length, ttl, data: 0 }
    }

    /// The first packet of a connection of a transport protocol.
    pub fn opening(protocol: Protocol, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let ports = (source.1, destination.1);
        let payload = match protocol {
            Protocol::Tcp => Payload::tcp(ports, TcpFlags::SYN),
            Protocol::Udp => Payload::Udp { source: ports.0, destination: ports.1 },
            Protocol::Sctp => Payload::sctp(ports, SctpChunk::Init),
        };
        Self::new(source.0, destination.0, payload)
    }

    /// A TCP segment.
    pub fn tcp(source: (IpAddr, u16), destination: (IpAddr, u16), flags: TcpFlags) -> Self {
        Self::new(source.0, destination.0, Payload::tcp((source.1, destination.1), flags))
    }

    /// An echo request.
    pub fn ping(source: IpAddr, destination: IpAddr, id: u16) -> Self {
        Self::new(source, destination, Payload::Icmp(Icmp::Echo { reply: false, id }))
    }

    /// The same with another mark.
    pub fn with_mark(self, mark: u32) -> Self {
        Self { mark, ..self }
    }

    /// The same with a request or an answer in it.
    pub fn with_data(self, data: u32) -> Self {
        Self { data, ..self }
    }

    /// Address family.
    pub fn family(&self) -> Family {
        Family::of(&self.destination)
    }

    /// Its transport protocol, unless it is ICMP.
    pub fn transport(&self) -> Option<Protocol> {
        match self.payload {
            Payload::Tcp { .. } => Some(Protocol::Tcp),
            Payload::Udp { .. } => Some(Protocol::Udp),
            Payload::Sctp { .. } => Some(Protocol::Sctp),
            Payload::Icmp(_) => None,
        }
    }

    /// Source and destination port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.payload {
            Payload::Tcp { source, destination, .. }
            | Payload::Udp { source, destination }
            | Payload::Sctp { source, destination, .. } => Some((source, destination)),
            Payload::Icmp(_) => None,
        }
    }

    /// Flags of a TCP segment.
    pub fn tcp_flags(&self) -> Option<TcpFlags> {
        match self.payload {
            Payload::Tcp { flags, .. } => Some(flags),
            _ => None,
        }
    }

    /// Whether it is an ICMP error.
    pub fn is_icmp_error(&self) -> bool {
        matches!(self.payload, Payload::Icmp(Icmp::Error { .. }))
    }

    /// What conntrack knows a packet of its connection by.
    pub(crate) fn tuple(&self) -> FlowTuple {
        let family = self.family();
        let icmp = if family == Family::V4 { ICMP } else { ICMP_V6 };
        let (protocol, layer4) = match self.payload {
            Payload::Icmp(message) => {
                let (kind, code) = message.numbers(family);
                let id = if let Icmp::Echo { id, .. } = message { id } else { 0 };
                (icmp, Layer4::Icmp { kind, code, id })
            }
            Payload::Tcp { source, destination, .. } => (6, Layer4::Ports { source, destination }),
            Payload::Udp { source, destination } => (17, Layer4::Ports { source, destination }),
            Payload::Sctp { source, destination, .. } => {
                (132, Layer4::Ports { source, destination })
            }
        };
        FlowTuple { source: self.source, destination: self.destination, protocol, layer4 }
    }

    /// Gives it the source of a tuple: address, and port or id.
    pub(crate) fn set_source(&mut self, tuple: &FlowTuple) {
        self.source = tuple.source;
        match &mut self.payload {
            Payload::Tcp { source, .. }
            | Payload::Udp { source, .. }
            | Payload::Sctp { source, .. } => *source = tuple.source_port(),
            Payload::Icmp(message) => message.set_id(tuple),
        }
    }

    /// Gives it the destination of a tuple: address, and port or id.
    pub(crate) fn set_destination(&mut self, tuple: &FlowTuple) {
        self.destination = tuple.destination;
        match &mut self.payload {
            Payload::Tcp { destination, .. }
            | Payload::Udp { destination, .. }
            | Payload::Sctp { destination, .. } => *destination = tuple.destination_port(),
            Payload::Icmp(message) => message.set_id(tuple),
        }
    }
}

impl Icmp {
    fn set_id(&mut self, tuple: &FlowTuple) {
        if let (Self::Echo { id, .. }, Layer4::Icmp { id: new, .. }) = (self, tuple.layer4) {
            *id = new;
        }
    }
}

impl Payload {
    fn tcp(ports: (u16, u16), flags: TcpFlags) -> Self {
        Self::Tcp { source: ports.0, destination: ports.1, flags }
    }

    fn sctp(ports: (u16, u16), chunk: SctpChunk) -> Self {
        Self::Sctp { source: ports.0, destination: ports.1, chunk }
    }
}

fn end(address: IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address, port)
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((source, destination)) = self.ports() {
            let protocol = self.transport().map_or("", Protocol::name);
            let (from, to) = (end(self.source, source), end(self.destination, destination));
            write!(f, "{protocol} {from} -> {to}")?;
        }
        match self.payload {
            Payload::Tcp { flags, .. } => write!(f, " {flags}")?,
            Payload::Udp { .. } => {}
            Payload::Sctp { chunk, .. } => write!(f, " {chunk:?}")?,
            Payload::Icmp(message) => {
                write!(f, "icmp {} -> {} {message}", self.source, self.destination)?;
            }
        }
        if self.mark != 0 {
            write!(f, " mark {:#x}", self.mark)?;
        }
        Ok(())
    }
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo { reply: false, id } => write!(f, "echo request {id}"),
            Self::Echo { reply: true, id } => write!(f, "echo reply {id}"),
            Self::Error { error, quoted } => {
                let Quoted { tuple } = quoted;
                let from = end(tuple.source, tuple.source_port());
                let to = end(tuple.destination, tuple.destination_port());
                write!(f, "{error} about {from} -> {to}")
            }
            Self::Other { kind, code } => write!(f, "type {kind} code {code}"),
        }
    }
}

impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetUnreachable => "no route",
            Self::HostUnreachable => "host unreachable",
            Self::ProtocolUnreachable => "protocol unreachable",
            Self::PortUnreachable => "port unreachable",
            Self::TooBig => "packet too big",
            Self::TimeExceeded => "time exceeded",
        })
    }
}
