//! Headers of a packet as bytes, as far as it has them.

use std::net::IpAddr;

use smartnat_core::model::Family;
use smartnat_core::objects::nft::PayloadBase;

use super::registers::Value;
use crate::walk::packet::{Icmp, Packet, Payload, SctpChunk, TcpFlags};
use crate::walk::refusal::Refusal;

/// The flags of a segment that are modelled.
const FLAGS: u8 = 0x17;

/// Bytes of a header. What comes after the headers is not modelled.
pub(super) fn read(
    packet: &Packet,
    base: PayloadBase,
    offset: u32,
    length: u32,
) -> Result<Value, Refusal> {
    let header = match base {
        PayloadBase::Network => network(packet),
        PayloadBase::Transport => transport(packet),
    };
    let (from, count) = (usize::try_from(offset), usize::try_from(length));
    let part = from.ok().zip(count.ok()).and_then(|(from, count)| header.part(from, count));
    match part {
        Some(part) => Ok(part),
        None => Refusal::not_modelled(format!("{length} bytes of {base:?} header at {offset}")),
    }
}

fn network(packet: &Packet) -> Value {
    let mut header = Value::default();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // Version; type of service, length, fragments; TTL, protocol, checksum.
            header.add_bits(4 << 4, 0xf0);
            header.add_unknown(7);
            header.add(&[packet.ttl, packet.tuple().protocol]);
            header.add_unknown(2);
            header.add(&source.octets());
            header.add(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            // Version; traffic class, flow label, length, next header; hop limit.
            header.add_bits(6 << 4, 0xf0);
            header.add_unknown(6);
            header.add(&[packet.ttl]);
            header.add(&source.octets());
            header.add(&destination.octets());
        }
        _ => {}
    }
    header
}

fn transport(packet: &Packet) -> Value {
    let mut header = Value::default();
    if let Some((source, destination)) = packet.ports() {
        header.add(&source.to_be_bytes());
        header.add(&destination.to_be_bytes());
    }
    match packet.payload {
        Payload::Tcp { flags, .. } => tcp(&mut header, flags),
        // Length and checksum.
        Payload::Udp { .. } => header.add_unknown(4),
        Payload::Sctp { chunk, .. } => {
            // Tag and checksum; type of the chunk, its flags and length.
            header.add_unknown(8);
            header.add(&[chunk_type(chunk)]);
            header.add_unknown(3);
        }
        Payload::Icmp(message) => icmp(&mut header, message, packet.family()),
    }
    header
}

/// Sequence numbers, size of the header; flags; window, checksum, urgent pointer.
fn tcp(header: &mut Value, flags: TcpFlags) {
    header.add_unknown(9);
    header.add_bits(flags.bits(), FLAGS);
    header.add_unknown(6);
}

/// Type, code; checksum; identifier; what depends on the type.
fn icmp(header: &mut Value, message: Icmp, family: Family) {
    let (kind, code) = message.numbers(family);
    header.add(&[kind, code]);
    header.add_unknown(2);
    match message {
        Icmp::Echo { id, .. } => header.add(&id.to_be_bytes()),
        Icmp::Error { .. } | Icmp::Other { .. } => header.add_unknown(2),
    }
    header.add_unknown(2);
}

/// RFC 9260, section 3.2.
fn chunk_type(chunk: SctpChunk) -> u8 {
    match chunk {
        SctpChunk::Data => 0,
        SctpChunk::Init => 1,
        SctpChunk::InitAck => 2,
        SctpChunk::Abort => 6,
        SctpChunk::CookieEcho => 10,
        SctpChunk::CookieAck => 11,
    }
}
