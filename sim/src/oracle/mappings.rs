//! Owned Mappings with the endpoints behind them, read from the raw objects once more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::{
    ClusterState, EndpointSlice, Family, GatewayConfig, ObjectKey, PortReference, Protocol,
    Service, ServiceEndpoint, SliceEndpoint, Timestamp,
};

use super::claims::{Claim, ClaimedPort, owners};

/// A Mapping that owns its external endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExposedPort {
    pub(super) protocol: Protocol,
    first: u16,
    last: u16,
    /// Those that new connections go to; the port is that of the range's first.
    active: Vec<ServiceEndpoint>,
    /// All that are listed.
    listed: Vec<(ServiceEndpoint, Readiness)>,
    /// Seconds that a client stays with its endpoint.
    affinity: Option<u32>,
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

    pub(super) fn lists(&self, pod: IpAddr) -> bool {
        self.listed.iter().any(|(endpoint, _)| endpoint.address == pod)
    }

    /// T9: whether a connection to `port` that was opened to `endpoint` lives on.
    pub(super) fn keeps(&self, port: u16, endpoint: ServiceEndpoint) -> bool {
        self.listed.iter().any(|(listed, readiness)| {
            let target = (listed.address, u32::from(listed.port) + u32::from(port - self.first));
            let lives = self.protocol == Protocol::Tcp || *readiness > Readiness::Listed;
            target == (endpoint.address, endpoint.port.into()) && lives
        })
    }

    pub(super) fn endpoints_for(&self, port: u16, family: Family) -> BTreeSet<ServiceEndpoint> {
        self.active
            .iter()
            .filter(|e| Family::of(&e.address) == family)
            .map(|e| ServiceEndpoint { address: e.address, port: e.port + (port - self.first) })
            .collect()
    }
}

/// `local`: whether an address is on an uplink of this host.
pub(super) fn exposed(
    cluster: &ClusterState,
    config: &GatewayConfig,
    local: impl Fn(IpAddr) -> bool,
) -> Vec<Exposed> {
    owners(cluster, config)
        .into_iter()
        .filter(|claim| !claim.deleting)
        .map(|claim| Exposed {
            local: claim.addresses.iter().copied().filter(|a| local(*a)).collect(),
            ports: claim.ports.iter().map(|p| port(cluster, &claim, p)).collect(),
            key: claim.key,
            created: claim.created,
            sources: claim.sources,
            masquerade: claim.masquerade,
            egress: claim.egress,
        })
        .collect()
}

fn port(cluster: &ClusterState, claim: &Claim, port: &ClaimedPort) -> ExposedPort {
    let mut found = ExposedPort {
        protocol: port.protocol,
        first: port.first,
        last: port.last,
        active: Vec::new(),
        listed: Vec::new(),
        affinity: None,
    };
    let Some(service) = cluster.services.get(&claim.service) else { return found };
    let Some(name) = service_port_name(service, port) else { return found };
    found.affinity = service.affinity_seconds;
    let slices = cluster.slices.values().filter(|slice| {
        slice.key.namespace == service.key.namespace && slice.service_name == service.key.name
    });
    let slices: Vec<&EndpointSlice> = slices.map(|slice| &**slice).collect();
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
        found.listed.extend(all);
    }
    found
}

fn service_port_name<'a>(service: &'a Service, port: &ClaimedPort) -> Option<&'a str> {
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
    Serving,
    Draining,
    Ready,
}

fn readiness(endpoint: &SliceEndpoint, service: &Service) -> Readiness {
    if service.publish_not_ready || endpoint.ready {
        Readiness::Ready
    } else if endpoint.serving && endpoint.terminating {
        Readiness::Draining
    } else if endpoint.serving {
        Readiness::Serving
    } else {
        Readiness::Listed
    }
}

fn endpoints(
    slice: &EndpointSlice,
    service: &Service,
    port: &ClaimedPort,
    name: &str,
) -> Vec<(ServiceEndpoint, Readiness)> {
    let span = port.last - port.first;
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
