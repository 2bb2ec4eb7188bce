//! From a snapshot to the dataplane that it asks for.

mod egress;
mod kept;
mod sysctls;
mod uplinks;

pub(crate) use kept::{Kept, Outcome, Update};
pub use uplinks::{UplinkNumbers, adopt_numbers, is_uplink_name, uplink_names};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::admit::{Admission, AdmittedMapping, admit};
use crate::dataplane::{Dataplane, MappingPlane, PortPlane, Uplink};
use crate::marks::MarkLayout;
use crate::model::{Backend, ClusterState, Family, GatewayConfig, HostState, ObjectKey};
use crate::objects::{BuiltinChain, KernelState, SysctlKey};
use crate::packed::flat_map;
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
    let places = Places::of(cluster, &uplinks);

    let mut remarks = BTreeMap::new();
    let mut mappings = Vec::new();
    for (key, mapping) in admission.accepted.iter().filter(|(_, m)| !m.deleting) {
        let unserved = places.remarks(mapping);
        if !unserved.is_empty() {
            remarks.insert(key.clone(), unserved);
        }
        if let Some(plane) = mapping_plane(mapping, &resolved[key], &places) {
            mappings.push((key.clone(), plane));
        }
    }
    let egress = egress::egress(&admission, &resolved, &places, &mut remarks);
    let families: Vec<Family> = Family::ALL.into_iter().filter(|f| host.has_family(*f)).collect();
    let (sysctls, closed_forwarding) = of_sysctls(host, config, &uplinks, &families, observed);
    let (contested, other_contested) = contested(config, observed);
    Compiled {
        dataplane: Dataplane {
            marks,
            table_base: config.table_base,
            rule_priority: config.rule_priority,
            families,
            inside_addresses: uplinks::inside_addresses(host, &uplinks),
            uplinks,
            closed_forwarding,
            mappings: mappings.into_iter().collect(),
            egress,
            sysctls,
            contested: contested.clone(),
            other_contested: other_contested.clone(),
        },
        admission,
        resolved,
        remarks,
        warnings,
    }
}

/// Sysctls that must have a value, and families in which it was we who switched forwarding on.
fn of_sysctls(
    host: &HostState,
    config: &GatewayConfig,
    uplinks: &BTreeMap<String, Uplink>,
    families: &[Family],
    observed: &KernelState,
) -> (BTreeMap<SysctlKey, String>, BTreeSet<Family>) {
    let switched_on =
        |family: &Family| sysctls::switched_on_by_us(observed, &SysctlKey::Forwarding(*family));
    let wanted = sysctls::sysctls(host, config, uplinks, families, observed);
    (wanted, families.iter().copied().filter(switched_on).collect())
}

/// Whether another look at the kernel's sysctls leads to the same dataplane.
pub(crate) fn sysctls_agree(
    dataplane: &Dataplane,
    host: &HostState,
    config: &GatewayConfig,
    observed: &KernelState,
) -> bool {
    let Dataplane { uplinks, families, sysctls, closed_forwarding, .. } = dataplane;
    of_sysctls(host, config, uplinks, families, observed)
        == (sysctls.clone(), closed_forwarding.clone())
}

/// Where others' rules of iptables stand beside a table of nftables. With iptables ours are among them.
pub(crate) fn contested<'a>(
    config: &GatewayConfig,
    observed: &'a KernelState,
) -> (&'a BTreeSet<BuiltinChain>, &'a BTreeSet<BuiltinChain>) {
    static NOWHERE: BTreeSet<BuiltinChain> = BTreeSet::new();
    match config.backend {
        Backend::Nftables => (&observed.contested, &observed.other_contested),
        Backend::Iptables | Backend::Simulated => (&NOWHERE, &NOWHERE),
    }
}

/// Where external addresses are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Places {
    /// Uplinks by address.
    here: BTreeMap<IpAddr, String>,
    /// Those of them that may be served.
    held: BTreeMap<IpAddr, String>,
}

impl Places {
    fn of(cluster: &ClusterState, uplinks: &BTreeMap<String, Uplink>) -> Self {
        let here: BTreeMap<IpAddr, String> = uplinks
            .iter()
            .flat_map(|(name, u)| u.addresses.iter().map(move |a| (*a, name.clone())))
            .collect();
        let may_be_served = here.iter().filter(|(a, _)| cluster.may_serve(**a));
        let held = may_be_served.map(|(a, u)| (*a, u.clone())).collect();
        Self { here, held }
    }

    /// The addresses of a Mapping that are not served here, by the reason why.
    fn remarks(&self, mapping: &AdmittedMapping) -> Vec<String> {
        let mut reasons: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for address in mapping.addresses.iter().filter(|a| !self.held.contains_key(a)) {
            let why = if self.here.contains_key(address) {
                "not yet published in the Lease of this instance"
            } else {
                "not on an uplink of this host"
            };
            reasons.entry(why).or_default().push(address.to_string());
        }
        let remark =
            |(why, addresses): (_, Vec<String>)| format!("{why}: {}", addresses.join(", "));
        reasons.into_iter().map(remark).collect()
    }
}

/// The sysctls that a compilation for this host reads.
pub fn sysctl_scope(host: &HostState, config: &GatewayConfig) -> BTreeSet<SysctlKey> {
    sysctls::scope(host, config)
}

fn mapping_plane(
    mapping: &AdmittedMapping,
    resolved: &[ResolvedPort],
    places: &Places,
) -> Option<MappingPlane> {
    let addresses: BTreeSet<IpAddr> =
        mapping.addresses.iter().copied().filter(|a| places.held.contains_key(a)).collect();
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
            endpoints: flat_map(
                Family::ALL
                    .into_iter()
                    .filter(|f| addresses.iter().any(|a| Family::of(a) == *f))
                    .map(|f| (f, resolved.families.of(f).clone()))
                    .filter(|(_, set)| *set != EndpointSet::default()),
            ),
        })
        .collect();
    Some(MappingPlane {
        addresses,
        sources: mapping.sources.clone(),
        masquerade: mapping.masquerade,
        ports,
    })
}
