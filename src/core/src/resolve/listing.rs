//! The endpoints that the slices of a Service list for one of its ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::admit::{AdmittedMapping, AdmittedPort, is_routable};
use crate::model::{
    EndpointSlice, Family, PortRange, Service, ServiceEndpoint, ServicePort, SliceEndpoint,
};
use crate::packed::flat_map;

use super::{EndpointSet, Keeps, Waiting};

/// What an endpoint takes, the most available last (T8, T9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Availability {
    /// It does not serve.
    Down,
    /// It serves what it has.
    Serving,
    /// It goes, but serves: new connections when no ready one is left.
    Draining,
    /// It takes new connections.
    Ready,
}

/// The usable endpoints of one Service port in one family, each once.
#[derive(Debug, Default)]
pub(super) struct Listing {
    endpoints: BTreeMap<ServiceEndpoint, Availability>,
    /// The Service has an endpoint of this family, whatever its ports.
    any_address: bool,
    /// The lowest target port from which the range would end beyond 65535.
    beyond: Option<u16>,
}

impl Listing {
    /// Reads `slices`. The port of an endpoint is the target of the first of `ports` (T5).
    pub(super) fn collect(
        family: Family,
        service: &Service,
        slices: &[&EndpointSlice],
        service_port: &ServicePort,
        ports: PortRange,
    ) -> Self {
        let mut listing = Self::default();
        for slice in slices {
            for endpoint in &slice.endpoints {
                // The addresses of one endpoint are fungible.
                let Some(address) = endpoint.addresses.first().copied() else { continue };
                if Family::of(&address) != family || !is_routable(address) {
                    continue;
                }
                listing.any_address = true;
                let availability = availability(service, endpoint);
                for target in targets(slice, service_port) {
                    listing.add(address, target, ports, availability);
                }
            }
        }
        listing
    }

    fn add(&mut self, address: IpAddr, target: u16, ports: PortRange, availability: Availability) {
        if u32::from(target) + ports.count() > 65_536 {
            self.beyond = Some(self.beyond.map_or(target, |lowest| lowest.min(target)));
            return;
        }
        // Two slices may list it while it moves from one to the other.
        self.endpoints
            .entry(ServiceEndpoint { address, port: target })
            .and_modify(|known| *known = availability.max(*known))
            .or_insert(availability);
    }

    /// What the listed endpoints take.
    pub(super) fn endpoints(&self) -> EndpointSet {
        let in_state = |state| -> Vec<_> {
            self.endpoints.iter().filter(|(_, a)| **a == state).map(|(e, _)| *e).collect()
        };
        let mut active = in_state(Availability::Ready);
        if active.is_empty() {
            active = in_state(Availability::Draining);
        }
        active.shrink_to_fit();
        let keeps = |availability| match availability {
            Availability::Down => Keeps::TcpOnly,
            _ => Keeps::All,
        };
        EndpointSet {
            active,
            listed: flat_map(self.endpoints.iter().map(|(e, a)| (*e, keeps(*a)))),
        }
    }

    /// Why none of `listings` has an active endpoint.
    pub(super) fn why_none(
        listings: &[&Self],
        mapping: &AdmittedMapping,
        port: &AdmittedPort,
        service_port: &ServicePort,
    ) -> Waiting {
        let service = mapping.service.clone();
        let protocol = port.protocol;
        if let Some(target) = listings.iter().filter_map(|l| l.beyond).min() {
            return Waiting::RangeBeyondLastPort { service, protocol, ports: port.ports, target };
        }
        let port = port.service_port.clone();
        let any_address = listings.iter().any(|l| l.any_address);
        if any_address && listings.iter().all(|l| l.endpoints.is_empty()) {
            let name = service_port.name.clone();
            return Waiting::NoEndpointPort { service, protocol, port, name };
        }
        Waiting::NoEndpoints { service, protocol, port }
    }
}

/// Numbers by which `slice` lists `service_port`; without a number it means all ports, which
/// cannot be a target.
fn targets(slice: &EndpointSlice, service_port: &ServicePort) -> impl Iterator<Item = u16> {
    slice
        .ports
        .iter()
        .filter(|p| p.name == service_port.name && p.protocol == service_port.protocol)
        .filter_map(|p| p.port)
        .filter(|port| *port != 0)
}

/// `publishNotReadyAddresses` asks to disregard every sign that an endpoint is not ready.
fn availability(service: &Service, endpoint: &SliceEndpoint) -> Availability {
    if endpoint.ready || service.publish_not_ready {
        Availability::Ready
    } else if endpoint.serving && endpoint.terminating {
        Availability::Draining
    } else if endpoint.serving {
        Availability::Serving
    } else {
        Availability::Down
    }
}
