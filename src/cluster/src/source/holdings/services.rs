//! Services.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use tracing::warn;

use super::Holdings;
use crate::convert;
use crate::source::version::Version;
use crate::store::{SourceKind, SourceObject};

impl Holdings {
    /// A Service as it is now. One that cannot be read leaves its last good state in force.
    pub(in crate::source) fn service_applied(&mut self, service: &Service) {
        let Ok(key) = convert::object_key(&service.metadata) else { return };
        if !self.services.admit(&key, Version::of(&service.metadata)) {
            return;
        }
        match convert::service(service) {
            Ok(converted) => {
                let converted = converted.shared();
                if self.named.contains_key(&key) {
                    let object = SourceObject::Service(Arc::clone(&converted));
                    self.stage(SourceKind::Service, &key, Some(object));
                }
                if let Some(known) = self.services.get_mut(&key) {
                    *known = Some(converted);
                }
            }
            Err(error) => warn!(
                service = %key, field = %error.field,
                "a Service cannot be read, its last good state stays in force: {error}"
            ),
        }
    }

    /// A Service was deleted.
    pub(in crate::source) fn service_deleted(&mut self, service: &Service) {
        let Ok(key) = convert::object_key(&service.metadata) else { return };
        if self.services.delete(&key, &Version::of(&service.metadata)).is_some() {
            self.stage(SourceKind::Service, &key, None);
        }
    }
}
