//! `EndpointSlices`.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use smartnat_core::model::ObjectKey;
use tracing::warn;

use super::{Holdings, SliceState};
use crate::convert::{self, SERVICE_NAME_LABEL};
use crate::source::version::Version;
use crate::store::{SourceKind, SourceObject};

/// The address type of slices that hold names instead of addresses.
const NAMES: &str = "FQDN";

impl Holdings {
    /// A slice as it is now.
    pub(in crate::source) fn slice_applied(&mut self, slice: &EndpointSlice) {
        let Ok(key) = convert::object_key(&slice.metadata) else { return };
        if self.slices.admit(&key, Version::of(&slice.metadata)) {
            self.take_slice(&key, slice);
        }
    }

    /// A slice was deleted.
    pub(in crate::source) fn slice_deleted(&mut self, slice: &EndpointSlice) {
        let Ok(key) = convert::object_key(&slice.metadata) else { return };
        if let Some(state) = self.slices.delete(&key, &Version::of(&slice.metadata)) {
            self.slice_gone(&key, state);
        }
    }

    /// The next slice to fetch.
    pub(in crate::source) fn next_wish(&mut self) -> Option<Arc<ObjectKey>> {
        while let Some(key) = self.wishes.pop_first() {
            if self.awaiting_service(&key).is_some() {
                return Some(key);
            }
        }
        None
    }

    /// A slice that was wished for was read (`None`: there is none any more). An older state than
    /// the watch has told of is none to go by: says so with `false`, and the wish stands.
    pub(in crate::source) fn slice_fetched(
        &mut self,
        key: &ObjectKey,
        slice: Option<&EndpointSlice>,
    ) -> bool {
        let Some(service) = self.awaiting_service(key) else { return true };
        match slice {
            Some(slice) if self.slices.confirm(key, Version::of(&slice.metadata)) => {
                self.take_slice(key, slice);
            }
            Some(_) => {
                self.fetch_failed(key);
                return false;
            }
            // The watch will tell of its deletion.
            None => self.awaited_no_longer(&service, key),
        }
        true
    }

    /// A slice that was wished for could not be read; the wish stands.
    pub(in crate::source) fn fetch_failed(&mut self, key: &ObjectKey) {
        let Some(service) = self.awaiting_service(key) else { return };
        self.wishes.insert(self.slices.share(key));
        if let Some(named) = self.named.get_mut(&*service) {
            named.failed = true;
        }
        self.settle(&service);
    }

    /// The Service whose Mappings wait for this slice, if they do.
    fn awaiting_service(&self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        let service = self.slices.get(key)?.service.as_ref()?;
        let named = self.named.get(&**service)?;
        named.awaited.contains(key).then(|| Arc::clone(service))
    }

    fn awaited_no_longer(&mut self, service: &ObjectKey, key: &ObjectKey) {
        let Some(named) = self.named.get_mut(service) else { return };
        if named.awaited.remove(key) && named.awaited.is_empty() {
            named.failed = false;
            self.settle(service);
        }
    }

    /// Takes over a state of a slice that is the newest one.
    fn take_slice(&mut self, key: &ObjectKey, slice: &EndpointSlice) {
        let service = service_of(key, slice);
        let before = self.slices.get(key).and_then(|state| state.service.clone());
        if before.as_deref() != service.as_ref() {
            self.move_slice(key, service.clone());
        }
        let named = service.as_ref().is_some_and(|service| self.named.contains_key(service));
        if named {
            self.keep_slice(key, slice);
        } else {
            self.drop_slice(key);
        }
        for service in before.as_deref().into_iter().chain(&service) {
            self.awaited_no_longer(service, key);
        }
    }

    /// Tells the core of a slice. One that cannot be read leaves its last good state in force.
    fn keep_slice(&mut self, key: &ObjectKey, slice: &EndpointSlice) {
        match convert::endpoint_slice(slice) {
            Ok(converted) => {
                let object = SourceObject::EndpointSlice(converted.shared());
                self.stage(SourceKind::EndpointSlice, key, Some(object));
                if let Some(state) = self.slices.get_mut(key) {
                    state.kept = true;
                }
            }
            Err(error) => warn!(
                endpointslice = %key, field = %error.field,
                "an EndpointSlice cannot be read, its last good state stays in force: {error}"
            ),
        }
    }

    /// The core is no longer told of a slice.
    fn drop_slice(&mut self, key: &ObjectKey) {
        let kept = self.slices.get_mut(key).is_some_and(|state| std::mem::take(&mut state.kept));
        if kept {
            self.stage(SourceKind::EndpointSlice, key, None);
        }
    }

    /// Files a slice under another Service.
    fn move_slice(&mut self, key: &ObjectKey, service: Option<ObjectKey>) {
        let shared = self.slices.share(key);
        let service = service.map(|service| self.share_service(service));
        let Some(state) = self.slices.get_mut(key) else { return };
        let before = std::mem::replace(&mut state.service, service.clone());
        if let Some(before) = before {
            self.unfile(&before, key);
        }
        if let Some(service) = service {
            self.of_service.entry(service).or_default().insert(shared);
        }
    }

    fn share_service(&self, service: ObjectKey) -> Arc<ObjectKey> {
        let known = self.of_service.get_key_value(&service).map(|(known, _)| Arc::clone(known));
        known.unwrap_or_else(|| Arc::new(service))
    }

    fn unfile(&mut self, service: &ObjectKey, key: &ObjectKey) {
        if let Some(keys) = self.of_service.get_mut(service) {
            keys.remove(key);
            if keys.is_empty() {
                self.of_service.remove(service);
            }
        }
    }

    /// A slice, no longer known, is gone.
    pub(super) fn slice_gone(&mut self, key: &ObjectKey, state: SliceState) {
        if state.kept {
            self.stage(SourceKind::EndpointSlice, key, None);
        }
        if let Some(service) = state.service {
            self.unfile(&service, key);
            self.awaited_no_longer(&service, key);
        }
    }
}

/// The Service that a slice belongs to, if it has addresses at all.
fn service_of(key: &ObjectKey, slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    (!name.is_empty() && slice.address_type != NAMES)
        .then(|| ObjectKey::new(key.namespace.clone(), name.as_str()))
}
