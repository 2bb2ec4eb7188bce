//! Packets as octets on a link, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smartnat_core::model::Family;
use smartnat_core::objects::{FlowTuple, Layer4};
use smartnat_sim::walk::{Icmp, IcmpError, Packet, Payload, Quoted, SctpChunk, TcpFlags};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// The MTU that "too big" tells: less than the links have, more than any packet here.
const TOLD_MTU: u16 = 1400;

/// The IP packet, with checksums.
pub(crate) fn encode(packet: &Packet) -> Vec<u8> {
    let (protocol, mut transport) = encode_payload(packet);
    fill_checksum(protocol, packet.source, packet.destination, &mut transport);
    with_header(packet.source, packet.destination, protocol, packet.ttl, &transport)
}

fn with_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ttl: u8,
    transport: &[u8],
) -> Vec<u8> {
    let length = |octets: usize| u16::try_from(octets).expect("a small packet").to_be_bytes();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = length(20 + transport.len());
            let mut octets = vec![0x45, 0, high, low, 0, 1, 0x40, 0, ttl, protocol, 0, 0];
            octets.extend(source.octets());
            octets.extend(destination.octets());
            let sum = internet_checksum(&octets);
            octets[10..12].copy_from_slice(&sum.to_be_bytes());
            octets.extend(transport);
            octets
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length(transport.len());
            let mut octets = vec![0x60, 0, 0, 0, high, low, protocol, ttl];
            octets.extend(source.octets());
            octets.extend(destination.octets());
            octets.extend(transport);
            octets
        }
        _ => panic!("a packet of two families"),
    }
}

fn encode_payload(packet: &Packet) -> (u8, Vec<u8>) {
    let family = packet.family();
    match packet.payload {
        Payload::Tcp { source, destination, flags } => (TCP, segment(source, destination, flags)),
        Payload::Udp { source, destination } => {
            let mut octets = ports(source, destination);
            octets.extend([0, 12, 0, 0, b'p', b'i', b'n', b'g']);
            (UDP, octets)
        }
        Payload::Sctp { source, destination, chunk } => (SCTP, sctp(source, destination, chunk)),
        Payload::Icmp(message) => {
            let protocol = if family == Family::V4 { ICMP } else { ICMP_V6 };
            let (kind, code) = message.numbers(family);
            let mut octets = vec![kind, code, 0, 0];
            match message {
                Icmp::Echo { id, .. } => {
                    octets.extend(id.to_be_bytes());
                    octets.extend([0, 1, b'p', b'i', b'n', b'g']);
                }
                Icmp::Error { quoted, .. } => {
                    octets.extend([0, 0]);
                    octets.extend(TOLD_MTU.to_be_bytes());
                    octets.extend(encode_quoted(&quoted, family));
                }
                Icmp::Other { .. } => octets.extend([0; 4]),
            }
            (protocol, octets)
        }
    }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// Sequence numbers as in a connection where nobody has sent any data: the side that opened
/// began at 1000, the other at 5000. Which side sends shows in its flags alone for the opening
/// ones; connection tracking is told to be liberal about the rest.
fn segment(source: u16, destination: u16, flags: TcpFlags) -> Vec<u8> {
    let (sequence, acknowledged): (u32, u32) = match (flags.syn(), flags.ack()) {
        (true, false) => (1000, 0),
        (true, true) => (5000, 1001),
        // Refuses to open (RFC 9293, section 3.5.2).
        (false, true) if flags.rst() => (0, 1001),
        (false, _) => (1001, 5001),
    };
    let mut octets = ports(source, destination);
    octets.extend(sequence.to_be_bytes());
    octets.extend(acknowledged.to_be_bytes());
    octets.extend([0x50, flags.bits(), 0xff, 0xff, 0, 0, 0, 0]);
    octets
}

/// A packet of one chunk with the one tag that all associations here have (RFC 9260, section 3).
fn sctp(source: u16, destination: u16, chunk: SctpChunk) -> Vec<u8> {
    const TAG: [u8; 4] = [0, 0, 0, 7];
    let (kind, body): (u8, Vec<u8>) = match chunk {
        SctpChunk::Init => (1, init_body(TAG)),
        SctpChunk::InitAck => (2, [init_body(TAG), vec![0, 7, 0, 8, 1, 2, 3, 4]].concat()),
        SctpChunk::CookieEcho => (10, vec![1, 2, 3, 4]),
        SctpChunk::CookieAck => (11, Vec::new()),
        SctpChunk::Data => (0, vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        SctpChunk::Abort => (6, Vec::new()),
    };
    let mut octets = ports(source, destination);
    octets.extend(if chunk == SctpChunk::Init { [0; 4] } else { TAG });
    octets.extend([0; 4]);
    let length = u16::try_from(4 + body.len()).expect("a small chunk");
    let flags = if chunk == SctpChunk::Data { 3 } else { 0 };
    octets.extend([kind, flags]);
    octets.extend(length.to_be_bytes());
    octets.extend(body);
    let sum = crc32c::crc32c(&octets);
    octets[8..12].copy_from_slice(&sum.to_le_bytes());
    octets
}

/// Tag, window, streams, first TSN.
fn init_body(tag: [u8; 4]) -> Vec<u8> {
    [&tag[..], &[0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]].concat()
}

/// The beginning of the packet that an error is about: its header and eight octets or more.
fn encode_quoted(quoted: &Quoted, family: Family) -> Vec<u8> {
    let FlowTuple { source, destination, protocol, layer4 } = quoted.tuple;
    let mut transport = match layer4 {
        Layer4::Other => Vec::new(),
        Layer4::Ports { source, destination } => match protocol {
            TCP => segment(source, destination, TcpFlags::ACK),
            SCTP => sctp(source, destination, SctpChunk::Data),
            _ => [ports(source, destination), vec![0, 12, 0, 0, 0, 0, 0, 0]].concat(),
        },
        Layer4::Icmp { kind, code, id } => {
            [vec![kind, code, 0, 0], id.to_be_bytes().to_vec(), vec![0, 1, 0, 0]].concat()
        }
    };
    assert_eq!(Family::of(&source), family, "an error quotes a packet of its own family");
    fill_checksum(protocol, source, destination, &mut transport);
    with_header(source, destination, protocol, 60, &transport)
}

/// Reads an IP packet; `None`: none that can be said in the simulation's words.
pub(crate) fn decode(octets: &[u8]) -> Option<Packet> {
    let (source, destination, protocol, ttl, transport) = split(octets)?;
    let payload = decode_payload(protocol, transport)?;
    Some(Packet { ttl, ..Packet::new(source, destination, payload) })
}

type Parts<'a> = (IpAddr, IpAddr, u8, u8, &'a [u8]);

fn split(octets: &[u8]) -> Option<Parts<'_>> {
    match octets.first()? >> 4 {
        4 => {
            let header = octets.first_chunk::<20>()?;
            let source = Ipv4Addr::from(*header[12..].first_chunk::<4>()?);
            let destination = Ipv4Addr::from(*header[16..].first_chunk::<4>()?);
            let length = usize::from(header[0] & 0x0f) * 4;
            Some((source.into(), destination.into(), header[9], header[8], octets.get(length..)?))
        }
        6 => {
            let header = octets.first_chunk::<40>()?;
            let source = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
            let destination = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
            Some((source.into(), destination.into(), header[6], header[7], octets.get(40..)?))
        }
        _ => None,
    }
}

fn port_pair(octets: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *octets.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn decode_payload(protocol: u8, octets: &[u8]) -> Option<Payload> {
    if matches!(protocol, ICMP | ICMP_V6) {
        return decode_message(protocol, octets).map(Payload::Icmp);
    }
    let (source, destination) = port_pair(octets)?;
    match protocol {
        TCP => {
            let flags = TcpFlags::from_bits(*octets.get(13)?);
            Some(Payload::Tcp { source, destination, flags })
        }
        UDP => Some(Payload::Udp { source, destination }),
        SCTP => {
            let chunk = match octets.get(12)? {
                0 => SctpChunk::Data,
                1 => SctpChunk::Init,
                2 => SctpChunk::InitAck,
                6 => SctpChunk::Abort,
                10 => SctpChunk::CookieEcho,
                11 => SctpChunk::CookieAck,
                _ => return None,
            };
            Some(Payload::Sctp { source, destination, chunk })
        }
        _ => None,
    }
}

fn decode_message(protocol: u8, octets: &[u8]) -> Option<Icmp> {
    let family = if protocol == ICMP { Family::V4 } else { Family::V6 };
    let [kind, code, ..] = *octets.first_chunk::<8>()?;
    let id = u16::from_be_bytes([octets[4], octets[5]]);
    for reply in [false, true] {
        let echo = Icmp::Echo { reply, id };
        if echo.numbers(family) == (kind, code) {
            return Some(echo);
        }
    }
    let errors = [
        IcmpError::NetUnreachable,
        IcmpError::HostUnreachable,
        IcmpError::ProtocolUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::TooBig,
        IcmpError::TimeExceeded,
    ];
    match errors.into_iter().find(|e| e.numbers(family) == (kind, code)) {
        Some(error) => {
            let quoted = Quoted { tuple: decode_tuple(octets.get(8..)?)? };
            Some(Icmp::Error { error, quoted })
        }
        None => Some(Icmp::Other { kind, code }),
    }
}

fn decode_tuple(octets: &[u8]) -> Option<FlowTuple> {
    let (source, destination, protocol, _, transport) = split(octets)?;
    let layer4 = if matches!(protocol, ICMP | ICMP_V6) {
        let [kind, code, _, _, high, low, ..] = *transport.first_chunk::<8>()?;
        let echo = matches!((protocol, kind), (ICMP, 0 | 8) | (ICMP_V6, 128 | 129));
        let id = if echo { u16::from_be_bytes([high, low]) } else { 0 };
        Layer4::Icmp { kind, code, id }
    } else {
        let (source, destination) = port_pair(transport)?;
        Layer4::Ports { source, destination }
    };
    Some(FlowTuple { source, destination, protocol, layer4 })
}

fn fill_checksum(protocol: u8, source: IpAddr, destination: IpAddr, transport: &mut [u8]) {
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMP_V6 => 2,
        _ => return,
    };
    let mut covered = Vec::new();
    if protocol != ICMP {
        for address in [source, destination] {
            match address {
                IpAddr::V4(a) => covered.extend(a.octets()),
                IpAddr::V6(a) => covered.extend(a.octets()),
            }
        }
        let length = u32::try_from(transport.len()).expect("a small packet");
        covered.extend(length.to_be_bytes());
        covered.extend([0, 0, 0, protocol]);
    }
    covered.extend_from_slice(transport);
    let sum = internet_checksum(&covered);
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071.
fn internet_checksum(octets: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

#[test]
fn packets_survive_the_way_over_a_link() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (from, to) in [("192.0.2.1", "10.0.0.1"), ("2001:db8::1", "fd00::1")] {
        let (from, to) = (ip(from), ip(to));
        let udp = Packet::new(from, to, Payload::Udp { source: 7, destination: 8 });
        let error = Icmp::Error { error: IcmpError::PortUnreachable, quoted: Quoted::of(&udp) };
        for packet in [
            Packet::tcp((from, 1), (to, 2), TcpFlags::SYN_ACK),
            udp,
            Packet::ping(from, to, 9),
            Packet::new(to, from, Payload::Icmp(error)),
            Packet::new(
                from,
                to,
                Payload::Sctp { source: 3, destination: 4, chunk: SctpChunk::Init },
            ),
        ] {
            assert_eq!(decode(&encode(&packet)), Some(packet), "{packet}");
        }
    }
}
