//! Which endpoints stand behind a Mapping's port (T5, T8, T9).

mod index;
mod waiting;

pub use index::ServiceIndex;
pub use waiting::Waiting;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::admit::{AdmittedMapping, AdmittedPort};
use crate::model::{Family, ServiceEndpoint};

/// What stands behind one port of a Mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResolvedPort {
    /// Seconds of `sessionAffinity: ClientIP`, if on.
    pub affinity_seconds: Option<u32>,
    /// The endpoints by family.
    pub families: FamilyEndpoints,
    /// Why no address of the Mapping gets new connections on this port, where that is so.
    pub waiting: Option<Waiting>,
}

/// The endpoints of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FamilyEndpoints {
    /// Endpoints with an IPv4 address.
    pub ipv4: EndpointSet,
    /// Endpoints with an IPv6 address.
    pub ipv6: EndpointSet,
}

/// The endpoints of one family. The port of an endpoint is the target of the range's first
/// port; the whole range fits below 65536.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointSet {
    /// Those that get new connections, sorted, each once (T8).
    pub active: Vec<ServiceEndpoint>,
    /// All that are listed, a superset of `active`: those whose connections live on (T9, T10).
    pub listed: BTreeMap<ServiceEndpoint, Keeps>,
}

/// Which existing connections of a listed endpoint live on (T9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Keeps {
    /// TCP only: it does not serve any more.
    TcpOnly,
    /// All: it is ready or still serves.
    All,
}

impl FamilyEndpoints {
    /// The endpoints of one family.
    pub fn of(&self, family: Family) -> &EndpointSet {
        match family {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        }
    }
}

/// Finds the endpoints behind `port` of `mapping`.
pub fn resolve(
    _index: &ServiceIndex<'_>,
    _mapping: &AdmittedMapping,
    _port: &AdmittedPort,
) -> ResolvedPort {
    ResolvedPort::default()
}
