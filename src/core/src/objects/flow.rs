//! Conntrack entries.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The layer-4 part of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layer4 {
    /// TCP, UDP, SCTP and other protocols with ports.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// `ICMP` and `ICMPv6` queries.
    Icmp {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// Query identifier.
        id: u16,
    },
    /// A protocol without either.
    Other,
}

/// One direction of a conntrack entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowTuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IANA protocol number.
    pub protocol: u8,
    /// Ports or ICMP query.
    pub layer4: Layer4,
}

impl FlowTuple {
    /// Source port, 0 where the protocol has none.
    pub fn source_port(&self) -> u16 {
        match self.layer4 {
            Layer4::Ports { source, .. } => source,
            _ => 0,
        }
    }

    /// Destination port, 0 where the protocol has none.
    pub fn destination_port(&self) -> u16 {
        match self.layer4 {
            Layer4::Ports { destination, .. } => destination,
            _ => 0,
        }
    }
}

/// What names exactly one conntrack entry: its original tuple and the kernel's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowKey {
    /// Original direction, as the first packet came in.
    pub original: FlowTuple,
    /// `CTA_ID`, so that a successor with the same tuple is spared.
    pub id: u32,
}

/// A conntrack entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// What names it.
    pub key: FlowKey,
    /// Reply direction, as a reply arrives before it is translated back.
    pub reply: FlowTuple,
    /// Connection mark.
    pub mark: u32,
}

/// Which conntrack entries to list, evaluated inside the kernel (`CTA_MARK`, `CTA_MARK_MASK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowFilter {
    /// Wanted bits.
    pub mark: u32,
    /// Which bits are compared.
    pub mask: u32,
}
