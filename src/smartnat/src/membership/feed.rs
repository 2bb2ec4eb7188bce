//! When the driver is told of the cluster for the first time, and with what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use smartnat_core::model::{ClusterObject, ClusterState, ObjectKey, ObjectKind};

use crate::planning::objects;

/// What was told so far.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// Nothing: the objects of the cluster, or the addresses that may be served, are not known.
    Nothing(Option<Vec<ClusterObject>>),
    /// What was remembered, of which these objects may be gone by now.
    Remembered(BTreeSet<(ObjectKind, ObjectKey)>),
    /// The cluster as it is.
    Cluster,
}

/// Puts together what the driver is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Feed {
    told: Told,
    remembered: Option<ClusterState>,
    published: Option<BTreeSet<IpAddr>>,
}

impl Feed {
    /// A feed of an instance that remembers this of its last run.
    pub(super) fn new(remembered: Option<ClusterState>) -> Self {
        let published = remembered.as_ref().and_then(|r| r.published.clone());
        Self { told: Told::Nothing(None), remembered, published }
    }

    /// Whether the driver knows nothing yet and could be told what is remembered.
    pub(super) fn can_remember(&self) -> bool {
        self.remembered.is_some() && matches!(self.told, Told::Nothing(_))
    }

    /// The API server is not there: the driver is told what is remembered.
    pub(super) fn remember(&mut self) -> Option<Vec<ClusterObject>> {
        let remembered = self.remembered.take()?;
        let keys = keys(&remembered);
        let state = ClusterState { published: self.published.clone(), ..remembered };
        self.told = Told::Remembered(keys);
        Some(objects(state))
    }

    /// The cluster changed; the first time it is all of it.
    pub(super) fn changed(&mut self, changes: Vec<ClusterObject>) -> Option<Vec<ClusterObject>> {
        match &mut self.told {
            Told::Nothing(first) => {
                first.get_or_insert_default().extend(changes);
                self.begin()
            }
            Told::Remembered(keys) => {
                for (kind, key) in changes.iter().filter_map(id) {
                    keys.remove(&(kind, key.clone()));
                }
                let gone = std::mem::take(keys).into_iter();
                let gone = gone.map(|(kind, key)| ClusterObject::Deleted(kind, key));
                let all = gone.chain(changes).collect();
                self.told = Told::Cluster;
                Some(all)
            }
            Told::Cluster => Some(changes).filter(|changes| !changes.is_empty()),
        }
    }

    /// These addresses may be served.
    pub(super) fn published(&mut self, addresses: BTreeSet<IpAddr>) -> Option<Vec<ClusterObject>> {
        self.published = Some(addresses.clone());
        match self.told {
            Told::Nothing(_) => self.begin(),
            _ => Some(vec![ClusterObject::Published(addresses)]),
        }
    }

    fn begin(&mut self) -> Option<Vec<ClusterObject>> {
        let Told::Nothing(first) = &mut self.told else { return None };
        let published = self.published.clone()?;
        let mut all = first.take()?;
        all.push(ClusterObject::Published(published));
        self.told = Told::Cluster;
        self.remembered = None;
        Some(all)
    }
}

fn id(object: &ClusterObject) -> Option<(ObjectKind, &ObjectKey)> {
    match object {
        ClusterObject::Mapping(m) => Some((ObjectKind::Mapping, &m.key)),
        ClusterObject::Service(s) => Some((ObjectKind::Service, &s.key)),
        ClusterObject::EndpointSlice(s) => Some((ObjectKind::EndpointSlice, &s.key)),
        ClusterObject::Deleted(..) | ClusterObject::Published(_) => None,
    }
}

fn keys(state: &ClusterState) -> BTreeSet<(ObjectKind, ObjectKey)> {
    fn of<V>(
        kind: ObjectKind,
        map: &BTreeMap<ObjectKey, V>,
    ) -> impl Iterator<Item = (ObjectKind, ObjectKey)> {
        map.keys().map(move |key| (kind, key.clone()))
    }
    of(ObjectKind::Mapping, &state.mappings)
        .chain(of(ObjectKind::Service, &state.services))
        .chain(of(ObjectKind::EndpointSlice, &state.slices))
        .collect()
}
