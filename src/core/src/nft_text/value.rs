//! Values as nft writes them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::payload::{ICMP, ICMPV6, SCTP, TCP, UDP};
use super::quoted;
use crate::objects::nft::NftType;

/// What the bytes of a value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Mark,
    InterfaceName,
    NfProto,
    State,
    Direction,
    Status,
    AddressType,
    TcpFlags,
    IcmpType,
    Icmpv6Type,
    IcmpCode,
    Icmpv6Code,
    /// A number in network byte order.
    Number,
    /// Bytes of no known meaning.
    Bytes,
}

impl From<NftType> for Kind {
    fn from(kind: NftType) -> Self {
        match kind {
            NftType::Ipv4 => Self::Ipv4,
            NftType::Ipv6 => Self::Ipv6,
            NftType::Protocol => Self::Protocol,
            NftType::Port => Self::Port,
            NftType::Mark => Self::Mark,
            NftType::InterfaceName => Self::InterfaceName,
            NftType::Unknown(_) => Self::Bytes,
        }
    }
}

impl Kind {
    /// Whether ranges of values are written as prefixes.
    pub(super) fn has_prefixes(self) -> bool {
        matches!(self, Self::Ipv4 | Self::Ipv6)
    }

    /// Whether a value is a set of named bits.
    pub(super) fn is_bitmask(self) -> bool {
        matches!(self, Self::State | Self::Status | Self::TcpFlags)
    }

    /// Names of single values or, in a bitmask, of bits.
    fn names(self) -> &'static [(u32, &'static str)] {
        match self {
            Self::Protocol => PROTOCOLS,
            Self::NfProto => &[(2, "ipv4"), (10, "ipv6")],
            Self::State => STATES,
            Self::Direction => &[(0, "original"), (1, "reply")],
            Self::Status => STATUSES,
            Self::AddressType => ADDRESS_TYPES,
            Self::TcpFlags => TCP_FLAGS,
            Self::IcmpType => ICMP_TYPES,
            Self::Icmpv6Type => ICMPV6_TYPES,
            Self::IcmpCode => ICMP_CODES,
            Self::Icmpv6Code => ICMPV6_CODES,
            _ => &[],
        }
    }

    /// The number that the bytes are, in the byte order of this kind; none if they are too many.
    fn number(self, bytes: &[u8]) -> Option<u32> {
        match self {
            Self::Mark | Self::State | Self::Status | Self::AddressType => {
                Some(u32::from_ne_bytes(bytes.try_into().ok()?))
            }
            _ if bytes.len() <= 4 => {
                Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
            }
            _ => None,
        }
    }
}

/// A value; bytes that can't be one as a hexadecimal number.
pub(super) fn text(kind: Kind, bytes: &[u8]) -> String {
    known_text(kind, bytes).unwrap_or_else(|| hexadecimal(bytes))
}

fn known_text(kind: Kind, bytes: &[u8]) -> Option<String> {
    Some(match kind {
        Kind::Ipv4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
        Kind::Ipv6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        Kind::InterfaceName => interface(bytes),
        Kind::Mark => format!("{:#010x}", kind.number(bytes)?),
        Kind::Bytes => return None,
        _ if kind.is_bitmask() => bits(kind, bytes, " | ")?,
        _ => {
            let number = kind.number(bytes)?;
            let name = kind.names().iter().find(|(value, _)| *value == number);
            name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
        }
    })
}

/// The names of the bits that are set, from the lowest; none if one has no name.
pub(super) fn bits(kind: Kind, bytes: &[u8], separator: &str) -> Option<String> {
    let mut rest = kind.number(bytes)?;
    if rest == 0 {
        return Some("0x0".to_owned());
    }
    let mut names = Vec::new();
    for (bit, name) in kind.names() {
        if rest & bit != 0 {
            rest &= !bit;
            names.push(*name);
        }
    }
    (rest == 0).then(|| names.join(separator))
}

/// The values from `first` to `last`, both included.
pub(super) fn interval(kind: Kind, first: &[u8], last: &[u8]) -> String {
    if first == last {
        return text(kind, first);
    }
    match prefix_length(first, last) {
        Some(length) if kind.has_prefixes() => format!("{}/{length}", text(kind, first)),
        _ => format!("{}-{}", text(kind, first), text(kind, last)),
    }
}

/// How many leading bits all values between two have in common, if those values are all there are
/// with these bits.
fn prefix_length(first: &[u8], last: &[u8]) -> Option<usize> {
    let differing: Vec<u8> = first.iter().zip(last).map(|(a, b)| a ^ b).collect();
    let length = first.len() * 8 - mask_length(&differing, 0)?;
    let zeros = first.iter().zip(&differing).all(|(byte, open)| byte & open == 0);
    (first.len() == last.len() && zeros).then_some(length)
}

/// The length of the prefix that a network mask stands for; none if it stands for none.
pub(super) fn mask_prefix(mask: &[u8]) -> Option<usize> {
    mask_length(mask, 0xff).map(|host| mask.len() * 8 - host)
}

/// How many bits at the end, of bytes exclusive-or `inverted`, are one where all others are zero.
fn mask_length(bytes: &[u8], inverted: u8) -> Option<usize> {
    let length = bytes.iter().map(|byte| (byte ^ inverted).count_ones() as usize).sum();
    let leading: usize = {
        let zero = bytes.iter().take_while(|byte| **byte ^ inverted == 0).count();
        zero * 8 + bytes.get(zero).map_or(0, |byte| (byte ^ inverted).leading_zeros() as usize)
    };
    (leading + length == bytes.len() * 8).then_some(length)
}

/// A name of an interface, or the beginning of one where it does not end.
fn interface(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
    quoted(&if end.is_none() { format!("{name}*") } else { name.into_owned() })
}

/// Without zeros before it.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = String::new();
    for byte in bytes {
        let _ = write!(digits, "{byte:02x}");
    }
    let significant = digits.trim_start_matches('0');
    format!("0x{}", if significant.is_empty() { "0" } else { significant })
}

/// A duration as nft writes it: `1d3h`, `1m30s`, `250ms`.
pub(super) fn duration(millis: u64) -> String {
    let mut text = String::new();
    let mut rest = millis;
    for (unit, length) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if rest >= length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// As `/etc/protocols` has them; others are numbers.
const PROTOCOLS: &[(u32, &str)] = &[
    (ICMP as u32, "icmp"),
    (TCP as u32, "tcp"),
    (UDP as u32, "udp"),
    (ICMPV6 as u32, "ipv6-icmp"),
    (SCTP as u32, "sctp"),
];
const STATES: &[(u32, &str)] =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
/// `enum ip_conntrack_status`.
const STATUSES: &[(u32, &str)] = &[
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
    (512, "dying"),
];
/// `rtnetlink(7)`, `RTN_*`.
const ADDRESS_TYPES: &[(u32, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
const TCP_FLAGS: &[(u32, &str)] = &[
    (1, "fin"),
    (2, "syn"),
    (4, "rst"),
    (8, "psh"),
    (16, "ack"),
    (32, "urg"),
    (64, "ecn"),
    (128, "cwr"),
];
const ICMP_TYPES: &[(u32, &str)] = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
];
const ICMPV6_TYPES: &[(u32, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (143, "mld2-listener-report"),
];
/// Of an unreachable destination.
const ICMP_CODES: &[(u32, &str)] = &[
    (0, "net-unreachable"),
    (1, "host-unreachable"),
    (2, "prot-unreachable"),
    (3, "port-unreachable"),
    (4, "frag-needed"),
    (9, "net-prohibited"),
    (10, "host-prohibited"),
    (13, "admin-prohibited"),
];
const ICMPV6_CODES: &[(u32, &str)] = &[
    (0, "no-route"),
    (1, "admin-prohibited"),
    (3, "addr-unreachable"),
    (4, "port-unreachable"),
    (5, "policy-fail"),
    (6, "reject-route"),
];
