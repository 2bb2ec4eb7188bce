//! Violations in a desired dataplane: whatever they came from, it is not programmed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::{Change, Dataplane, Exposure, MappingPlane};
use crate::model::{Family, ObjectKey, PortRange, Protocol};

/// An invariant that a dataplane breaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Violation {
    /// Two Mappings on one external endpoint (P3).
    TwoOwners {
        /// Owners.
        mappings: (ObjectKey, ObjectKey),
        /// Where.
        endpoint: String,
    },
    /// An address of a Mapping that no uplink holds.
    AddressNotHeld {
        /// The Mapping.
        mapping: ObjectKey,
        /// The address.
        address: IpAddr,
    },
    /// An endpoint of another family than its list.
    BadEndpoint {
        /// The Mapping.
        mapping: ObjectKey,
        /// The endpoint's address.
        address: IpAddr,
    },
    /// Two uplinks with one number (P5).
    NumberTwice {
        /// The number.
        number: u32,
    },
    /// A pod with two external addresses (T13).
    TwoEgressAddresses {
        /// The pod.
        pod: IpAddr,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoOwners { mappings: (a, b), endpoint } => {
                write!(f, "{a} and {b} both own {endpoint}")
            }
            Self::AddressNotHeld { mapping, address } => {
                write!(f, "{mapping} is to be served on {address}, which no uplink holds")
            }
            Self::BadEndpoint { mapping, address } => {
                write!(f, "{mapping} has the endpoint {address} among those of the other family")
            }
            Self::NumberTwice { number } => write!(f, "two uplinks have the number {number}"),
            Self::TwoEgressAddresses { pod } => {
                write!(f, "pod {pod} has two external addresses to leave with")
            }
        }
    }
}

/// All violations, in a stable order; empty for a dataplane that may be programmed.
pub fn lint(dataplane: &Dataplane) -> BTreeSet<Violation> {
    let mut found = BTreeSet::new();
    owners(dataplane.mappings.iter(), &mut found);
    addresses(dataplane, &mut found);
    endpoints(dataplane.mappings.iter(), &mut found);
    let mut numbers = BTreeSet::new();
    for uplink in dataplane.uplinks.values() {
        if !numbers.insert(uplink.number) {
            found.insert(Violation::NumberTwice { number: uplink.number });
        }
    }
    let mut pods = BTreeSet::new();
    for pod in dataplane.egress.values().flat_map(|plane| &plane.pods) {
        if !pods.insert(*pod) {
            found.insert(Violation::TwoEgressAddresses { pod: *pod });
        }
    }
    found
}

/// Whether a change of a dataplane without violations leads to another such: what [`lint`] would
/// find then is found in what changes and in its neighbours.
pub(crate) fn keeps_clean(dataplane: &Dataplane, exposure: &Exposure, change: &Change) -> bool {
    let come = || change.mappings.iter().filter_map(|(k, plane)| Some((k, plane.as_ref()?)));
    let beside_others = come().all(|(_, plane)| {
        plane.addresses.iter().all(|address| {
            plane.ports.iter().all(|port| {
                let mut overlapping = exposure.overlapping(*address, port.protocol, port.ports);
                overlapping.all(|exposed| change.mappings.contains_key(&exposed.mapping))
            })
        })
    });
    let mut found = BTreeSet::new();
    owners(come(), &mut found);
    endpoints(come(), &mut found);
    let mut holding = change.pods.values().filter_map(|moved| moved.to.as_ref());
    beside_others
        && found.is_empty()
        && come().flat_map(|(_, plane)| &plane.addresses).all(|a| dataplane.holds(*a))
        && holding.all(|exit| dataplane.holds(exit.address))
        && change.pods.iter().all(|(pod, moved)| {
            moved.from.as_ref().is_none_or(|from| dataplane.lets_out(*pod, from))
        })
}

fn owners<'a>(
    mappings: impl Iterator<Item = (&'a ObjectKey, &'a MappingPlane)>,
    found: &mut BTreeSet<Violation>,
) {
    let mut claims: BTreeMap<(IpAddr, Protocol), Vec<(PortRange, &ObjectKey)>> = BTreeMap::new();
    for (key, mapping) in mappings {
        for address in &mapping.addresses {
            for port in &mapping.ports {
                claims.entry((*address, port.protocol)).or_default().push((port.ports, key));
            }
        }
    }
    for ((address, protocol), mut ranges) in claims {
        ranges.sort();
        for pair in ranges.windows(2) {
            let ((first, a), (second, b)) = (pair[0], pair[1]);
            if first.overlaps(second) {
                found.insert(Violation::TwoOwners {
                    mappings: (a.clone(), b.clone()),
                    endpoint: format!("{address} {protocol}/{second}"),
                });
            }
        }
    }
}

fn addresses(dataplane: &Dataplane, found: &mut BTreeSet<Violation>) {
    let held: BTreeSet<IpAddr> =
        Family::ALL.into_iter().flat_map(|f| dataplane.external_addresses(f)).collect();
    for (key, mapping) in &dataplane.mappings {
        for address in mapping.addresses.iter().filter(|a| !held.contains(a)) {
            found.insert(Violation::AddressNotHeld { mapping: key.clone(), address: *address });
        }
    }
}

fn endpoints<'a>(
    mappings: impl Iterator<Item = (&'a ObjectKey, &'a MappingPlane)>,
    found: &mut BTreeSet<Violation>,
) {
    for (key, mapping) in mappings {
        for (family, set) in mapping.ports.iter().flat_map(|p| &p.endpoints) {
            for endpoint in set.active.iter().filter(|e| Family::of(&e.address) != *family) {
                found.insert(Violation::BadEndpoint {
                    mapping: key.clone(),
                    address: endpoint.address,
                });
            }
        }
    }
}
