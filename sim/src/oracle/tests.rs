//! The oracle's words on the cases that everybody agrees on.

use smartnat_core::model::{
    ClusterState, Family, GatewayConfig, HostState, InterfaceAddress, Link, Protocol, Snapshot,
};

use super::{Expectation, Origin, Probe, ProbeKind, expect};
use crate::scenario::{mapping, service};

fn snapshot() -> Snapshot {
    let link = |addresses: &[&str]| Link {
        index: 1,
        up: true,
        addresses: addresses
            .iter()
            .map(|a| InterfaceAddress { address: a.parse().unwrap(), link_local: false })
            .collect(),
    };
    let mut cluster = ClusterState::default();
    let objects = service("echo")
        .port("http", Protocol::Tcp, 80, 8080)
        .ready("10.244.1.11")
        .draining("10.244.1.12")
        .build();
    for object in objects {
        cluster.update(object);
    }
    let echo = mapping("echo").address("198.51.100.10").source("192.0.2.0/24").egress(true);
    cluster.update(echo.port(Protocol::Tcp, 80, Some(82), None).tcp(443).build());
    Snapshot {
        cluster,
        host: HostState {
            links: [
                ("eth0".to_owned(), link(&["10.244.1.1/24"])),
                ("ext1".to_owned(), link(&["198.51.100.10/24"])),
            ]
            .into(),
            routes: Vec::new(),
            families: vec![Family::V4],
        },
        config: GatewayConfig { uplink_pattern: "ext1".into(), ..GatewayConfig::default() },
    }
}

fn ask(origin: &str, source: &str, destination: &str, port: u16) -> Expectation {
    let probe = Probe {
        origin: Origin::Interface(origin.into()),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        kind: ProbeKind::Transport { protocol: Protocol::Tcp, port },
    };
    expect(&snapshot(), &probe, true)
}

#[test]
fn an_allowed_client_goes_to_the_ready_endpoint_with_the_ports_offset() {
    let Expectation::Translated { endpoints, masqueraded, reply_uplink, .. } =
        ask("ext1", "192.0.2.10", "198.51.100.10", 82)
    else {
        panic!("translated")
    };
    let texts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.244.1.11:8082"]);
    assert!(masqueraded);
    assert_eq!(reply_uplink.as_deref(), Some("ext1"));
}

#[test]
fn others_are_refused_dropped_or_told_that_nobody_is_home() {
    let refused = ask("ext1", "192.0.3.10", "198.51.100.10", 80);
    assert!(matches!(refused, Expectation::Refused { .. }));
    let nobody = ask("ext1", "192.0.2.10", "198.51.100.10", 443);
    assert!(matches!(nobody, Expectation::NobodyHome { .. }));
    assert_eq!(ask("ext1", "192.0.2.10", "198.51.100.10", 22), Expectation::Dropped);
    assert_eq!(ask("ext1", "192.0.2.10", "10.244.1.11", 8080), Expectation::Dropped);
    assert_eq!(ask("eth0", "10.244.1.50", "10.244.1.1", 22), Expectation::Host);
}

#[test]
fn a_listed_pod_leaves_with_the_mappings_address() {
    let leaves = ask("eth0", "10.244.1.12", "9.9.9.9", 443);
    let expected =
        Expectation::Egress { address: "198.51.100.10".parse().unwrap(), uplink: "ext1".into() };
    assert_eq!(leaves, expected);
    assert_eq!(ask("eth0", "10.244.1.50", "9.9.9.9", 443), Expectation::Dropped);
}
