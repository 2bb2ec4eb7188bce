//! What the core knows of the world: cluster objects, the host, configuration.

mod cluster;
mod config;
mod host;
mod primitives;
mod references;

pub use cluster::{
    ClusterObject, ClusterState, EndpointSlice, Mapping, MappingPort, MappingSpec, ObjectKind,
    Service, ServicePort, SliceEndpoint, SlicePort,
};
pub use config::{Backend, ConfigError, GatewayConfig, IptablesFlavour, UplinkGateway};
pub use host::{HostRoute, HostState, InterfaceAddress, Link};
pub use primitives::{
    Family, ObjectKey, PortRange, PortReference, Protocol, ServiceEndpoint, Timestamp,
};
pub(crate) use references::{References, Touched};

use serde::{Deserialize, Serialize};

/// Everything a decision depends on. Two equal snapshots give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Objects of the cluster.
    pub cluster: ClusterState,
    /// Links, addresses and routes of this host.
    pub host: HostState,
    /// Settings of this gateway.
    pub config: GatewayConfig,
}
