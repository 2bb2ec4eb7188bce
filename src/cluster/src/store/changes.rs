//! What changed for the core when objects of a source changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smartnat_core::model::{ClusterObject, EndpointSlice, ObjectKey, ObjectKind};

use super::object::{SourceId, SourceKind, SourceObject, deleted};

/// The objects of a source, and what the core was told of them. Legacy `Endpoints` stand in
/// for the slices of a Service that has none.
#[derive(Clone, Debug, Default)]
pub struct ObjectStore {
    objects: BTreeMap<SourceId, SourceObject>,
    /// How many real slices a Service has, if any.
    slices: BTreeMap<ObjectKey, usize>,
    /// Slices made of legacy `Endpoints` that the core was told of, by Service.
    stand_ins: BTreeMap<ObjectKey, Vec<Arc<EndpointSlice>>>,
}

impl ObjectStore {
    /// Takes over `changes` (`None`: the object is gone) and returns what changed for the
    /// core. Work is proportional to the change.
    pub fn update(
        &mut self,
        changes: impl IntoIterator<Item = (SourceId, Option<SourceObject>)>,
    ) -> Vec<ClusterObject> {
        let mut told = Vec::new();
        let mut services = BTreeSet::new();
        for (id, object) in changes {
            if self.objects.get(&id) == object.as_ref() {
                continue;
            }
            told.extend(object.as_ref().map_or_else(|| deleted(&id), SourceObject::to_cluster));
            let before = match object.clone() {
                Some(object) => self.objects.insert(id.clone(), object),
                None => self.objects.remove(&id),
            };
            if let Some(before) = before {
                services.extend(self.detach(&before));
            }
            if let Some(object) = object {
                services.extend(self.attach(&object));
            }
        }
        for service in services {
            self.settle(&service, &mut told);
        }
        told
    }

    /// An object, if there is one.
    pub fn get(&self, id: &SourceId) -> Option<&SourceObject> {
        self.objects.get(id)
    }

    /// Everything that the core was told and that still holds.
    pub fn all(&self) -> Vec<ClusterObject> {
        let stand_ins = self.stand_ins.values().flatten().cloned();
        let own = self.objects.values().filter_map(SourceObject::to_cluster);
        own.chain(stand_ins.map(ClusterObject::EndpointSlice)).collect()
    }

    /// Forgets to which Service `object` belonged; returns it.
    fn detach(&mut self, object: &SourceObject) -> Option<ObjectKey> {
        match object {
            SourceObject::EndpointSlice(slice) => {
                let service = service_of(slice);
                if let Some(count) = self.slices.get_mut(&service) {
                    *count -= 1;
                    if *count == 0 {
                        self.slices.remove(&service);
                    }
                }
                Some(service)
            }
            SourceObject::Endpoints(endpoints) => Some(endpoints.key.clone()),
            SourceObject::Mapping(_) | SourceObject::Service(_) => None,
        }
    }

    /// Notes to which Service `object` belongs; returns it.
    fn attach(&mut self, object: &SourceObject) -> Option<ObjectKey> {
        match object {
            SourceObject::EndpointSlice(slice) => {
                let service = service_of(slice);
                *self.slices.entry(service.clone()).or_default() += 1;
                Some(service)
            }
            SourceObject::Endpoints(endpoints) => Some(endpoints.key.clone()),
            SourceObject::Mapping(_) | SourceObject::Service(_) => None,
        }
    }

    /// Tells the core which slices now stand in for those of `service`.
    fn settle(&mut self, service: &ObjectKey, told: &mut Vec<ClusterObject>) {
        let id = SourceId { kind: SourceKind::Endpoints, key: service.clone() };
        let wanted = match self.objects.get(&id) {
            Some(SourceObject::Endpoints(endpoints)) if !self.slices.contains_key(service) => {
                endpoints.slices.clone()
            }
            _ => Vec::new(),
        };
        let before = self.stand_ins.remove(service).unwrap_or_default();
        for slice in &before {
            if !wanted.iter().any(|w| w.key == slice.key) {
                told.push(ClusterObject::Deleted(ObjectKind::EndpointSlice, slice.key.clone()));
            }
        }
        for slice in &wanted {
            if !before.contains(slice) {
                told.push(ClusterObject::EndpointSlice(Arc::clone(slice)));
            }
        }
        if !wanted.is_empty() {
            self.stand_ins.insert(service.clone(), wanted);
        }
    }
}

/// The Service that a slice belongs to.
fn service_of(slice: &EndpointSlice) -> ObjectKey {
    slice.service()
}

#[cfg(test)]
mod tests;
