//! Objects as a source holds them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smartnat_core::model::{ClusterObject, EndpointSlice, Mapping, ObjectKey, ObjectKind, Service};

/// Which kind of object a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SourceKind {
    /// A Mapping.
    Mapping,
    /// A Service.
    Service,
    /// An `EndpointSlice`.
    EndpointSlice,
    /// Legacy `Endpoints`.
    Endpoints,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapping => "Mapping",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
        })
    }
}

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceId {
    /// Kind.
    pub kind: SourceKind,
    /// Namespace and name.
    pub key: ObjectKey,
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// An object of a source, shared with the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceObject {
    /// A Mapping.
    Mapping(Arc<Mapping>),
    /// A Service.
    Service(Arc<Service>),
    /// An `EndpointSlice`.
    EndpointSlice(Arc<EndpointSlice>),
    /// Legacy `Endpoints`.
    Endpoints(Arc<LegacyEndpoints>),
}

/// Legacy `Endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyEndpoints {
    /// Namespace and name, which are those of the Service.
    pub key: ObjectKey,
    /// What they say, as slices.
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl SourceObject {
    /// Kind, namespace and name.
    pub fn id(&self) -> SourceId {
        let (kind, key) = match self {
            Self::Mapping(m) => (SourceKind::Mapping, &m.key),
            Self::Service(s) => (SourceKind::Service, &s.key),
            Self::EndpointSlice(s) => (SourceKind::EndpointSlice, &s.key),
            Self::Endpoints(e) => (SourceKind::Endpoints, &e.key),
        };
        SourceId { kind, key: key.clone() }
    }

    /// The object that the core has for it; legacy `Endpoints` have none of their own.
    pub(super) fn to_cluster(&self) -> Option<ClusterObject> {
        match self {
            Self::Mapping(m) => Some(ClusterObject::Mapping(Arc::clone(m))),
            Self::Service(s) => Some(ClusterObject::Service(Arc::clone(s))),
            Self::EndpointSlice(s) => Some(ClusterObject::EndpointSlice(Arc::clone(s))),
            Self::Endpoints(..) => None,
        }
    }
}

/// The core's word that the object of `id` is gone; `None` for legacy `Endpoints`.
pub(super) fn deleted(id: &SourceId) -> Option<ClusterObject> {
    let kind = match id.kind {
        SourceKind::Mapping => ObjectKind::Mapping,
        SourceKind::Service => ObjectKind::Service,
        SourceKind::EndpointSlice => ObjectKind::EndpointSlice,
        SourceKind::Endpoints => return None,
    };
    Some(ClusterObject::Deleted(kind, id.key.clone()))
}
