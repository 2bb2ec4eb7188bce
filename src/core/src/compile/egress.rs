//! Which pods leave with which external address (T13).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Places;
use crate::admit::{Admission, AdmittedMapping};
use crate::dataplane::EgressPlane;
use crate::model::{Family, ObjectKey};
use crate::resolve::ResolvedPort;

/// The oldest Mapping with egress has a pod; its first local address of the family is the pod's.
pub(super) fn egress(
    admission: &Admission,
    resolved: &BTreeMap<ObjectKey, Vec<ResolvedPort>>,
    at: &Places,
    remarks: &mut BTreeMap<ObjectKey, Vec<String>>,
) -> BTreeMap<IpAddr, EgressPlane> {
    let mut by_age: Vec<&AdmittedMapping> =
        admission.accepted.values().filter(|m| m.egress && !m.deleting).collect();
    by_age.sort_by_key(|m| (m.created.is_none(), m.created, &m.key));

    let mut owners: BTreeMap<IpAddr, &ObjectKey> = BTreeMap::new();
    let mut planes: BTreeMap<IpAddr, EgressPlane> = BTreeMap::new();
    for mapping in by_age {
        for family in Family::ALL {
            let local = mapping
                .addresses
                .iter()
                .find(|a| Family::of(a) == family && at.held.contains_key(a));
            let pods = resolved[&mapping.key]
                .iter()
                .flat_map(|port| port.families.of(family).listed.keys())
                .map(|endpoint| endpoint.address);
            for pod in pods {
                let Some(address) = local else { continue };
                let owner = *owners.entry(pod).or_insert(&mapping.key);
                if owner == &mapping.key {
                    planes
                        .entry(*address)
                        .or_insert_with(|| EgressPlane {
                            uplink: at.held[address].clone(),
                            pods: std::collections::BTreeSet::new(),
                        })
                        .pods
                        .insert(pod);
                } else {
                    let text = belongs_to(pod, owner);
                    let notes = remarks.entry(mapping.key.clone()).or_default();
                    if !notes.contains(&text) {
                        notes.push(text);
                    }
                }
            }
        }
    }
    planes
}

/// A remark on a Mapping that is not the oldest of a pod.
pub(super) fn belongs_to(pod: IpAddr, owner: &ObjectKey) -> String {
    format!("egress of {pod} belongs to the older Mapping {owner}")
}
