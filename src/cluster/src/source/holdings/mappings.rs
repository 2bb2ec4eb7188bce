//! Mappings.

use std::sync::Arc;

use kube::core::DynamicObject;
use smartnat_core::model::{self, ObjectKey};
use tracing::warn;

use super::{Holdings, MappingState};
use crate::api;
use crate::convert::{self, ConversionError};
use crate::source::version::Version;
use crate::store::{SourceKind, SourceObject};

impl Holdings {
    /// A Mapping as it is now. One that cannot be read leaves its last good state in force.
    pub(in crate::source) fn mapping_applied(&mut self, object: DynamicObject) {
        let Ok(key) = convert::object_key(&object.metadata) else { return };
        let version = Version::of(&object.metadata);
        if !self.mappings.admit(&key, version) {
            return;
        }
        let read = read(object).and_then(|stored| Ok((convert::mapping(&stored)?, stored)));
        match read {
            Ok((mapping, stored)) => {
                self.changed.insert(key.clone(), Some(Arc::new(stored)));
                self.offer(&key, mapping.shared());
            }
            Err(error) => warn!(
                mapping = %key, field = %error.field,
                "a Mapping cannot be read, its last good state stays in force: {error}"
            ),
        }
    }

    /// A Mapping was deleted.
    pub(in crate::source) fn mapping_deleted(&mut self, object: &DynamicObject) {
        let Ok(key) = convert::object_key(&object.metadata) else { return };
        if let Some(state) = self.mappings.delete(&key, &Version::of(&object.metadata)) {
            self.mapping_gone(&key, &state);
        }
    }

    pub(super) fn mapping_gone(&mut self, key: &ObjectKey, state: &MappingState) {
        self.changed.insert(key.clone(), None);
        self.stage(SourceKind::Mapping, key, None);
        for service in state.told.iter().chain(&state.wanted) {
            self.unname(service, key);
        }
    }

    /// Takes over a good state. It is held back while the slices of its Service are awaited.
    fn offer(&mut self, key: &ObjectKey, mapping: Arc<model::Mapping>) {
        let service = mapping.service();
        self.name(&service, key);
        let Some(state) = self.mappings.get_mut(key) else { return };
        state.held = Some(mapping);
        let before = state.wanted.replace(service.clone());
        let left =
            before.filter(|before| *before != service && state.told.as_ref() != Some(before));
        if let Some(left) = left {
            self.unname(&left, key);
        }
        self.hand_on(key);
    }

    /// Stages the newest good state of a Mapping, unless it names another Service now and the
    /// slices of that one are awaited. If they cannot be had, it still waits if the core knows an
    /// earlier state: that one is served, and must not be cut off for lack of an answer.
    pub(super) fn hand_on(&mut self, key: &ObjectKey) {
        let Some(state) = self.mappings.get_mut(key) else { return };
        let Some(service) = state.wanted.clone() else { return };
        let named = self.named.get(&service);
        let complete = named.is_none_or(|named| named.awaited.is_empty());
        let ready = match &state.told {
            Some(told) => *told == service || complete,
            None => complete || named.is_some_and(|named| named.failed),
        };
        if !ready {
            return;
        }
        let Some(mapping) = state.held.take() else { return };
        let before = state.told.replace(service.clone()).filter(|before| *before != service);
        self.stage(SourceKind::Mapping, key, Some(SourceObject::Mapping(mapping)));
        if let Some(before) = before {
            self.unname(&before, key);
        }
    }
}

/// Reads one object by itself, so that a broken one spoils no list.
fn read(object: DynamicObject) -> Result<api::Mapping, ConversionError> {
    let value = serde_json::to_value(object)
        .map_err(|error| ConversionError::new("metadata", error.to_string()))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        ConversionError::new(error.path().to_string(), error.into_inner().to_string())
    })
}
