//! The headers of one recorded packet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which way a packet passed the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the wire to the host.
    In,
    /// From the host to the wire.
    Out,
}

impl Direction {
    /// From `sll_pkttype`, packet(7); what is meant for other hosts is left out.
    pub(super) fn of_packet_type(packet_type: u8) -> Option<Self> {
        match packet_type {
            0..=2 => Some(Self::In),
            4 => Some(Self::Out),
            _ => None,
        }
    }
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or `ICMPv6`.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Another protocol, a later fragment, or a header that was cut off.
    Other(u8),
}

/// The headers of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Which way it passed.
    pub direction: Direction,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hops: u8,
    /// What it carries.
    pub transport: Transport,
}

impl Packet {
    /// Reads the headers of an IP packet; anything else is none.
    pub fn parse(direction: Direction, octets: &[u8]) -> Option<Self> {
        match octets.first()? >> 4 {
            4 => Self::parse_v4(direction, octets),
            6 => Self::parse_v6(direction, octets),
            _ => None,
        }
    }

    /// Source port, where there is one.
    pub fn source_port(&self) -> Option<u16> {
        match self.transport {
            Transport::Tcp { source, .. } | Transport::Udp { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Destination port, where there is one.
    pub fn destination_port(&self) -> Option<u16> {
        match self.transport {
            Transport::Tcp { destination, .. } | Transport::Udp { destination, .. } => {
                Some(destination)
            }
            _ => None,
        }
    }

    fn parse_v4(direction: Direction, octets: &[u8]) -> Option<Self> {
        let header = octets.first_chunk::<20>()?;
        let length = usize::from(header[0] & 0x0f) * 4;
        let protocol = header[9];
        let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        let transport = if fragment_offset == 0 {
            Transport::parse(protocol, octets.get(length..)?)
        } else {
            Transport::Other(protocol)
        };
        Some(Self {
            direction,
            source: Ipv4Addr::from(*header[12..].first_chunk::<4>()?).into(),
            destination: Ipv4Addr::from(*header[16..].first_chunk::<4>()?).into(),
            hops: header[8],
            transport,
        })
    }

    fn parse_v6(direction: Direction, octets: &[u8]) -> Option<Self> {
        let header = octets.first_chunk::<40>()?;
        Some(Self {
            direction,
            source: Ipv6Addr::from(*header[8..].first_chunk::<16>()?).into(),
            destination: Ipv6Addr::from(*header[24..].first_chunk::<16>()?).into(),
            hops: header[7],
            transport: Transport::parse(header[6], octets.get(40..)?),
        })
    }
}

impl Transport {
    fn parse(protocol: u8, octets: &[u8]) -> Self {
        let Some(&[a, b, c, d]) = octets.first_chunk::<4>() else { return Self::Other(protocol) };
        let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        match (protocol, octets.get(13)) {
            (6, Some(&flags)) => Self::Tcp { source, destination, flags },
            (17, _) => Self::Udp { source, destination },
            (1 | 58, _) => Self::Icmp { kind: a, code: b },
            _ => Self::Other(protocol),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.direction == Direction::In { "in" } else { "out" };
        write!(f, "{way} {} > {} {:?}", self.source, self.destination, self.transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tcp_over_ipv4_with_options() {
        let mut octets = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 10, 0, 0, 9];
        octets.extend([1, 1, 1, 1]);
        octets.extend([0x1f, 0x90, 0x00, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12]);
        let packet = Packet::parse(Direction::In, &octets).unwrap();
        assert_eq!(packet.source.to_string(), "192.0.2.1");
        assert_eq!(packet.destination.to_string(), "10.0.0.9");
        assert_eq!((packet.source_port(), packet.destination_port()), (Some(8080), Some(80)));
        assert_eq!(packet.transport, Transport::Tcp { source: 8080, destination: 80, flags: 0x12 });
    }

    #[test]
    fn reads_icmp_over_ipv6() {
        let mut octets = vec![0x60, 0, 0, 0, 0, 4, 58, 63];
        octets.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        octets.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        octets.extend([1, 4, 0, 0]);
        let packet = Packet::parse(Direction::Out, &octets).unwrap();
        assert_eq!(packet.transport, Transport::Icmp { kind: 1, code: 4 });
        assert_eq!(packet.to_string(), "out 2001:db8::1 > 2001:db8::2 Icmp { kind: 1, code: 4 }");
    }

    #[test]
    fn cut_off_packets_do_not_panic() {
        let octets = [0x45; 64];
        for length in 0..octets.len() {
            let _ = Packet::parse(Direction::In, &octets[..length]);
        }
        assert_eq!(Packet::parse(Direction::In, &[0x45; 19]), None);
        assert_eq!(Packet::parse(Direction::In, &[0x60; 39]), None);
        assert_eq!(Packet::parse(Direction::In, b"\x00"), None);
    }
}
