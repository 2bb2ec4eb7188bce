//! Who owns the egress of which pod (T13), kept from change to change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::Places;
use crate::admit::{AdmittedMapping, Age};
use crate::model::{Family, ObjectKey};
use crate::resolve::ResolvedPort;

/// What one Mapping with egress wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct EgressClaim {
    age: Age,
    /// Pods in the order of their families and ports, with the external address that they get.
    pods: Vec<(IpAddr, IpAddr)>,
}

/// Who owns a pod's egress, and the address that it leaves with.
type Owner = Option<(ObjectKey, IpAddr)>;

/// Everything that Mappings with egress want: the oldest has a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct EgressClaims {
    of: BTreeMap<ObjectKey, EgressClaim>,
    /// Who wants a pod, the owner first.
    wanted: BTreeMap<IpAddr, BTreeSet<Age>>,
    /// Owners before changes that were not taken note of yet.
    moves: BTreeMap<IpAddr, Owner>,
}

impl EgressClaims {
    /// A Mapping is admitted with these ports, or no longer.
    pub(super) fn replace(
        &mut self,
        key: &ObjectKey,
        mapping: Option<(&AdmittedMapping, &[ResolvedPort], &Places)>,
    ) {
        let wanted = mapping.filter(|(mapping, ..)| mapping.egress && !mapping.deleting).map(
            |(mapping, resolved, places)| EgressClaim {
                age: Age::of(mapping),
                pods: pods(mapping, resolved, places),
            },
        );
        if self.of.get(key) == wanted.as_ref() {
            return;
        }
        let old = self.of.remove(key);
        for (pod, _) in old.iter().chain(&wanted).flat_map(|claim| &claim.pods) {
            let owner = self.owner_but_for(*pod, old.as_ref());
            self.moves.entry(*pod).or_insert(owner);
        }
        if let Some(old) = old {
            for (pod, _) in &old.pods {
                if let Some(ages) = self.wanted.get_mut(pod) {
                    ages.remove(&old.age);
                    if ages.is_empty() {
                        self.wanted.remove(pod);
                    }
                }
            }
        }
        if let Some(claim) = wanted {
            for (pod, _) in &claim.pods {
                self.wanted.entry(*pod).or_default().insert(claim.age.clone());
            }
            self.of.insert(key.clone(), claim);
        }
    }

    /// Pods whose owner may be another than before, with that one.
    pub(super) fn take_moves(&mut self) -> BTreeMap<IpAddr, Owner> {
        std::mem::take(&mut self.moves)
    }

    /// Who has a pod.
    pub(super) fn owner(&self, pod: IpAddr) -> Owner {
        self.owner_but_for(pod, None)
    }

    /// `taken`: a claim that was taken out of `of`.
    fn owner_but_for(&self, pod: IpAddr, taken: Option<&EgressClaim>) -> Owner {
        let age = self.wanted.get(&pod)?.first()?;
        let taken = taken.filter(|claim| claim.age == *age);
        let claim = taken.or_else(|| self.of.get(age.key()))?;
        // One address a family.
        let (_, address) = claim.pods.iter().find(|(of, _)| of.is_ipv4() == pod.is_ipv4())?;
        Some((age.key().clone(), *address))
    }

    /// Who wants a pod.
    pub(super) fn wanting(&self, pod: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.wanted.get(&pod).into_iter().flatten().map(Age::key)
    }

    /// Which pods of a Mapping leave otherwise.
    pub(super) fn remarks(&self, key: &ObjectKey) -> Vec<String> {
        let mut told = BTreeSet::new();
        let mut remarks = Vec::new();
        for (pod, _) in self.of.get(key).iter().flat_map(|claim| &claim.pods) {
            let owner = self.wanted.get(pod).and_then(BTreeSet::first).map(Age::key);
            if let Some(owner) = owner.filter(|owner| *owner != key)
                && told.insert(*pod)
            {
                remarks.push(super::super::egress::belongs_to(*pod, owner));
            }
        }
        remarks
    }
}

/// The pods behind a Mapping with the first local address of their family.
fn pods(
    mapping: &AdmittedMapping,
    resolved: &[ResolvedPort],
    places: &Places,
) -> Vec<(IpAddr, IpAddr)> {
    let local = |family| {
        let held = |a: &&IpAddr| Family::of(a) == family && places.held.contains_key(*a);
        mapping.addresses.iter().find(held).map(|address| (family, *address))
    };
    Family::ALL
        .into_iter()
        .filter_map(local)
        .flat_map(|(family, address)| {
            let listed = resolved.iter().flat_map(move |p| p.families.of(family).listed.keys());
            listed.map(move |endpoint| (endpoint.address, address))
        })
        .collect()
}
