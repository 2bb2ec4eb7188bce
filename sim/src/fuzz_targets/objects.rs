//! Cluster objects from choices. Few names, addresses and ports, so that they meet.

use std::net::IpAddr;

use smartnat_core::model::{
    ClusterObject, ClusterState, EndpointSlice, Family, Mapping, MappingPort, MappingSpec,
    ObjectKey, ObjectKind, PortReference, Protocol, Service, ServicePort, SliceEndpoint, SlicePort,
    Timestamp,
};

use super::choices::Choices;
use crate::scenario::slice_key;

/// Addresses of Mappings; the last two are on no uplink.
pub(super) const EXTERNAL: [&str; 7] = [
    "203.0.113.10",
    "198.51.100.10",
    "2001:db8:1::10",
    "203.0.113.11",
    "2001:db8:2::10",
    "192.0.2.77",
    "10.0.0.2",
];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const NAMESPACES: [&str; 4] = ["default", "default", "default", "other"];
const SOURCES: [&str; 8] = [
    "192.0.2.0/24",
    "0.0.0.0/0",
    "::/0",
    "192.0.2.5",
    "192.0.2.128/25",
    "2001:db8:c::/48",
    "0.0.0.0/1",
    "128.0.0.0/1",
];
const PORTS: [u16; 6] = [80, 81, 85, 5000, 1, 65535];
const PORT_NAMES: [&str; 3] = ["", "http", "dns"];
/// Addresses of endpoints; the last are the host's and an external one.
const ENDPOINTS: [&str; 8] = [
    "10.1.0.7",
    "10.1.0.8",
    "fd01::7",
    "10.1.0.9",
    "fd01::8",
    "10.0.0.2",
    "203.0.113.10",
    "127.0.0.1",
];

/// One change of the cluster: a Service with its endpoints comes or changes, or a Mapping does.
pub(super) fn change(c: &mut Choices<'_>) -> Vec<ClusterObject> {
    match c.below(8) {
        0..=2 => vec![mapping(c).into()],
        3..=4 => service_with_slices(c),
        5 => {
            let kinds = [ObjectKind::Mapping, ObjectKind::Service, ObjectKind::EndpointSlice];
            match c.pick(&kinds) {
                ObjectKind::EndpointSlice => {
                    let family = c.pick(&Family::ALL);
                    let slice = slice_key(&key(c), family);
                    vec![ClusterObject::Deleted(ObjectKind::EndpointSlice, slice)]
                }
                kind => vec![ClusterObject::Deleted(kind, key(c))],
            }
        }
        6 => {
            let (service, family) = (key(c), c.pick(&Family::ALL));
            let ports = slice_ports(c);
            vec![slice(c, &service, family, ports).into()]
        }
        _ => {
            let key = key(c);
            vec![service(c, key).into()]
        }
    }
}

/// The fold of some changes.
pub(super) fn cluster(c: &mut Choices<'_>, most: usize) -> ClusterState {
    let mut state = ClusterState::default();
    for _ in 0..c.below(most + 1) {
        for object in change(c) {
            state.update(object);
        }
    }
    state
}

/// All objects of a state.
pub(super) fn all(state: &ClusterState) -> Vec<ClusterObject> {
    let mappings = state.mappings.values().cloned().map(ClusterObject::Mapping);
    let services = state.services.values().cloned().map(ClusterObject::Service);
    let slices = state.slices.values().cloned().map(ClusterObject::EndpointSlice);
    mappings.chain(services).chain(slices).collect()
}

fn key(c: &mut Choices<'_>) -> ObjectKey {
    ObjectKey::new(c.pick(&NAMESPACES), c.pick(&NAMES))
}

/// A Mapping that is probably valid, with a Service of its own name most of the time.
pub(super) fn mapping(c: &mut Choices<'_>) -> Mapping {
    let key = key(c);
    let service_name = if c.rarely(8) { c.pick(&NAMES).into() } else { key.name.clone() };
    let mut addresses = vec![c.pick(&EXTERNAL).to_owned()];
    addresses.extend(c.some(&EXTERNAL, 2).into_iter().map(str::to_owned));
    Mapping {
        key,
        uid: String::new(),
        generation: 1,
        created: c.maybe(&[Timestamp(1000), Timestamp(2000)]),
        deleting: c.rarely(16),
        spec: MappingSpec {
            addresses,
            allowed_sources: c.some(&SOURCES, 3).into_iter().map(str::to_owned).collect(),
            service_name,
            mode: None,
            ports: (0..=c.below(3)).map(|_| mapping_port(c)).collect(),
            masquerade: c.maybe(&[false, true]),
            egress: c.maybe(&[true, false]),
        },
    }
}

fn mapping_port(c: &mut Choices<'_>) -> MappingPort {
    let port = i64::from(c.pick(&PORTS));
    MappingPort {
        port: Some(port),
        end_port: c.rarely(4).then(|| port + [5, 0, 1, 5000][c.below(4)]),
        protocol: c.maybe(&["udp", "TCP", "sctp"]).map(str::to_owned),
        service_port: match c.below(4) {
            0 | 1 => None,
            2 => Some(PortReference::Number(c.pick(&PORTS).into())),
            _ => Some(PortReference::Name(c.pick(&PORT_NAMES).into())),
        },
    }
}

/// A Mapping with anything in it that a cluster or a file can hold.
pub(super) fn wild_mapping(c: &mut Choices<'_>) -> Mapping {
    let mut mapping = mapping(c);
    let spec = &mut mapping.spec;
    match c.below(8) {
        0 => spec.addresses.push(c.text()),
        1 => spec.allowed_sources.push(c.text()),
        2 => spec.service_name = c.text().into(),
        3 => spec.mode = Some(c.text()),
        4 => spec.ports.push(wild_port(c)),
        5 => {
            mapping.key = ObjectKey::new(c.text(), c.text());
            mapping.generation = c.number();
        }
        6 => spec.ports = (0..c.below(60)).map(|_| wild_port(c)).collect(),
        _ => spec.addresses = (0..c.below(4)).map(|_| c.text()).collect(),
    }
    mapping
}

fn wild_port(c: &mut Choices<'_>) -> MappingPort {
    let number = |c: &mut Choices<'_>| match c.below(4) {
        0 => c.number(),
        _ => c.pick(&PORTS).into(),
    };
    MappingPort {
        port: c.flag().then(|| number(c)),
        end_port: c.flag().then(|| number(c)),
        protocol: c.flag().then(|| c.text()),
        service_port: match c.below(3) {
            0 => None,
            1 => Some(PortReference::Number(number(c))),
            _ => Some(PortReference::Name(c.text())),
        },
    }
}

fn service(c: &mut Choices<'_>, key: ObjectKey) -> Service {
    let ports = slice_ports(c);
    Service {
        key,
        external_name: c.rarely(16),
        cluster_ips: Vec::new(),
        ports: ports
            .into_iter()
            .map(|port| ServicePort {
                name: port.name,
                protocol: port.protocol,
                port: c.pick(&PORTS),
            })
            .collect(),
        publish_not_ready: c.rarely(8),
        affinity_seconds: c.maybe(&[60, 1, 86_400]),
    }
}

/// A Service whose slices have its ports.
fn service_with_slices(c: &mut Choices<'_>) -> Vec<ClusterObject> {
    let key = key(c);
    let service = service(c, key);
    let ports: Vec<SlicePort> = service
        .ports
        .iter()
        .map(|port| SlicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: Some(port.port.saturating_add(8000)),
        })
        .collect();
    let slices = Family::ALL.map(|f| {
        let slice = slice(c, &service.key, f, ports.clone());
        ClusterObject::from(slice)
    });
    [vec![service.into()], slices.to_vec()].concat()
}

fn slice_ports(c: &mut Choices<'_>) -> Vec<SlicePort> {
    let port = |c: &mut Choices<'_>| SlicePort {
        name: c.pick(&PORT_NAMES).into(),
        protocol: c.pick(&Protocol::ALL),
        port: (!c.rarely(8)).then(|| c.pick(&PORTS)),
    };
    (0..=c.below(3)).map(|_| port(c)).collect()
}

/// A slice of a family; now and then with an address of the other one.
fn slice(
    c: &mut Choices<'_>,
    service: &ObjectKey,
    family: Family,
    ports: Vec<SlicePort>,
) -> EndpointSlice {
    let addresses: Vec<IpAddr> = ENDPOINTS.iter().filter_map(|text| text.parse().ok()).collect();
    let of_family: Vec<IpAddr> =
        addresses.iter().copied().filter(|a| Family::of(a) == family).collect();
    let endpoint = |c: &mut Choices<'_>| {
        let address = if c.rarely(16) { c.pick(&addresses) } else { c.pick(&of_family) };
        let state = c.below(8);
        SliceEndpoint {
            addresses: vec![address],
            ready: state != 1 && state != 2,
            serving: state != 1,
            terminating: state == 2 || state == 3,
        }
    };
    EndpointSlice {
        key: slice_key(service, family),
        service_name: service.name.clone(),
        family,
        ports,
        endpoints: (0..c.below(4)).map(|_| endpoint(c)).collect(),
    }
}
