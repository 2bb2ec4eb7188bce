use std::collections::BTreeMap;

use super::*;
use crate::model::{
    ClusterObject, EndpointSlice, Family, HostRoute, InterfaceAddress, Link, Mapping, MappingPort,
    MappingSpec, ObjectKey, PortReference, Protocol, Service, ServicePort, SliceEndpoint,
    SlicePort,
};

mod foreign;
mod ways;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn link(index: u32, addresses: &[&str]) -> Link {
    let addresses = addresses
        .iter()
        .map(|a| InterfaceAddress { address: a.parse().unwrap(), link_local: false })
        .collect();
    Link { index, up: true, addresses }
}

fn route(destination: &str, gateway: Option<&str>, interface: &str) -> HostRoute {
    HostRoute {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|g| g.parse().unwrap()),
        interface: interface.into(),
        metric: 0,
    }
}

/// Uplinks `ext1` and `ext2`, pods behind `eth0`.
fn host() -> HostState {
    HostState {
        links: BTreeMap::from([
            ("ext1".into(), link(2, &["203.0.113.10/24", "2001:db8:1::10/64"])),
            ("ext2".into(), link(3, &["198.51.100.10/24"])),
            ("eth0".into(), link(4, &["10.0.0.2/24"])),
        ]),
        routes: vec![
            route("203.0.113.0/24", None, "ext1"),
            route("2001:db8:1::/64", None, "ext1"),
            route("198.51.100.0/24", None, "ext2"),
            route("10.0.0.0/24", None, "eth0"),
            route("0.0.0.0/0", Some("10.0.0.1"), "eth0"),
        ],
        families: Family::ALL.to_vec(),
    }
}

fn echo() -> Vec<ClusterObject> {
    let endpoint = |address: &str, ready| SliceEndpoint {
        addresses: vec![address.parse().unwrap()],
        ready,
        serving: ready,
        terminating: false,
    };
    vec![
        ClusterObject::from(Service {
            key: key("echo"),
            external_name: false,
            cluster_ips: Vec::new(),
            ports: vec![ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }],
            publish_not_ready: false,
            affinity_seconds: None,
        }),
        ClusterObject::from(EndpointSlice {
            key: key("echo-1"),
            service_name: "echo".into(),
            family: Family::V4,
            ports: vec![SlicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: Some(8080),
            }],
            endpoints: vec![endpoint("10.1.0.7", true), endpoint("10.1.0.8", false)],
        }),
    ]
}

/// TCP 80 to 84 of these addresses to `echo`.
fn mapping(name: &str, addresses: &[&str]) -> Mapping {
    Mapping {
        key: key(name),
        uid: String::new(),
        generation: 1,
        created: None,
        deleting: false,
        spec: MappingSpec {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            service_name: "echo".into(),
            ports: vec![MappingPort {
                port: Some(80),
                end_port: Some(84),
                service_port: Some(PortReference::Name("http".into())),
                ..Default::default()
            }],
            ..Default::default()
        },
    }
}

fn scene(mappings: impl IntoIterator<Item = Mapping>) -> Scene {
    let mut cluster = ClusterState::default();
    let mappings = mappings.into_iter().map(ClusterObject::from);
    echo().into_iter().chain(mappings).for_each(|object| cluster.update(object));
    let config = GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
    Scene { cluster, host: host(), config, ..Scene::default() }
}

fn question(source: &str, destination: &str, port: u16) -> Question {
    Question {
        source: source.parse().unwrap(),
        source_port: Some(40_000),
        destination: destination.parse().unwrap(),
        port,
        protocol: Protocol::Tcp,
        origin: None,
    }
}

fn ask(scene: &Scene, source: &str, destination: &str, port: u16) -> Explanation {
    explain(scene, &question(source, destination, port))
}
