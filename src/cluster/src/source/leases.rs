//! The Leases of the instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;

use super::version::Version;
use super::versions::Versions;
use crate::convert;

/// Changes of Leases by name; `None`: gone.
pub type ChangedLeases = BTreeMap<String, Option<Arc<Lease>>>;

/// What is known of the Leases, and which have changed. Their contents are not kept.
#[derive(Debug, Default)]
pub(super) struct Leases {
    known: Versions<()>,
    changed: ChangedLeases,
}

impl Leases {
    pub(super) fn applied(&mut self, lease: Lease) {
        let Ok(key) = convert::object_key(&lease.metadata) else { return };
        if self.known.admit(&key, Version::of(&lease.metadata)) {
            self.changed.insert(key.name.to_string(), Some(Arc::new(lease)));
        }
    }

    pub(super) fn deleted(&mut self, lease: &Lease) {
        let Ok(key) = convert::object_key(&lease.metadata) else { return };
        if self.known.delete(&key, &Version::of(&lease.metadata)).is_some() {
            self.changed.insert(key.name.to_string(), None);
        }
    }

    pub(super) fn begin_list(&mut self, resets: bool) {
        self.known.begin_list(resets);
    }

    pub(super) fn abandon_list(&mut self) {
        self.known.abandon_list();
    }

    pub(super) fn end_list(&mut self) {
        for (key, ()) in self.known.end_list() {
            self.changed.insert(key.name.to_string(), None);
        }
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn take(&mut self) -> ChangedLeases {
        std::mem::take(&mut self.changed)
    }
}
