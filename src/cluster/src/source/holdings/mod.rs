//! What is known of the cluster, and what the core has yet to be told of it.
//!
//! Pure: objects in, changes and wishes out. Every Service is kept in the core's form, but the core
//! is told only of those that a Mapping names. Of an `EndpointSlice` only key, version and Service are
//! kept unless a Mapping names the Service. When one begins to, its slices are wished for, and the
//! Mapping is held back until they are here, so that it never stands without its endpoints.

mod mappings;
mod services;
mod slices;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smartnat_core::model::{self, ClusterObject, ObjectKey};

use super::trouble::WatchedResource;
use super::versions::Versions;
use crate::api;
use crate::store::{ObjectStore, SourceId, SourceKind, SourceObject};

/// Changes of Mappings as they are stored; `None`: gone.
pub(super) type ChangedMappings = BTreeMap<ObjectKey, Option<Arc<api::Mapping>>>;

/// What is known of one Mapping.
#[derive(Debug, Default)]
struct MappingState {
    /// The Service of the Mapping that the core was told of; `None`: it knows of none.
    told: Option<ObjectKey>,
    /// The Service of the newest good state.
    wanted: Option<ObjectKey>,
    /// The newest good state, as long as the slices of its Service are awaited.
    held: Option<Arc<model::Mapping>>,
}

/// What is known of one slice.
#[derive(Debug, Default)]
struct SliceState {
    service: Option<Arc<ObjectKey>>,
    /// Whether the core is told of it.
    kept: bool,
}

/// A Service that Mappings name.
#[derive(Debug, Default)]
struct Named {
    by: BTreeSet<ObjectKey>,
    /// Its slices that are known by key only and are being fetched.
    awaited: BTreeSet<Arc<ObjectKey>>,
    /// Fetching them has failed: a Mapping that the core does not know yet waits no longer.
    failed: bool,
}

/// What is known of the cluster.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    mappings: Versions<MappingState>,
    services: Versions<Option<Arc<model::Service>>>,
    slices: Versions<SliceState>,
    /// The slices of each Service.
    of_service: BTreeMap<Arc<ObjectKey>, BTreeSet<Arc<ObjectKey>>>,
    named: BTreeMap<ObjectKey, Named>,
    /// Slices to fetch; some may no longer be needed.
    wishes: BTreeSet<Arc<ObjectKey>>,
    /// What the core was told.
    store: ObjectStore,
    /// What it has yet to be told.
    staged: BTreeMap<SourceId, Option<SourceObject>>,
    changed: ChangedMappings,
}

impl Holdings {
    /// A list of Mappings, Services or slices begins.
    pub(super) fn begin_list(&mut self, resource: WatchedResource, resets: bool) {
        match resource {
            WatchedResource::Mappings => self.mappings.begin_list(resets),
            WatchedResource::Services => self.services.begin_list(resets),
            WatchedResource::EndpointSlices => self.slices.begin_list(resets),
            WatchedResource::Leases => {}
        }
    }

    /// The list under way will not come to its end.
    pub(super) fn abandon_list(&mut self, resource: WatchedResource) {
        match resource {
            WatchedResource::Mappings => self.mappings.abandon_list(),
            WatchedResource::Services => self.services.abandon_list(),
            WatchedResource::EndpointSlices => self.slices.abandon_list(),
            WatchedResource::Leases => {}
        }
    }

    /// The list is complete: what was not in it is gone.
    pub(super) fn end_list(&mut self, resource: WatchedResource) {
        match resource {
            WatchedResource::Mappings => {
                for (key, state) in self.mappings.end_list() {
                    self.mapping_gone(&key, &state);
                }
            }
            WatchedResource::Services => {
                for (key, _) in self.services.end_list() {
                    self.stage(SourceKind::Service, &key, None);
                }
            }
            WatchedResource::EndpointSlices => {
                for (key, state) in self.slices.end_list() {
                    self.slice_gone(&key, state);
                }
            }
            WatchedResource::Leases => {}
        }
    }

    /// Whether no slices are awaited that may still come.
    pub(super) fn is_complete(&self) -> bool {
        self.named.values().all(|named| named.awaited.is_empty() || named.failed)
    }

    /// Whether the core has something to be told.
    pub(super) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Whether the stored form of a Mapping changed.
    pub(super) fn has_changed_mappings(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Takes what the core has yet to be told and which Mappings changed at all.
    pub(super) fn take(&mut self) -> (Vec<ClusterObject>, ChangedMappings) {
        let objects = self.store.update(std::mem::take(&mut self.staged));
        (objects, std::mem::take(&mut self.changed))
    }

    /// Notes what the core is to be told, unless it knows.
    fn stage(&mut self, kind: SourceKind, key: &ObjectKey, object: Option<SourceObject>) {
        let id = SourceId { kind, key: key.clone() };
        let current = match self.staged.get(&id) {
            Some(staged) => staged.as_ref(),
            None => self.store.get(&id),
        };
        if current != object.as_ref() {
            self.staged.insert(id, object);
        }
    }

    /// `mapping` names `service` from now on.
    fn name(&mut self, service: &ObjectKey, mapping: &ObjectKey) {
        if let Some(named) = self.named.get_mut(service) {
            named.by.insert(mapping.clone());
            return;
        }
        let awaited = self.of_service.get(service).cloned().unwrap_or_default();
        self.wishes.extend(awaited.iter().cloned());
        let by = BTreeSet::from([mapping.clone()]);
        self.named.insert(service.clone(), Named { by, awaited, failed: false });
        if let Some(Some(known)) = self.services.get(service) {
            let known = SourceObject::Service(Arc::clone(known));
            self.stage(SourceKind::Service, service, Some(known));
        }
    }

    /// `mapping` no longer names `service`; what nobody names is dropped.
    fn unname(&mut self, service: &ObjectKey, mapping: &ObjectKey) {
        let Some(named) = self.named.get_mut(service) else { return };
        named.by.remove(mapping);
        if !named.by.is_empty() {
            return;
        }
        self.named.remove(service);
        self.stage(SourceKind::Service, service, None);
        for key in self.of_service.get(service).cloned().unwrap_or_default() {
            if let Some(state) = self.slices.get_mut(&key)
                && std::mem::take(&mut state.kept)
            {
                self.stage(SourceKind::EndpointSlice, &key, None);
            }
        }
    }

    /// Hands on the Mappings that wait for the slices of `service`, if they need wait no longer.
    fn settle(&mut self, service: &ObjectKey) {
        let by = self.named.get(service).map(|named| named.by.clone()).unwrap_or_default();
        for mapping in &by {
            self.hand_on(mapping);
        }
    }
}

#[cfg(test)]
mod tests;
