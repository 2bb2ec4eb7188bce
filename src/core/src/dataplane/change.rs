//! The difference between two dataplanes of one host: Mappings and the pods that leave.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Dataplane, EgressPlane, MappingPlane};
use crate::model::ObjectKey;

/// How a pod leaves (T13).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// External address.
    pub(crate) address: IpAddr,
    /// The uplink that holds it.
    pub(crate) uplink: String,
}

/// How a pod left and how it leaves now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) from: Option<Exit>,
    pub(crate) to: Option<Exit>,
}

/// What is to become of a dataplane while host and settings stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Mappings as they are to be; `None`: not served here.
    pub(crate) mappings: BTreeMap<ObjectKey, Option<MappingPlane>>,
    /// Pods.
    pub(crate) pods: BTreeMap<IpAddr, Moved>,
}

/// What differs from now, as it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Before {
    /// Mappings; `None`: not served here.
    pub(crate) mappings: BTreeMap<ObjectKey, Option<MappingPlane>>,
    /// How pods left; `None`: with an address of their own.
    pub(crate) pods: BTreeMap<IpAddr, Option<Exit>>,
    /// Numbers of uplinks; `None`: there was no such uplink.
    pub(crate) uplinks: BTreeMap<String, Option<u32>>,
}

/// A change that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// What is not as it was.
    pub(crate) before: Before,
    /// Pods with the external address that they leave with now and did not before.
    pub(crate) come: Vec<(IpAddr, IpAddr)>,
}

impl Before {
    /// Compares two dataplanes as a whole.
    pub(crate) fn between(old: Dataplane, new: &Dataplane) -> Self {
        let mut before = Self::default();
        let unknown = |key: &&ObjectKey| !old.mappings.contains_key(*key);
        let come = new.mappings.keys().filter(unknown).map(|key| (key.clone(), None));
        before.mappings = come.collect();
        let leaving: BTreeSet<IpAddr> = pods(&old.egress).map(|(pod, ..)| pod).collect();
        let come = pods(&new.egress).filter(|(pod, ..)| !leaving.contains(pod));
        before.pods = come.map(|(pod, ..)| (pod, None)).collect();
        for (pod, address, uplink) in pods(&old.egress) {
            let exit = Exit { address, uplink: uplink.to_owned() };
            if !new.lets_out(pod, &exit) {
                before.pods.insert(pod, Some(exit));
            }
        }
        for name in old.uplinks.keys().chain(new.uplinks.keys()) {
            let [was, is] = [&old, new].map(|d| d.uplinks.get(name).map(|u| u.number));
            if was != is {
                before.uplinks.insert(name.clone(), was);
            }
        }
        let changed = old.mappings.into_iter().filter(|(k, old)| new.mappings.get(k) != Some(old));
        before.mappings.extend(changed.map(|(key, plane)| (key, Some(plane))));
        before
    }

    /// Adds an earlier difference's successor: what was first stays.
    pub(crate) fn then(&mut self, later: Self) {
        for (key, plane) in later.mappings {
            self.mappings.entry(key).or_insert(plane);
        }
        for (pod, exit) in later.pods {
            self.pods.entry(pod).or_insert(exit);
        }
        for (name, number) in later.uplinks {
            self.uplinks.entry(name).or_insert(number);
        }
    }
}

fn pods(egress: &BTreeMap<IpAddr, EgressPlane>) -> impl Iterator<Item = (IpAddr, IpAddr, &str)> {
    egress
        .iter()
        .flat_map(|(address, plane)| plane.pods.iter().map(|p| (*p, *address, &*plane.uplink)))
}

impl Dataplane {
    /// Whether a pod leaves so.
    pub(crate) fn lets_out(&self, pod: IpAddr, exit: &Exit) -> bool {
        let plane = self.egress.get(&exit.address);
        plane.is_some_and(|plane| plane.uplink == exit.uplink && plane.pods.contains(&pod))
    }

    /// Makes a change; what is not otherwise than before is not told.
    pub(crate) fn change(&mut self, change: Change) -> Changed {
        let Changed { mut before, mut come } = Changed::default();
        for (key, plane) in change.mappings {
            if self.mappings.get(&key) == plane.as_ref() {
                continue;
            }
            let old = match plane {
                Some(plane) => self.mappings.insert(key.clone(), plane),
                None => self.mappings.remove(&key),
            };
            before.mappings.insert(key, old);
        }
        for (pod, Moved { from, to }) in change.pods.into_iter().filter(|(_, m)| m.from != m.to) {
            if let Some(exit) = &from
                && let Some(plane) = self.egress.get_mut(&exit.address)
            {
                plane.pods.remove(&pod);
                if plane.pods.is_empty() {
                    self.egress.remove(&exit.address);
                }
            }
            if let Some(exit) = to {
                come.push((pod, exit.address));
                let empty = || EgressPlane { uplink: exit.uplink, pods: BTreeSet::new() };
                self.egress.entry(exit.address).or_insert_with(empty).pods.insert(pod);
            }
            before.pods.insert(pod, from);
        }
        Changed { before, come }
    }
}
