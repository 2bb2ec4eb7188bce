//! ipsets: where only membership matters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::dataplane::{Dataplane, EgressPlane, MappingPlane};
use crate::model::{Family, ObjectKey};
use crate::names;
use crate::objects::{IpSet, SetElement, SetKind, SetName, SetSpec};

/// Largest set of sources, pods or clients; a cluster has at most 150,000 pods.
const MAX_ELEMENTS: u32 = 1 << 18;
/// Ended connections held back at a time; each takes about 100 bytes of kernel memory.
const MAX_QUARANTINED: u32 = 1 << 16;
/// A peer gives up on a silent connection well before (RFC 9293, R2: at least 100 s).
const QUARANTINE_SECONDS: u32 = 600;

pub(super) fn sets(dataplane: &Dataplane) -> BTreeMap<SetName, IpSet> {
    let mut sets = BTreeMap::new();
    for family in dataplane.families.iter().copied() {
        let external = dataplane.external_addresses(family).into_iter().map(SetElement::Ip);
        sets.insert(names::external_set(family), set(SetKind::HashIp, family, external.collect()));
        sets.insert(
            names::quarantine_set(family),
            IpSet {
                spec: SetSpec {
                    kind: SetKind::HashIpPortIp,
                    family,
                    timeout: Some(QUARANTINE_SECONDS),
                    max_elements: MAX_QUARANTINED,
                },
                elements: BTreeSet::new(),
            },
        );
        for (key, mapping) in &dataplane.mappings {
            sets.extend(sources(mapping, family));
            sets.extend(affinity(key, mapping, family));
        }
    }
    for (address, plane) in &dataplane.egress {
        sets.insert(names::egress_set(*address), egress(*address, plane));
    }
    sets
}

/// The pods that leave with an address.
pub(super) fn egress(address: IpAddr, plane: &EgressPlane) -> IpSet {
    let pods = plane.pods.iter().copied().map(SetElement::Ip).collect();
    set(SetKind::HashIp, Family::of(&address), pods)
}

fn set(kind: SetKind, family: Family, elements: BTreeSet<SetElement>) -> IpSet {
    let spec = SetSpec { kind, family, timeout: None, max_elements: MAX_ELEMENTS };
    IpSet { spec, elements }
}

/// Who may connect to a Mapping, unless that is nobody or everyone.
pub(super) fn sources(mapping: &MappingPlane, family: Family) -> Option<(SetName, IpSet)> {
    let held = mapping.addresses.iter().any(|a| Family::of(a) == family);
    let networks = mapping.sources.of(family);
    (held && !networks.is_empty() && !mapping.sources.is_everyone(family)).then(|| {
        let elements = networks.iter().flat_map(|net| net_elements(*net)).collect();
        (names::source_set(family, networks), set(SetKind::HashNet, family, elements))
    })
}

/// `hash:net` refuses prefix length 0: two halves say the same.
fn net_elements(net: IpNet) -> Vec<SetElement> {
    if net.prefix_len() > 0 {
        return vec![SetElement::Net(net)];
    }
    let halves: [IpAddr; 2] = match net {
        IpNet::V4(_) => [Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(128, 0, 0, 0).into()],
        IpNet::V6(_) => {
            [Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0).into()]
        }
    };
    halves.into_iter().map(|half| SetElement::Net(IpNet::new_assert(half, 1))).collect()
}

/// Clients that session affinity holds to the endpoints of a Mapping.
pub(super) fn affinity(
    key: &ObjectKey,
    mapping: &MappingPlane,
    family: Family,
) -> BTreeMap<SetName, IpSet> {
    let mut sets = BTreeMap::new();
    for port in &mapping.ports {
        let (Some(seconds), Some(endpoints)) = (port.affinity_seconds, port.endpoints.get(&family))
        else {
            continue;
        };
        for endpoint in &endpoints.active {
            let spec = SetSpec {
                kind: SetKind::HashIp,
                family,
                timeout: Some(seconds),
                max_elements: MAX_ELEMENTS,
            };
            let name = names::affinity_set(key, port.protocol, port.ports, endpoint, seconds);
            sets.insert(name, IpSet { spec, elements: BTreeSet::new() });
        }
    }
    sets
}
