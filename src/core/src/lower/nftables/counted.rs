//! What the counters of the table's elements say of first packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::{NOBODY_HOME, NOBODY_MAY, of_family, target};
use super::sets;
use crate::model::Family;
use crate::objects::nft::{NftName, NftValue};

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
    /// By the name that the element carries of where its packets go.
    pub fn of(value: &NftValue) -> Self {
        let leads_to = |name| *value == sets::after_padding(&target(name));
        match () {
            () if leads_to(NOBODY_HOME) => Self::NobodyHome,
            () if leads_to(NOBODY_MAY) => Self::Refused,
            () => Self::GoesOn,
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
