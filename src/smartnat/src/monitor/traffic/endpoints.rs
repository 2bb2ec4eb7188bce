//! First packets with nftables, which counts them by external endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smartnat_core::lower::counted::{Lot, external_endpoint};
use smartnat_core::model::Family;
use smartnat_linux::ElementCounter;

/// Address, protocol and (first) port.
pub(super) type Endpoint = (IpAddr, u8, u16);

/// What the kernel has counted of the first packets to an external endpoint, or to a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCounter {
    /// Where they came to.
    pub(super) endpoint: Endpoint,
    /// What becomes of those whose source is allowed.
    pub(super) lot: Lot,
    /// All of them.
    pub(super) arrived: u64,
    /// Those whose source is allowed, where it depends on the source.
    pub(super) permitted: Option<u64>,
}

/// The counters of both maps of a family ([`smartnat_core::lower::counted`]) by external endpoint.
pub(super) fn joined(
    family: Family,
    arrivals: Vec<ElementCounter>,
    permitted: Vec<ElementCounter>,
) -> impl Iterator<Item = EndpointCounter> {
    let permitted: BTreeMap<Box<[u8]>, (u64, Lot)> =
        permitted.into_iter().map(|c| (c.key, (c.packets, Lot::of(&c.value)))).collect();
    arrivals.into_iter().filter_map(move |counter| {
        let endpoint = external_endpoint(family, &counter.key)?;
        let (permitted, lot) = match permitted.get(&counter.key) {
            Some((packets, lot)) => (Some(*packets), *lot),
            None => (None, Lot::of(&counter.value)),
        };
        Some(EndpointCounter { endpoint, lot, arrived: counter.packets, permitted })
    })
}

/// What one counter told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Last {
    arrived: u64,
    permitted: u64,
}

/// First packets since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct More {
    pub(super) allowed: u64,
    pub(super) refused: u64,
}

impl Last {
    /// Takes note of a counter and returns what it counted since. One that is smaller was made anew
    /// and begins at 0; who was allowed before that is not known, so nobody is called refused.
    pub(super) fn follow(&mut self, counter: &EndpointCounter) -> More {
        let last = *self;
        *self = Self { arrived: counter.arrived, permitted: counter.permitted.unwrap_or_default() };
        let more = counter.arrived.checked_sub(last.arrived).unwrap_or(counter.arrived);
        let allowed = match counter.permitted {
            None if counter.lot == Lot::Refused => 0,
            None => more,
            Some(permitted) => permitted.checked_sub(last.permitted).map_or(more, |n| n.min(more)),
        };
        More { allowed, refused: more - allowed }
    }
}
