//! Admission: a raw Mapping becomes an [`AdmittedMapping`] or a [`Rejection`], and of
//! several Mappings that want one external endpoint a single one gets it (T19).

mod addresses;
mod claims;
mod conflict;
mod ports;
mod problem;
mod sources;
mod spec;

pub(crate) use addresses::is_routable;
pub(crate) use claims::{Age, Claims};
pub use problem::{ConflictProblem, Problem, Rejection};
pub use sources::AllowedSources;
pub use spec::check;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{
    ClusterState, GatewayConfig, ObjectKey, PortRange, PortReference, Protocol, Timestamp,
};

/// The verdict on every Mapping: each is in exactly one of the two maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Admission {
    /// Mappings that own all their external endpoints.
    pub accepted: BTreeMap<ObjectKey, AdmittedMapping>,
    /// Mappings that own nothing, with the reasons.
    pub rejected: BTreeMap<ObjectKey, Rejection>,
}

/// A valid Mapping, parsed and with the gateway's defaults applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AdmittedMapping {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.generation`.
    pub generation: i64,
    /// Creation time; absent sorts last (T19).
    pub created: Option<Timestamp>,
    /// It is being deleted; it owns its endpoints until its finalizer is gone.
    pub deleting: bool,
    /// External addresses in the order of the specification, each once, at least one.
    pub addresses: Vec<IpAddr>,
    /// Who may connect (T2).
    pub sources: AllowedSources,
    /// The Service, which need not exist.
    pub service: ObjectKey,
    /// Exposed ports in the order of the specification, at least one, disjoint per protocol.
    pub ports: Vec<AdmittedPort>,
    /// Pods see the gateway's address (T7).
    pub masquerade: bool,
    /// Pods leave with an address of this Mapping (T13).
    pub egress: bool,
}

/// One exposed port or range of ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AdmittedPort {
    /// Protocol of the external port and of the Service port.
    pub protocol: Protocol,
    /// External ports.
    pub ports: PortRange,
    /// The Service port of the range's first port (T5). A number is within 1..=65535.
    pub service_port: PortReference,
}

/// Judges all Mappings: each for itself, then the valid ones against each other (T19).
pub fn admit(cluster: &ClusterState, config: &GatewayConfig) -> Admission {
    let mut valid = Vec::with_capacity(cluster.mappings.len());
    let mut admission = Admission::default();
    for mapping in cluster.mappings.values() {
        match check(mapping, cluster.service(&mapping.service()), config) {
            Ok(admitted) => valid.push(admitted),
            Err(problems) => {
                admission.rejected.insert(mapping.key.clone(), Rejection::Invalid(problems));
            }
        }
    }
    conflict::settle(valid, &mut admission);
    admission
}

#[cfg(test)]
mod tests;
