//! Decisions of the core, table by table: compile, lint, diff, connections.

mod compile;
mod compile_uplinks;
mod diff;
mod flows;
mod lint;
mod serial;

use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::compile::{Compiled, UplinkNumbers, compile, sysctl_scope};
use smartnat_core::dataplane::Dataplane;
use smartnat_core::model::{
    ClusterObject, ClusterState, Family, GatewayConfig, HostRoute, HostState, InterfaceAddress,
    Link,
};
use smartnat_core::objects::{KernelState, SysctlKey, SysctlState};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a test's address parses")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a test's network parses")
}

fn config() -> GatewayConfig {
    GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() }
}

/// A host with these links and addresses; `fe80::/10` and `169.254.0.0/16` are link-local.
fn host_of(links: &[(&str, &[&str])]) -> HostState {
    let link = |(index, (name, addresses)): (u32, &(&str, &[&str]))| {
        let addresses = addresses.iter().map(|text| InterfaceAddress {
            address: net(text),
            link_local: text.starts_with("fe80:") || text.starts_with("169.254."),
        });
        ((*name).to_owned(), Link { index, up: true, addresses: addresses.collect() })
    };
    HostState {
        links: (1..).zip(links).map(link).collect(),
        routes: Vec::new(),
        families: Family::ALL.to_vec(),
    }
}

/// Two uplinks of both families and a cluster side with the default route.
fn host() -> HostState {
    let mut host = host_of(&[
        ("lo", &[]),
        ("ext1", &["203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64", "fe80::1/64"]),
        ("ext2", &["198.51.100.10/24"]),
        ("int0", &["10.0.0.2/24", "fd00::2/64"]),
    ]);
    host.routes = vec![route("0.0.0.0/0", Some("10.0.0.1"), "int0")];
    host
}

fn route(destination: &str, gateway: Option<&str>, interface: &str) -> HostRoute {
    HostRoute {
        destination: net(destination),
        gateway: gateway.map(ip),
        interface: interface.into(),
        metric: 0,
    }
}

/// A kernel without anything of ours, whose sysctls all are `value`.
fn observed(host: &HostState, config: &GatewayConfig, value: &str) -> KernelState {
    let states = sysctl_scope(host, config)
        .into_iter()
        .map(|key| (key, SysctlState { value: value.into(), original: None }));
    KernelState { sysctls: states.collect(), ..KernelState::default() }
}

fn cluster(objects: impl IntoIterator<Item = ClusterObject>) -> ClusterState {
    let mut state = ClusterState::default();
    objects.into_iter().for_each(|object| state.update(object));
    state
}

/// Everything by default on [`host`].
fn compiled(objects: impl IntoIterator<Item = ClusterObject>) -> Compiled {
    compiled_on(&host(), &config(), objects)
}

fn compiled_on(
    host: &HostState,
    config: &GatewayConfig,
    objects: impl IntoIterator<Item = ClusterObject>,
) -> Compiled {
    let observed = observed(host, config, "0");
    compile(&cluster(objects), host, config, &UplinkNumbers::new(), &observed)
}

fn dataplane(objects: impl IntoIterator<Item = ClusterObject>) -> Dataplane {
    compiled(objects).dataplane
}

fn forwarding(family: Family) -> SysctlKey {
    SysctlKey::Forwarding(family)
}
