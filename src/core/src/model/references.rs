//! Which objects refer to a Service: what a change of one bears on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ClusterObject, ClusterState, EndpointSlice, Mapping, ObjectKey, ObjectKind};
use crate::packed::pack_set;

/// An index of a [`ClusterState`], kept along with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct References {
    /// Mappings behind the Service that they name. Flat, since most have one of a Service.
    mappings: BTreeSet<(ObjectKey, ObjectKey)>,
    /// Slices behind their Service.
    slices: BTreeSet<(ObjectKey, ObjectKey)>,
}

/// Objects that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Touched {
    /// Something that bears on everything changed.
    pub(crate) everything: bool,
    /// Mappings.
    pub(crate) mappings: BTreeSet<ObjectKey>,
    /// Services, also by a slice of theirs.
    pub(crate) services: BTreeSet<ObjectKey>,
}

impl References {
    /// Takes note of `object`, which `cluster` does not have yet, and of what it touches.
    pub(crate) fn note(
        &mut self,
        cluster: &ClusterState,
        object: &ClusterObject,
        touched: &mut Touched,
    ) {
        match object {
            ClusterObject::Mapping(mapping) => {
                self.note_mapping(cluster, &mapping.key, Some(mapping), touched);
            }
            ClusterObject::Deleted(ObjectKind::Mapping, key) => {
                self.note_mapping(cluster, key, None, touched);
            }
            ClusterObject::Service(service) => {
                touched.services.insert(service.key.clone());
            }
            ClusterObject::Deleted(ObjectKind::Service, key) => {
                touched.services.insert(key.clone());
            }
            ClusterObject::EndpointSlice(slice) => {
                self.note_slice(cluster, &slice.key, Some(slice), touched);
            }
            ClusterObject::Deleted(ObjectKind::EndpointSlice, key) => {
                self.note_slice(cluster, key, None, touched);
            }
            ClusterObject::Published(_) => touched.everything = true,
        }
    }

    fn note_mapping(
        &mut self,
        cluster: &ClusterState,
        key: &ObjectKey,
        mapping: Option<&Mapping>,
        touched: &mut Touched,
    ) {
        if let Some(old) = cluster.mappings.get(key) {
            self.mappings.remove(&(old.service(), key.clone()));
        }
        if let Some(mapping) = mapping {
            self.mappings.insert((mapping.service(), key.clone()));
        }
        touched.mappings.insert(key.clone());
    }

    fn note_slice(
        &mut self,
        cluster: &ClusterState,
        key: &ObjectKey,
        slice: Option<&EndpointSlice>,
        touched: &mut Touched,
    ) {
        if let Some(old) = cluster.slices.get(key) {
            self.slices.remove(&(old.service(), key.clone()));
            touched.services.insert(old.service());
        }
        if let Some(slice) = slice {
            self.slices.insert((slice.service(), key.clone()));
            touched.services.insert(slice.service());
        }
    }

    /// Takes as little memory as it can.
    pub(crate) fn pack(&mut self) {
        pack_set(&mut self.mappings);
        pack_set(&mut self.slices);
    }

    /// The Mappings that name a Service.
    pub(crate) fn mappings(&self, service: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        behind(&self.mappings, service)
    }

    /// The slices of a Service, by name.
    pub(crate) fn slices(&self, service: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        behind(&self.slices, service)
    }
}

fn behind<'a>(
    index: &'a BTreeSet<(ObjectKey, ObjectKey)>,
    service: &ObjectKey,
) -> impl Iterator<Item = &'a ObjectKey> {
    let first = (service.clone(), ObjectKey::new("", ""));
    let service = service.clone();
    index.range(first..).take_while(move |(at, _)| *at == service).map(|(_, key)| key)
}
