//! What the counters of the table's elements say of first packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::{NOBODY_HOME, of_family};
use super::sets;
use crate::model::Family;
use crate::objects::nft::{NftName, NftValue, NftVerdict};

/// The map whose elements count the first packets to external endpoints.
pub fn arrivals(family: Family) -> NftName {
    of_family(sets::SERVICES, family).into()
}

/// The map whose elements count those of them that come from allowed sources, where not all are.
pub fn permitted(family: Family) -> NftName {
    of_family(sets::RESTRICTED, family).into()
}

/// What becomes of the packets that an element of either map counts, as far as it decides that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lot {
    /// They go on: to an endpoint, or to where their source is looked at.
    GoesOn,
    /// There is no endpoint.
    NobodyHome,
    /// No source is allowed.
    Refused,
}

impl Lot {
    /// By what the element carries.
    pub fn of(value: &NftValue) -> Self {
        match value {
            NftValue::Verdict(NftVerdict::Drop) => Self::Refused,
            NftValue::Verdict(verdict)
                if verdict.chain().is_some_and(|chain| chain.as_str() == NOBODY_HOME) =>
            {
                Self::NobodyHome
            }
            _ => Self::GoesOn,
        }
    }
}

/// Address, protocol and (first) port of the external endpoint that is the key of an element of
/// either map; `None` for what is no such key.
pub fn external_endpoint(family: Family, key: &[u8]) -> Option<(IpAddr, u8, u16)> {
    let (address, rest): (IpAddr, _) = match family {
        Family::V4 => {
            let (bytes, rest) = key.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*bytes).into(), rest)
        }
        Family::V6 => {
            let (bytes, rest) = key.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*bytes).into(), rest)
        }
    };
    // Each is padded to four bytes.
    match rest {
        [protocol, _, _, _, high, low, _, _] => {
            Some((address, *protocol, u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}
