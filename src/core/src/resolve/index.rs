//! Services and their slices, by the key of the Service.

use std::collections::BTreeMap;

use crate::model::{ClusterState, EndpointSlice, ObjectKey, Service};

/// Services and slices of a [`ClusterState`], found by the key of the Service.
#[derive(Clone, Debug)]
pub struct ServiceIndex<'a> {
    cluster: &'a ClusterState,
    /// By namespace, then by name of the Service.
    slices: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a EndpointSlice>>>,
}

impl<'a> ServiceIndex<'a> {
    /// Looks at every slice once.
    pub fn new(cluster: &'a ClusterState) -> Self {
        Self::of(cluster, cluster.slices.values().map(|slice| &**slice))
    }

    /// Of these slices alone, in the order of their keys.
    pub(crate) fn of(
        cluster: &'a ClusterState,
        of: impl Iterator<Item = &'a EndpointSlice>,
    ) -> Self {
        let mut slices: BTreeMap<&str, BTreeMap<&str, Vec<_>>> = BTreeMap::new();
        for slice in of {
            let namespace = slices.entry(&slice.key.namespace).or_default();
            namespace.entry(&slice.service_name).or_default().push(slice);
        }
        Self { cluster, slices }
    }

    /// The Service, if it exists.
    pub fn service(&self, key: &ObjectKey) -> Option<&'a Service> {
        self.cluster.service(key)
    }

    /// The slices of a Service, by name.
    pub fn slices(&self, service: &ObjectKey) -> &[&'a EndpointSlice] {
        let namespace = self.slices.get(&*service.namespace);
        namespace.and_then(|n| n.get(&*service.name)).map_or(&[], Vec::as_slice)
    }
}
