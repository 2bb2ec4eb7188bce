//! Mappings as the contract sees them, read from the raw objects once more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::admit::{AdmittedMapping, AdmittedPort, admit};
use smartnat_core::model::{
    ClusterState, EndpointSlice, Family, GatewayConfig, HostState, ObjectKey, PortReference,
    Protocol, Service, ServiceEndpoint, SliceEndpoint, Timestamp,
};

use super::holder;

/// A Mapping that owns its external endpoints.
#[derive(Clone, Debug)]
pub(super) struct Exposed {
    pub(super) key: ObjectKey,
    pub(super) created: Option<Timestamp>,
    /// Its addresses on uplinks of this host, in the order of the specification.
    pub(super) local: Vec<IpAddr>,
    sources: Vec<IpNet>,
    pub(super) ports: Vec<ExposedPort>,
    pub(super) masquerade: bool,
    pub(super) egress: bool,
}

/// One port or range with the endpoints behind it.
#[derive(Clone, Debug)]
pub(super) struct ExposedPort {
    pub(super) protocol: Protocol,
    first: u16,
    last: u16,
    /// Those that new connections go to; the port is that of the range's first.
    active: Vec<ServiceEndpoint>,
    /// All that are listed.
    pub(super) listed: Vec<ServiceEndpoint>,
}

impl Exposed {
    pub(super) fn allows(&self, source: IpAddr) -> bool {
        self.sources.iter().any(|net| net.contains(&source))
    }
}

impl ExposedPort {
    pub(super) fn has(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    pub(super) fn endpoints_for(&self, port: u16, family: Family) -> BTreeSet<ServiceEndpoint> {
        self.active
            .iter()
            .filter(|e| Family::of(&e.address) == family)
            .map(|e| ServiceEndpoint { address: e.address, port: e.port + (port - self.first) })
            .collect()
    }
}

/// Who owns what is admission's verdict (T19), which has an oracle of its own; all else is
/// worked out anew.
pub(super) fn exposed(
    cluster: &ClusterState,
    host: &HostState,
    config: &GatewayConfig,
) -> Vec<Exposed> {
    admit(cluster, config)
        .accepted
        .values()
        .filter(|m| !m.deleting)
        .map(|mapping| {
            let local = mapping.addresses.iter().copied();
            Exposed {
                key: mapping.key.clone(),
                created: mapping.created,
                local: local.filter(|a| holder(host, config, *a).is_some()).collect(),
                sources: sources(cluster, mapping),
                ports: mapping.ports.iter().map(|p| port(cluster, mapping, p)).collect(),
                masquerade: mapping.masquerade,
                egress: mapping.egress,
            }
        })
        .collect()
}

/// From the specification's own words, neither merged nor sorted.
fn sources(cluster: &ClusterState, mapping: &AdmittedMapping) -> Vec<IpNet> {
    let written = &cluster.mappings[&mapping.key].spec.allowed_sources;
    let everyone = ["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let texts = if written.is_empty() { &everyone[..] } else { written };
    texts
        .iter()
        .filter_map(|text| {
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        })
        .map(|net| net.trunc())
        .collect()
}

fn port(cluster: &ClusterState, mapping: &AdmittedMapping, port: &AdmittedPort) -> ExposedPort {
    let mut found = ExposedPort {
        protocol: port.protocol,
        first: port.ports.first(),
        last: port.ports.last(),
        active: Vec::new(),
        listed: Vec::new(),
    };
    let Some(service) = cluster.services.get(&mapping.service) else { return found };
    let Some(name) = service_port_name(service, port) else { return found };
    let slices = cluster.slices.values().filter(|slice| {
        slice.key.namespace == service.key.namespace && slice.service_name == service.key.name
    });
    let slices: Vec<&EndpointSlice> = slices.collect();
    for family in Family::ALL {
        let of_family = slices.iter().filter(|s| s.family == family);
        let all: Vec<(ServiceEndpoint, Readiness)> =
            of_family.flat_map(|slice| endpoints(slice, service, port, name)).collect();
        // Of one endpoint in two slices the better word counts.
        let best = |endpoint: &ServiceEndpoint| {
            all.iter().filter(|(e, _)| e == endpoint).map(|(_, r)| *r).max()
        };
        let with = |wanted: Readiness| -> BTreeSet<ServiceEndpoint> {
            all.iter().map(|(e, _)| *e).filter(|e| best(e) == Some(wanted)).collect()
        };
        let ready = with(Readiness::Ready);
        found.active.extend(if ready.is_empty() { with(Readiness::Draining) } else { ready });
        found.listed.extend(all.iter().map(|(e, _)| *e));
    }
    found
}

fn service_port_name<'a>(service: &'a Service, port: &AdmittedPort) -> Option<&'a str> {
    service
        .ports
        .iter()
        .filter(|p| p.protocol == port.protocol)
        .find(|p| match &port.service_port {
            PortReference::Number(n) => i64::from(p.port) == *n,
            PortReference::Name(name) => p.name == *name,
        })
        .map(|p| p.name.as_str())
}

/// T8, T9: in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Listed,
    Draining,
    Ready,
}

fn readiness(endpoint: &SliceEndpoint, service: &Service) -> Readiness {
    if service.publish_not_ready || endpoint.ready {
        Readiness::Ready
    } else if endpoint.serving && endpoint.terminating {
        Readiness::Draining
    } else {
        Readiness::Listed
    }
}

fn endpoints(
    slice: &EndpointSlice,
    service: &Service,
    port: &AdmittedPort,
    name: &str,
) -> Vec<(ServiceEndpoint, Readiness)> {
    let span = port.ports.last() - port.ports.first();
    let targets = slice
        .ports
        .iter()
        .filter(|p| p.name == name && p.protocol == port.protocol)
        .filter_map(|p| p.port)
        .filter(|target| *target != 0 && target.checked_add(span).is_some());
    let targets: Vec<u16> = targets.collect();
    slice
        .endpoints
        .iter()
        .filter_map(|e| Some((*e.addresses.first()?, readiness(e, service))))
        .filter(|(address, _)| Family::of(address) == slice.family)
        .flat_map(|(address, ready)| {
            targets.iter().map(move |port| (ServiceEndpoint { address, port: *port }, ready))
        })
        .collect()
}
