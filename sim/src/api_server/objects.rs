//! What the API server stores.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use smartnat_core::coordination::{LeaseName, LeaseRecord, MappingRecord};
use smartnat_core::model::{
    ClusterObject, EndpointSlice, Mapping, MappingSpec, ObjectKey, ObjectKind, Service,
};

/// What is watched as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Mappings.
    Mappings,
    /// Services.
    Services,
    /// Endpoint slices.
    Slices,
    /// Leases of ours.
    Leases,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mappings, Self::Services, Self::Slices, Self::Leases];
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A Mapping.
    Mapping(ObjectKey),
    /// A Service.
    Service(ObjectKey),
    /// An endpoint slice.
    Slice(ObjectKey),
    /// A Lease.
    Lease(LeaseName),
}

impl Key {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mapping(_) => Kind::Mappings,
            Self::Service(_) => Kind::Services,
            Self::Slice(_) => Kind::Slices,
            Self::Lease(_) => Kind::Leases,
        }
    }

    /// The object's end as a gateway reads it.
    pub fn deleted(&self) -> Option<ClusterObject> {
        Some(match self {
            Self::Mapping(key) => ClusterObject::Deleted(ObjectKind::Mapping, key.clone()),
            Self::Service(key) => ClusterObject::Deleted(ObjectKind::Service, key.clone()),
            Self::Slice(key) => ClusterObject::Deleted(ObjectKind::EndpointSlice, key.clone()),
            Self::Lease(_) => return None,
        })
    }
}

/// A stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Mapping.
    Mapping(Box<StoredMapping>),
    /// A Service.
    Service(Arc<Service>),
    /// An endpoint slice.
    Slice(Arc<EndpointSlice>),
    /// A Lease.
    Lease(LeaseRecord),
}

impl Object {
    /// The object as a gateway reads it.
    pub fn for_gateway(&self) -> Option<ClusterObject> {
        match self {
            Self::Mapping(mapping) => Some(mapping.for_gateway().into()),
            Self::Service(service) => Some(ClusterObject::Service(Arc::clone(service))),
            Self::Slice(slice) => Some(ClusterObject::EndpointSlice(Arc::clone(slice))),
            Self::Lease(_) => None,
        }
    }

    pub(super) fn with_version(mut self, version: u64) -> Self {
        match &mut self {
            Self::Mapping(mapping) => mapping.record.version = version.to_string(),
            Self::Lease(lease) => lease.version = version.to_string(),
            Self::Service(_) | Self::Slice(_) => {}
        }
        self
    }
}

/// A Mapping with its metadata and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMapping {
    /// As somebody wrote it.
    pub written: Mapping,
    /// What coordination reads of it.
    pub record: MappingRecord,
    /// Entries of `status.addresses` by the field managers that own them.
    pub(super) owners: BTreeMap<String, BTreeSet<(IpAddr, String)>>,
}

impl StoredMapping {
    pub(super) fn new(written: Mapping, uid: String) -> Self {
        let record = MappingRecord { uid, generation: 1, ..MappingRecord::default() };
        let mut stored = Self { written, record, owners: BTreeMap::new() };
        stored.note_addresses();
        stored
    }

    /// Namespace and name.
    pub fn key(&self) -> &ObjectKey {
        &self.written.key
    }

    fn for_gateway(&self) -> Mapping {
        let MappingRecord { uid, generation, deleting, .. } = self.record.clone();
        Mapping { uid, generation, deleting, ..self.written.clone() }
    }

    pub(super) fn change_spec(&mut self, spec: MappingSpec) {
        if self.written.spec != spec {
            self.written.spec = spec;
            self.record.generation += 1;
            self.note_addresses();
        }
    }

    pub(super) fn delete(&mut self) {
        if !self.record.deleting {
            self.record.deleting = true;
            self.record.generation += 1;
        }
    }

    fn note_addresses(&mut self) {
        let addresses = self.written.spec.addresses.iter();
        self.record.addresses = addresses.filter_map(|text| text.parse().ok()).collect();
    }
}
