//! ipset: named sets that rules refer to.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Family, Protocol};

/// Name of a set; at most 31 bytes (`IPSET_MAXNAMELEN` less its NUL).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SetName(pub String);

impl SetName {
    /// Longest name that the kernel takes.
    pub const MAX_LEN: usize = 31;
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Type of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SetKind {
    /// `hash:ip`.
    HashIp,
    /// `hash:net`; refuses prefix length 0.
    HashNet,
    /// `hash:ip,port,ip`.
    HashIpPortIp,
}

impl SetKind {
    /// Type name as ipset and the kernel spell it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::HashIp => "hash:ip",
            Self::HashNet => "hash:net",
            Self::HashIpPortIp => "hash:ip,port,ip",
        }
    }
}

/// What a set is created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetSpec {
    /// Type.
    pub kind: SetKind,
    /// Address family.
    pub family: Family,
    /// Default timeout of an element in seconds. A set with one is filled at
    /// run time; its elements are no part of an observation or a diff.
    pub timeout: Option<u32>,
    /// `maxelem`.
    pub max_elements: u32,
}

/// An element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SetElement {
    /// For `hash:ip`.
    Ip(IpAddr),
    /// For `hash:net`, host bits zero, prefix length at least 1.
    Net(IpNet),
    /// For `hash:ip,port,ip`.
    IpPortIp {
        /// First address.
        ip: IpAddr,
        /// Protocol of the port.
        protocol: Protocol,
        /// Port.
        port: u16,
        /// Second address.
        other: IpAddr,
    },
}

impl SetElement {
    /// Whether a set of this type and family takes it.
    pub fn fits(&self, spec: &SetSpec) -> bool {
        let family = |address: &IpAddr| Family::of(address) == spec.family;
        match (self, spec.kind) {
            (Self::Ip(ip), SetKind::HashIp) => family(ip),
            (Self::Net(net), SetKind::HashNet) => {
                net.prefix_len() > 0 && net.trunc() == *net && family(&net.addr())
            }
            (Self::IpPortIp { ip, other, .. }, SetKind::HashIpPortIp) => {
                family(ip) && family(other)
            }
            _ => false,
        }
    }
}

impl fmt::Display for SetElement {
    /// As `ipset` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::IpPortIp { ip, protocol, port, other } => {
                write!(f, "{ip},{protocol}:{port},{other}")
            }
        }
    }
}

/// A set with its elements (empty where the set has a timeout).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IpSet {
    /// What it was created with.
    pub spec: SetSpec,
    /// Its elements.
    pub elements: BTreeSet<SetElement>,
}
