//! Cluster objects, reduced to what a decision reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Family, ObjectKey, PortReference, Protocol, Timestamp};
use crate::packed::pack_map;

/// The objects of the cluster that decisions read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterState {
    /// Mappings, admitted or not.
    pub mappings: BTreeMap<ObjectKey, Arc<Mapping>>,
    /// Services.
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// Endpoint slices (legacy Endpoints are read into the same form).
    pub slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// External addresses that this instance has told the cluster to hold; no other is served.
    /// `None` without a cluster, where there is nobody to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<BTreeSet<IpAddr>>,
}

/// Which kind of object a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectKind {
    /// A Mapping.
    Mapping,
    /// A Service.
    Service,
    /// An `EndpointSlice`.
    EndpointSlice,
}

/// One changed object, shared with whoever tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClusterObject {
    /// A Mapping as it is now.
    Mapping(Arc<Mapping>),
    /// A Service as it is now.
    Service(Arc<Service>),
    /// An `EndpointSlice` as it is now.
    EndpointSlice(Arc<EndpointSlice>),
    /// The object is gone.
    Deleted(ObjectKind, ObjectKey),
    /// The external addresses that this instance now has told the cluster to hold.
    Published(BTreeSet<IpAddr>),
}

impl From<Mapping> for ClusterObject {
    fn from(mapping: Mapping) -> Self {
        Self::Mapping(mapping.shared())
    }
}

impl From<Service> for ClusterObject {
    fn from(service: Service) -> Self {
        Self::Service(service.shared())
    }
}

impl From<EndpointSlice> for ClusterObject {
    fn from(slice: EndpointSlice) -> Self {
        Self::EndpointSlice(slice.shared())
    }
}

impl ClusterState {
    /// A Service, if it exists.
    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key).map(|service| &**service)
    }

    /// Whether this instance may serve an external address that its host holds.
    pub fn may_serve(&self, address: IpAddr) -> bool {
        self.published.as_ref().is_none_or(|published| published.contains(&address))
    }

    /// Folds one change into the state.
    pub fn update(&mut self, object: ClusterObject) {
        match object {
            ClusterObject::Mapping(m) => {
                self.mappings.insert(m.key.clone(), m);
            }
            ClusterObject::Service(s) => {
                self.services.insert(s.key.clone(), s);
            }
            ClusterObject::EndpointSlice(s) => {
                self.slices.insert(s.key.clone(), s);
            }
            ClusterObject::Published(addresses) => self.published = Some(addresses),
            ClusterObject::Deleted(ObjectKind::Mapping, key) => {
                self.mappings.remove(&key);
            }
            ClusterObject::Deleted(ObjectKind::Service, key) => {
                self.services.remove(&key);
            }
            ClusterObject::Deleted(ObjectKind::EndpointSlice, key) => {
                self.slices.remove(&key);
            }
        }
    }
}

impl ClusterState {
    /// Takes as little memory as it can.
    pub(crate) fn pack(&mut self) {
        pack_map(&mut self.mappings);
        pack_map(&mut self.services);
        pack_map(&mut self.slices);
    }
}

/// A Mapping as written, before admission.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mapping {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`; empty where the source has none. It tells a Mapping from the next one of
    /// its name, whose generations begin anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// `metadata.generation`; 0 where the source has none.
    pub generation: i64,
    /// `metadata.creationTimestamp`; absent sorts last (T19).
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The specification as written.
    pub spec: MappingSpec,
}

impl Mapping {
    /// To be kept and shared, with no room to grow: a list of one that grew has room for four.
    pub fn shared(mut self) -> Arc<Self> {
        self.spec.addresses.shrink_to_fit();
        self.spec.allowed_sources.shrink_to_fit();
        self.spec.ports.shrink_to_fit();
        Arc::new(self)
    }

    /// The Service that it names, which need not exist.
    pub fn service(&self) -> ObjectKey {
        ObjectKey::new(self.key.namespace.clone(), self.spec.service_name.clone())
    }
}

/// `spec` of a Mapping, unchecked and without defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MappingSpec {
    /// External addresses.
    pub addresses: Vec<String>,
    /// CIDRs or bare addresses; empty: everyone.
    pub allowed_sources: Vec<String>,
    /// A Service of the same namespace.
    pub service_name: Arc<str>,
    /// `service`, the only mode; absent is the default.
    pub mode: Option<String>,
    /// Exposed ports.
    pub ports: Vec<MappingPort>,
    /// Overrides the gateway's setting.
    pub masquerade: Option<bool>,
    /// Overrides the gateway's setting.
    pub egress: Option<bool>,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MappingPort {
    /// External port.
    pub port: Option<i64>,
    /// Last port of a range.
    pub end_port: Option<i64>,
    /// Protocol in any case; default tcp.
    pub protocol: Option<String>,
    /// Port of the Service by number or name; default `port`.
    pub service_port: Option<PortReference>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `type: ExternalName`, which cannot be exposed.
    pub external_name: bool,
    /// Cluster addresses; empty for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Seconds of `sessionAffinity: ClientIP`, if on (1 to 86400, default 10800).
    pub affinity_seconds: Option<u32>,
}

impl Service {
    /// To be kept and shared, with no room to grow.
    pub fn shared(mut self) -> Arc<Self> {
        self.cluster_ips.shrink_to_fit();
        self.ports.shrink_to_fit();
        Arc::new(self)
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// Name; empty where the Service has a single unnamed port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the Service.
    pub port: u16,
}

/// An `EndpointSlice` of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Name of the Service (label `kubernetes.io/service-name`), same namespace.
    pub service_name: Arc<str>,
    /// Family of its addresses.
    pub family: Family,
    /// Ports, shared by all endpoints.
    pub ports: Vec<SlicePort>,
    /// Endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

impl EndpointSlice {
    /// To be kept and shared, with no room to grow.
    pub fn shared(mut self) -> Arc<Self> {
        self.ports.shrink_to_fit();
        self.endpoints.shrink_to_fit();
        for endpoint in &mut self.endpoints {
            endpoint.addresses.shrink_to_fit();
        }
        Arc::new(self)
    }

    /// The Service that it belongs to.
    pub fn service(&self) -> ObjectKey {
        ObjectKey::new(self.key.namespace.clone(), self.service_name.clone())
    }
}

/// One port of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlicePort {
    /// Name of the Service port that it belongs to; empty: the unnamed one.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Target port; absent means "all ports" (KEP-752) and is not usable here.
    pub port: Option<u16>,
}

/// One endpoint of an `EndpointSlice`, conditions resolved to their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SliceEndpoint {
    /// Addresses (fungible; the first is used).
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`, nil read as true.
    pub ready: bool,
    /// `conditions.serving`, nil read as `ready`.
    pub serving: bool,
    /// `conditions.terminating`, nil read as false.
    pub terminating: bool,
}
