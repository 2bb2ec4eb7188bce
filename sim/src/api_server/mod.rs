//! A Kubernetes API server in memory, as far as the protocol between instances leans on it:
//! versions that grow, generations, uids, finalizers, preconditions, server-side apply by field
//! manager, and a history from which late watches and stale lists are served.
//!
//! It makes no choice of its own. Lag, lost answers and outages are the network's, see
//! [`crate::fleet`].

mod objects;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use objects::{Key, Kind, Object, StoredMapping};
use smartnat_core::coordination::{FINALIZER, LeaseName, LeaseRecord};
use smartnat_core::model::{ClusterObject, Mapping, MappingSpec, ObjectKey, ObjectKind};

/// One step of the history of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `resourceVersion` after it.
    pub version: u64,
    /// When it happened, in virtual milliseconds.
    pub at: u64,
    /// Of which object.
    pub key: Key,
    /// The object as it is since then; `None`: it is gone.
    pub object: Option<Object>,
}

/// The API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    now: u64,
    version: u64,
    uids: u64,
    objects: BTreeMap<Key, Object>,
    history: BTreeMap<Kind, Vec<Change>>,
}

impl ApiServer {
    /// The server's clock; it dates what happens.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// All that has happened to a kind, oldest first.
    pub fn history(&self, kind: Kind) -> &[Change] {
        self.history.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// The objects of a kind after so many steps of its history.
    pub fn list(&self, kind: Kind, steps: usize) -> BTreeMap<Key, Object> {
        let mut objects = BTreeMap::new();
        for change in &self.history(kind)[..steps] {
            match &change.object {
                Some(object) => objects.insert(change.key.clone(), object.clone()),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    /// A Mapping as it is now.
    pub fn mapping(&self, key: &ObjectKey) -> Option<&StoredMapping> {
        match self.objects.get(&Key::Mapping(key.clone()))? {
            Object::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// All Mappings as they are now.
    pub fn mappings(&self) -> impl Iterator<Item = &StoredMapping> {
        self.objects.values().filter_map(|object| match object {
            Object::Mapping(mapping) => Some(&**mapping),
            _ => None,
        })
    }

    /// A Lease as it is now.
    pub fn lease(&self, name: &LeaseName) -> Option<&LeaseRecord> {
        match self.objects.get(&Key::Lease(name.clone()))? {
            Object::Lease(lease) => Some(lease),
            _ => None,
        }
    }

    /// Everything that a gateway reads, as it is now.
    pub fn cluster(&self) -> Vec<ClusterObject> {
        self.objects.values().filter_map(Object::for_gateway).collect()
    }

    /// Somebody creates or changes an object. The metadata of a Mapping but its key and creation
    /// time are the server's to say.
    pub fn put(&mut self, object: ClusterObject) {
        match object {
            ClusterObject::Mapping(mapping) => self.put_mapping(&mapping),
            ClusterObject::Service(s) => {
                self.store(Key::Service(s.key.clone()), Some(Object::Service(s)));
            }
            ClusterObject::EndpointSlice(s) => {
                self.store(Key::Slice(s.key.clone()), Some(Object::Slice(s)));
            }
            ClusterObject::Deleted(ObjectKind::Mapping, key) => self.delete_mapping(&key),
            ClusterObject::Deleted(ObjectKind::Service, key) => self.store(Key::Service(key), None),
            ClusterObject::Deleted(ObjectKind::EndpointSlice, key) => {
                self.store(Key::Slice(key), None);
            }
            ClusterObject::Published(_) => {}
        }
    }

    fn put_mapping(&mut self, mapping: &Mapping) {
        let key = mapping.key.clone();
        match self.mapping(&key) {
            None => {
                self.uids += 1;
                let new = StoredMapping::new(mapping.clone(), format!("uid-{}", self.uids));
                self.store(Key::Mapping(key), Some(Object::Mapping(Box::new(new))));
            }
            Some(_) => self.change_mapping(&key, |stored| {
                stored.change_spec(mapping.spec.clone());
            }),
        }
    }

    /// Somebody changes the specification of a Mapping that exists.
    pub fn change_spec(&mut self, key: &ObjectKey, spec: MappingSpec) {
        self.change_mapping(key, |stored| stored.change_spec(spec));
    }

    /// Somebody deletes a Mapping. It goes once it has no finalizer.
    pub fn delete_mapping(&mut self, key: &ObjectKey) {
        self.change_mapping(key, StoredMapping::delete);
    }

    /// Somebody takes our finalizer away by force.
    pub fn strip_finalizer(&mut self, key: &ObjectKey) {
        self.change_mapping(key, |stored| stored.record.finalizers.retain(|f| f != FINALIZER));
    }

    /// Another field manager also owns an entry of `status.addresses`, which stays for as long as
    /// that one does not let go of it.
    pub fn co_own_entry(&mut self, key: &ObjectKey, address: IpAddr, instance: &str) {
        self.change_mapping(key, |stored| {
            let kept = BTreeSet::from([(address, instance.to_owned())]);
            stored.owners.insert("somebody".into(), kept);
        });
    }

    /// Changes a Mapping if it is there, as one write. What is deleted and has no finalizer goes.
    fn change_mapping(&mut self, key: &ObjectKey, change: impl FnOnce(&mut StoredMapping)) {
        let Some(mut stored) = self.mapping(key).cloned() else { return };
        change(&mut stored);
        let gone = stored.record.deleting && stored.record.finalizers.is_empty();
        let object = (!gone).then(|| Object::Mapping(Box::new(stored)));
        self.store(Key::Mapping(key.clone()), object);
    }

    /// A write that changes nothing is none: no new version, no event.
    fn store(&mut self, key: Key, object: Option<Object>) {
        if self.objects.get(&key) == object.as_ref() {
            return;
        }
        self.version += 1;
        let object = object.map(|o| o.with_version(self.version));
        match &object {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        let change = Change { version: self.version, at: self.now, key, object };
        self.history.entry(change.key.kind()).or_default().push(change);
    }
}
