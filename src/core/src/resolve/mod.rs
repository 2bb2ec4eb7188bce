//! Which endpoints stand behind a Mapping's port (T5, T8, T9).

mod index;
mod listing;
mod waiting;

pub use index::ServiceIndex;
pub use waiting::Waiting;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::admit::{AdmittedMapping, AdmittedPort};
use crate::model::{Family, PortReference, Service, ServiceEndpoint, ServicePort};

use listing::Listing;

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
    #[serde(with = "crate::objects::pairs")]
    pub listed: LiteMap<ServiceEndpoint, Keeps>,
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
    index: &ServiceIndex<'_>,
    mapping: &AdmittedMapping,
    port: &AdmittedPort,
) -> ResolvedPort {
    let (service, service_port) = match find_port(index, mapping, port) {
        Ok(found) => found,
        Err(waiting) => return ResolvedPort { waiting: Some(waiting), ..Default::default() },
    };
    let slices = index.slices(&service.key);
    let [ipv4, ipv6] = Family::ALL
        .map(|family| Listing::collect(family, service, slices, service_port, port.ports));
    let families = FamilyEndpoints { ipv4: ipv4.endpoints(), ipv6: ipv6.endpoints() };
    let wanted: Vec<_> = [(Family::V4, &ipv4), (Family::V6, &ipv6)]
        .into_iter()
        .filter(|(family, _)| mapping.addresses.iter().any(|a| Family::of(a) == *family))
        .collect();
    let served = wanted.iter().any(|(family, _)| !families.of(*family).active.is_empty());
    let waiting = (!served).then(|| {
        let listings: Vec<_> = wanted.iter().map(|(_, listing)| *listing).collect();
        Listing::why_none(&listings, mapping, port, service_port)
    });
    ResolvedPort { affinity_seconds: service.affinity_seconds, families, waiting }
}

/// The Service port that `port` refers to; it has the protocol of the external port (T5).
fn find_port<'a>(
    index: &ServiceIndex<'a>,
    mapping: &AdmittedMapping,
    port: &AdmittedPort,
) -> Result<(&'a Service, &'a ServicePort), Waiting> {
    let service = index
        .service(&mapping.service)
        .ok_or_else(|| Waiting::NoService { service: mapping.service.clone() })?;
    let referred: Vec<_> = service
        .ports
        .iter()
        .filter(|candidate| match &port.service_port {
            PortReference::Number(number) => i64::from(candidate.port) == *number,
            PortReference::Name(name) => candidate.name == *name,
        })
        .collect();
    let mut matching = referred.iter().filter(|p| p.protocol == port.protocol);
    let wanted = (mapping.service.clone(), port.protocol, port.service_port.clone());
    match (matching.next(), matching.next()) {
        (Some(found), None) => Ok((service, found)),
        (Some(_), Some(_)) => {
            let (service, protocol, port) = wanted;
            Err(Waiting::AmbiguousPort { service, protocol, port })
        }
        (None, _) => {
            let (service, protocol, port) = wanted;
            let others = referred.iter().map(|p| p.protocol).collect();
            Err(Waiting::NoServicePort { service, protocol, port, others })
        }
    }
}

#[cfg(test)]
mod tests;
