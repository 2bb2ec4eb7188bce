//! From a snapshot to the dataplane that it asks for.

mod egress;
mod sysctls;
mod uplinks;

pub use uplinks::{UplinkNumbers, adopt_numbers, is_uplink_name, uplink_names};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::admit::{Admission, AdmittedMapping, admit};
use crate::dataplane::{Dataplane, MappingPlane, PortPlane};
use crate::marks::MarkLayout;
use crate::model::{ClusterState, Family, GatewayConfig, HostState, ObjectKey};
use crate::objects::{KernelState, SysctlKey};
use crate::resolve::{EndpointSet, ResolvedPort, ServiceIndex, resolve};

/// The desired dataplane with what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What traffic must do.
    pub dataplane: Dataplane,
    /// Who was admitted.
    pub admission: Admission,
    /// Ports of every admitted Mapping, in the order of its specification.
    pub resolved: BTreeMap<ObjectKey, Vec<ResolvedPort>>,
    /// Remarks on single Mappings.
    pub remarks: BTreeMap<ObjectKey, Vec<String>>,
    /// What keeps this instance from serving as configured.
    pub warnings: Vec<String>,
}

/// Compiles a snapshot. `numbers` are the uplinks' numbers so far, which stay;
/// `observed` tells which sysctls were ours to change.
pub fn compile(
    cluster: &ClusterState,
    host: &HostState,
    config: &GatewayConfig,
    numbers: &UplinkNumbers,
    observed: &KernelState,
) -> Compiled {
    let marks = MarkLayout::new(config.mark_mask);
    let admission = admit(cluster, config);
    let index = ServiceIndex::new(cluster);
    let resolved: BTreeMap<ObjectKey, Vec<ResolvedPort>> = admission
        .accepted
        .iter()
        .map(|(key, m)| (key.clone(), m.ports.iter().map(|p| resolve(&index, m, p)).collect()))
        .collect();

    let (uplinks, mut warnings) = uplinks::uplinks(host, config, marks, numbers);
    if uplinks.is_empty() {
        warnings.push(uplinks::nothing_matches(host, config));
    }
    let here: BTreeMap<IpAddr, &str> = uplinks
        .iter()
        .flat_map(|(name, u)| u.addresses.iter().map(move |a| (*a, name.as_str())))
        .collect();
    let held: BTreeMap<IpAddr, &str> =
        here.iter().filter(|(a, _)| cluster.may_serve(**a)).map(|(a, u)| (*a, *u)).collect();

    let mut remarks = BTreeMap::new();
    let mut mappings = BTreeMap::new();
    for (key, mapping) in admission.accepted.iter().filter(|(_, m)| !m.deleting) {
        for (why, addresses) in unserved(mapping, &here, &held) {
            note(&mut remarks, key, format!("{why}: {}", addresses.join(", ")));
        }
        if let Some(plane) = mapping_plane(mapping, &resolved[key], &held) {
            mappings.insert(key.clone(), plane);
        }
    }
    let egress = egress::egress(&admission, &resolved, &held, &mut remarks);
    let families: Vec<Family> = Family::ALL.into_iter().filter(|f| host.has_family(*f)).collect();
    let sysctls = sysctls::sysctls(host, config, &uplinks, &families, observed);
    let closed_forwarding = families
        .iter()
        .copied()
        .filter(|f| sysctls::switched_on_by_us(observed, &SysctlKey::Forwarding(*f)))
        .collect();
    Compiled {
        dataplane: Dataplane {
            marks,
            table_base: config.table_base,
            rule_priority: config.rule_priority,
            families,
            inside_addresses: uplinks::inside_addresses(host, &uplinks),
            uplinks,
            closed_forwarding,
            mappings,
            egress,
            sysctls,
        },
        admission,
        resolved,
        remarks,
        warnings,
    }
}

/// The addresses of a Mapping that are not served here, by the reason why.
fn unserved(
    mapping: &AdmittedMapping,
    here: &BTreeMap<IpAddr, &str>,
    held: &BTreeMap<IpAddr, &str>,
) -> BTreeMap<&'static str, Vec<String>> {
    let mut reasons: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for address in mapping.addresses.iter().filter(|a| !held.contains_key(a)) {
        let why = if here.contains_key(address) {
            "not yet published in the Lease of this instance"
        } else {
            "not on an uplink of this host"
        };
        reasons.entry(why).or_default().push(address.to_string());
    }
    reasons
}

/// The sysctls that a compilation for this host reads.
pub fn sysctl_scope(host: &HostState, config: &GatewayConfig) -> BTreeSet<SysctlKey> {
    sysctls::scope(host, config)
}

fn note(remarks: &mut BTreeMap<ObjectKey, Vec<String>>, key: &ObjectKey, text: String) {
    remarks.entry(key.clone()).or_default().push(text);
}

fn mapping_plane(
    mapping: &AdmittedMapping,
    resolved: &[ResolvedPort],
    held: &BTreeMap<IpAddr, &str>,
) -> Option<MappingPlane> {
    let addresses: BTreeSet<IpAddr> =
        mapping.addresses.iter().copied().filter(|a| held.contains_key(a)).collect();
    if addresses.is_empty() {
        return None;
    }
    let ports = mapping
        .ports
        .iter()
        .zip(resolved)
        .map(|(port, resolved)| PortPlane {
            protocol: port.protocol,
            ports: port.ports,
            affinity_seconds: resolved.affinity_seconds,
            endpoints: Family::ALL
                .into_iter()
                .filter(|f| addresses.iter().any(|a| Family::of(a) == *f))
                .map(|f| (f, resolved.families.of(f).clone()))
                .filter(|(_, set)| *set != EndpointSet::default())
                .collect(),
        })
        .collect();
    Some(MappingPlane {
        addresses,
        sources: mapping.sources.clone(),
        masquerade: mapping.masquerade,
        ports,
    })
}
