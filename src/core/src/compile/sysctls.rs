//! Sysctls that forwarding and return routing need.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::uplinks::is_uplink_name;
use crate::dataplane::Uplink;
use crate::model::{Family, GatewayConfig, HostState};
use crate::objects::{KernelState, SysctlKey};

/// Whether the value before ours was "off", as recorded, or is so now and about to change.
pub(super) fn switched_on_by_us(observed: &KernelState, key: &SysctlKey) -> bool {
    observed
        .sysctls
        .get(key)
        .is_some_and(|state| state.original.as_deref().unwrap_or(&state.value) == "0")
}

/// What must have which value. Empty without uplinks: then nothing is ours to change.
pub(super) fn sysctls(
    host: &HostState,
    config: &GatewayConfig,
    uplinks: &BTreeMap<String, Uplink>,
    families: &[Family],
    observed: &KernelState,
) -> BTreeMap<SysctlKey, String> {
    let mut wanted = BTreeMap::new();
    if uplinks.is_empty() {
        return wanted;
    }
    for family in families {
        wanted.insert(SysctlKey::Forwarding(*family), "1".into());
        wanted.insert(SysctlKey::MarkReflect(*family), "1".into());
    }
    wanted.insert(SysctlKey::TcpMarkAccept, "1".into());
    for (name, uplink) in uplinks {
        wanted.insert(SysctlKey::ReversePathFilter(name.clone()), "2".into());
        wanted.insert(SysctlKey::SourceValidMark(name.clone()), "1".into());
        if shares_a_subnet(name, uplink, uplinks, host, config) {
            wanted.insert(SysctlKey::ArpIgnore(name.clone()), "1".into());
            wanted.insert(SysctlKey::ArpAnnounce(name.clone()), "2".into());
        }
    }
    wanted.extend(router_advertisements(families, observed));
    // The value of a link that is gone reads as empty while its record is kept.
    wanted.retain(|key, _| observed.sysctls.get(key).is_some_and(|s| !s.value.is_empty()));
    wanted
}

/// With forwarding on, 1 means "no": what was 1 becomes 2 and keeps its default route.
fn router_advertisements(
    families: &[Family],
    observed: &KernelState,
) -> BTreeMap<SysctlKey, String> {
    let ours_to_keep = families.contains(&Family::V6)
        && switched_on_by_us(observed, &SysctlKey::Forwarding(Family::V6));
    observed
        .sysctls
        .iter()
        .filter(|(key, _)| ours_to_keep && matches!(key, SysctlKey::AcceptRouterAdvertisements(_)))
        .filter(|(_, state)| state.original.as_deref().unwrap_or(&state.value) == "1")
        .map(|(key, _)| (key.clone(), "2".into()))
        .collect()
}

/// Whether ARP must tell the uplink's addresses apart from a neighbour's on the same segment.
fn shares_a_subnet(
    name: &str,
    uplink: &Uplink,
    uplinks: &BTreeMap<String, Uplink>,
    host: &HostState,
    config: &GatewayConfig,
) -> bool {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let others = uplinks
        .iter()
        .filter(|(other, _)| *other != name)
        .flat_map(|(_, other)| other.connected.iter().copied());
    let default = config.default_interface.as_deref().or(host.default_interface(Family::V4));
    let of_default =
        default.filter(|d| *d != name).and_then(|d| host.links.get(d)).into_iter().flat_map(
            |link| link.addresses.iter().filter(|a| !a.link_local).map(|a| a.address.trunc()),
        );
    let neighbours: Vec<IpNet> = others.chain(of_default).collect();
    uplink
        .connected
        .iter()
        .filter(|net| Family::of(&net.addr()) == Family::V4)
        .any(|net| neighbours.iter().any(|other| overlaps(net, other)))
}

/// Everything that [`sysctls`] may want on this host.
pub(super) fn scope(host: &HostState, config: &GatewayConfig) -> BTreeSet<SysctlKey> {
    let mut keys = BTreeSet::from([SysctlKey::TcpMarkAccept]);
    for family in Family::ALL.into_iter().filter(|f| host.has_family(*f)) {
        keys.insert(SysctlKey::Forwarding(family));
        keys.insert(SysctlKey::MarkReflect(family));
    }
    for name in host.links.keys().filter(|n| *n != "lo") {
        if is_uplink_name(name, config) {
            keys.insert(SysctlKey::ReversePathFilter(name.clone()));
            keys.insert(SysctlKey::SourceValidMark(name.clone()));
            keys.insert(SysctlKey::ArpIgnore(name.clone()));
            keys.insert(SysctlKey::ArpAnnounce(name.clone()));
        }
        if host.has_family(Family::V6) {
            keys.insert(SysctlKey::AcceptRouterAdvertisements(name.clone()));
        }
    }
    keys
}
