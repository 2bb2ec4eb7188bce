//! Why a port waits, in sentences that name the Service, the port and the mend.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{ObjectKey, PortRange, PortReference, Protocol};

/// Why a port of a Mapping has no endpoint for new connections. No rejection: the other
/// ports work, and this one will when the cause is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Waiting {
    /// There is no such Service.
    NoService {
        /// The Service.
        service: ObjectKey,
    },
    /// The Service has no such port of this protocol.
    NoServicePort {
        /// The Service.
        service: ObjectKey,
        /// The protocol.
        protocol: Protocol,
        /// The wanted port.
        port: PortReference,
        /// Protocols in which the Service has that port.
        others: BTreeSet<Protocol>,
    },
    /// The Service has several such ports, which a proper API server refuses.
    AmbiguousPort {
        /// The Service.
        service: ObjectKey,
        /// The protocol.
        protocol: Protocol,
        /// The wanted port.
        port: PortReference,
    },
    /// The target port is so high that the range would end beyond 65535.
    RangeBeyondLastPort {
        /// The Service.
        service: ObjectKey,
        /// The protocol.
        protocol: Protocol,
        /// The exposed range.
        ports: PortRange,
        /// The target of its first port.
        target: u16,
    },
    /// The Service has usable endpoints, but none that lists this port.
    NoEndpointPort {
        /// The Service.
        service: ObjectKey,
        /// The protocol.
        protocol: Protocol,
        /// The wanted port.
        port: PortReference,
        /// The name by which endpoints must list it; may be empty.
        name: String,
    },
    /// No endpoint of a family in which the Mapping has an address takes connections.
    NoEndpoints {
        /// The Service.
        service: ObjectKey,
        /// The protocol.
        protocol: Protocol,
        /// The wanted port.
        port: PortReference,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoService { service } => {
                write!(f, "there is no Service {service}; create it or correct spec.serviceName")
            }
            Self::NoServicePort { service, protocol, port, others } => {
                write!(f, "Service {service} has no {protocol} port {port}; ")?;
                for other in others {
                    write!(f, "it has one for {other}: correct protocol; or ")?;
                }
                f.write_str("add it to the Service or correct servicePort")
            }
            Self::AmbiguousPort { service, protocol, port } => {
                write!(f, "Service {service} has several {protocol} ports {port}; keep one of them")
            }
            Self::RangeBeyondLastPort { service, protocol, ports, target } => write!(
                f,
                "{protocol}/{ports} starts at target port {target} of Service {service} and would \
                 end beyond 65535; shorten the range or lower the target port"
            ),
            Self::NoEndpointPort { service, protocol, port, name } => write!(
                f,
                "no endpoint of Service {service} lists {protocol} port {port}; give it there \
                 with the name {name:?} of the Service port and a number"
            ),
            Self::NoEndpoints { service, protocol, port } => write!(
                f,
                "Service {service} has no endpoint ready for {protocol} port {port} in a family \
                 of the Mapping's addresses; start a pod that its selector matches"
            ),
        }
    }
}
