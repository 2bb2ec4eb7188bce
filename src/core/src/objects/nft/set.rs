//! Sets and maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::NftVerdict;
use crate::model::Family;
use crate::objects::pairs;

/// Type of one field of a key or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftType {
    /// `ipv4_addr`, network order.
    Ipv4,
    /// `ipv6_addr`, network order.
    Ipv6,
    /// `inet_proto`, one byte.
    Protocol,
    /// `inet_service`, two bytes, network order.
    Port,
    /// `mark`, four bytes, host's order.
    Mark,
    /// `ifname`, sixteen bytes.
    InterfaceName,
    /// None of ours: number of the type in nft (`enum datatypes`).
    Unknown(u32),
}

impl NftType {
    /// The type of addresses.
    pub fn address(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }

    /// Bytes of a value; 0 where that is not known.
    pub fn size(self) -> usize {
        match self {
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Unknown(_) => 0,
        }
    }

    /// As nft spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Mark => "mark",
            Self::InterfaceName => "ifname",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What a set's elements carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftData {
    /// Nothing: a set.
    Nothing,
    /// A verdict.
    Verdict,
    /// Values of these types.
    Values(Vec<NftType>),
}

/// What a set or map is created with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NftSetSpec {
    /// The fields of its keys.
    pub key: Vec<NftType>,
    /// What its elements carry.
    pub data: NftData,
    /// Keys may be intervals. They must not overlap.
    #[serde(default)]
    pub interval: bool,
    /// Rules add elements (`flags dynamic`).
    #[serde(default)]
    pub dynamic: bool,
    /// Elements have a timeout (`flags timeout`), of so many seconds unless their own differs; 0:
    /// always their own. Such a set is filled at run time: its elements are no part of an
    /// observation or a diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Each element counts what matches it.
    #[serde(default)]
    pub counter: bool,
    /// Most elements; required for a set that rules fill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

impl NftSetSpec {
    /// A set or map of keys that are looked up as they are.
    pub fn exact(key: impl Into<Vec<NftType>>, data: NftData) -> Self {
        Self {
            key: key.into(),
            data,
            interval: false,
            dynamic: false,
            timeout: None,
            counter: false,
            size: None,
        }
    }
}

/// The key of an element.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NftKey {
    /// The key, or the first one of an interval, field by field.
    pub first: Box<[u8]>,
    /// The last one of an interval, in sets of intervals alone; there always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<[u8]>>,
}

impl NftKey {
    /// One key.
    pub fn exact(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { first: bytes.into(), last: None }
    }

    /// All keys of which each field is from `first` to `last`, both included.
    pub fn interval(first: impl Into<Box<[u8]>>, last: impl Into<Box<[u8]>>) -> Self {
        Self { first: first.into(), last: Some(last.into()) }
    }
}

/// What an element carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftValue {
    /// Nothing.
    Nothing,
    /// A verdict.
    Verdict(NftVerdict),
    /// Bytes, field by field.
    Bytes(Box<[u8]>),
}

/// An element without its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NftElement {
    /// What it carries.
    pub value: NftValue,
    /// For people (`NFTNL_UDATA_SET_ELEM_COMMENT`); at most 127 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Box<str>>,
}

/// A set or map with its elements (none where they have a timeout).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NftSet {
    /// What it was created with.
    pub spec: NftSetSpec,
    /// Its elements.
    #[serde(with = "pairs")]
    pub elements: BTreeMap<NftKey, NftElement>,
}

/// Fields of keys and values as bytes.
pub mod fields {
    use super::IpAddr;

    /// Puts fields one after the other, each padded with zeros to four bytes.
    pub fn join<const N: usize>(fields: [&[u8]; N]) -> Box<[u8]> {
        let mut bytes =
            Vec::with_capacity(fields.iter().map(|f| f.len().next_multiple_of(4)).sum());
        for field in fields {
            bytes.extend_from_slice(field);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.into()
    }

    /// An address.
    pub fn address(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        }
    }

    /// An interface's name; longer ones than the kernel has are cut (`IFNAMSIZ`).
    pub fn interface(name: &str) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        bytes
    }
}
