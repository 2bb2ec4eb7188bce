//! Names of what is read from a packet's headers.

use super::value::Kind;
use crate::model::Family;
use crate::objects::nft::PayloadBase;

/// `IPPROTO_ICMP`.
pub(super) const ICMP: u8 = 1;
/// `IPPROTO_TCP`.
pub(super) const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub(super) const UDP: u8 = 17;
/// `IPPROTO_ICMPV6`.
pub(super) const ICMPV6: u8 = 58;
/// `IPPROTO_SCTP`.
pub(super) const SCTP: u8 = 132;

/// What the rule has established of the packet so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    /// By `meta nfproto`.
    pub(super) family: Option<Family>,
    /// By `meta l4proto` and the like.
    pub(super) protocol: Option<u8>,
}

/// A field of a header.
pub(super) struct Field {
    /// As nft names it.
    pub(super) name: String,
    /// What its values are.
    pub(super) kind: Kind,
}

/// The field at a place of a header; none where nft has no name for it. `length` may be less than
/// the field's: its first bytes, a prefix.
pub(super) fn field(
    context: Context,
    base: PayloadBase,
    offset: u32,
    length: u32,
) -> Option<Field> {
    let (header, fields) = header(context, base)?;
    let (name, _, _, kind) = fields.iter().find(|(_, start, size, kind)| {
        *start == offset && (length == *size || length < *size && kind.has_prefixes())
    })?;
    Some(Field { name: format!("{header} {name}"), kind: *kind })
}

/// The fields, by offset and length, that a place of a header consists of; none unless each has a
/// name.
pub(super) fn split(
    context: Context,
    base: PayloadBase,
    offset: u32,
    length: u32,
) -> Option<Vec<(u32, u32)>> {
    let (_, fields) = header(context, base)?;
    let end = offset.checked_add(length)?;
    let mut parts = Vec::new();
    let mut at = offset;
    while at < end {
        let (_, start, size, _) = fields.iter().find(|(_, start, ..)| *start == at)?;
        parts.push((*start, *size));
        at += size;
    }
    (at == end).then_some(parts)
}

/// The name of a header, and its fields.
fn header(context: Context, base: PayloadBase) -> Option<(&'static str, &'static [Template])> {
    Some(match base {
        PayloadBase::Network => match context.family? {
            Family::V4 => ("ip", IPV4),
            Family::V6 => ("ip6", IPV6),
        },
        PayloadBase::Transport => match context.protocol {
            Some(TCP) => ("tcp", TCP_FIELDS),
            Some(UDP) => ("udp", PORTS),
            Some(SCTP) => ("sctp", PORTS),
            Some(ICMP) => ("icmp", ICMP_FIELDS),
            Some(ICMPV6) => ("icmpv6", ICMPV6_FIELDS),
            _ => ("th", PORTS),
        },
    })
}

/// A place that has no name: `@nh,128,32`, in bits.
pub(super) fn raw(base: PayloadBase, offset: u32, length: u32) -> String {
    let header = match base {
        PayloadBase::Network => "nh",
        PayloadBase::Transport => "th",
    };
    format!("@{header},{},{}", u64::from(offset) * 8, u64::from(length) * 8)
}

/// Name, first byte, bytes, values.
type Template = (&'static str, u32, u32, Kind);

const IPV4: &[Template] = &[
    ("length", 2, 2, Kind::Number),
    ("frag-off", 6, 2, Kind::Number),
    ("ttl", 8, 1, Kind::Number),
    ("protocol", 9, 1, Kind::Protocol),
    ("saddr", 12, 4, Kind::Ipv4),
    ("daddr", 16, 4, Kind::Ipv4),
];
const IPV6: &[Template] = &[
    ("length", 4, 2, Kind::Number),
    ("nexthdr", 6, 1, Kind::Protocol),
    ("hoplimit", 7, 1, Kind::Number),
    ("saddr", 8, 16, Kind::Ipv6),
    ("daddr", 24, 16, Kind::Ipv6),
];
const PORTS: &[Template] = &[("sport", 0, 2, Kind::Port), ("dport", 2, 2, Kind::Port)];
const TCP_FIELDS: &[Template] =
    &[("sport", 0, 2, Kind::Port), ("dport", 2, 2, Kind::Port), ("flags", 13, 1, Kind::TcpFlags)];
const ICMP_FIELDS: &[Template] = &[("type", 0, 1, Kind::IcmpType), ("code", 1, 1, Kind::IcmpCode)];
const ICMPV6_FIELDS: &[Template] =
    &[("type", 0, 1, Kind::Icmpv6Type), ("code", 1, 1, Kind::Icmpv6Code)];
