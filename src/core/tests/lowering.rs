//! Goldens: what a snapshot becomes in the kernel, as `iptables-save`, `nft` and `ip` would print
//! it.

use std::fmt::Write as _;

use smartnat_core::compile::{UplinkNumbers, compile, sysctl_scope};
use smartnat_core::diff::diff;
use smartnat_core::lint::lint;
use smartnat_core::lower::{DesiredObjects, lower};
use smartnat_core::model::{
    Backend, ClusterObject, ClusterState, Family, GatewayConfig, HostState, InterfaceAddress, Link,
    Protocol,
};
use smartnat_core::nft_text::render_table;
use smartnat_core::objects::{KernelState, SysctlState};
use smartnat_core::xtables_text::{canonical, render_rule};
use smartnat_sim::scenario::{mapping, service};

fn host() -> HostState {
    let link = |index, addresses: &[&str]| Link {
        index,
        up: true,
        addresses: addresses
            .iter()
            .map(|a| InterfaceAddress { address: a.parse().unwrap(), link_local: false })
            .collect(),
    };
    HostState {
        links: [
            ("lo".into(), link(1, &[])),
            ("eth0".into(), link(2, &["10.244.1.1/24", "fd00:244:1::1/64"])),
            (
                "ext1".into(),
                link(3, &["198.51.100.10/24", "198.51.100.11/24", "2001:db8:51::10/64"]),
            ),
            ("ext2".into(), link(4, &["203.0.113.10/24"])),
        ]
        .into(),
        routes: Vec::new(),
        families: Family::ALL.to_vec(),
    }
}

fn objects_of(cluster: Vec<ClusterObject>) -> DesiredObjects {
    let objects = lowered(cluster, Backend::Iptables);
    // Otherwise the kernel gives back another form, and the diff would never be empty.
    for rule in objects.xtables.values().flat_map(|t| t.chains.values()).flatten() {
        assert_eq!(canonical(rule), *rule);
    }
    objects
}

fn lowered(cluster: Vec<ClusterObject>, backend: Backend) -> DesiredObjects {
    let mut state = ClusterState::default();
    for object in cluster {
        state.update(object);
    }
    let config = GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
    let host = host();
    let observed = KernelState {
        sysctls: sysctl_scope(&host, &config)
            .into_iter()
            .map(|key| (key, SysctlState { value: "0".into(), original: None }))
            .collect(),
        ..KernelState::default()
    };
    let compiled = compile(&state, &host, &config, &UplinkNumbers::new(), &observed);
    assert!(lint(&compiled.dataplane).is_empty());
    lower(&compiled.dataplane, backend)
}

/// Readable text of all objects of one family.
fn print(objects: &DesiredObjects, family: Family) -> String {
    let mut text = String::new();
    for (id, table) in objects.xtables.iter().filter(|(id, _)| id.family == family) {
        writeln!(text, "*{}", id.table.name()).unwrap();
        for (hook, rules) in &table.jumps {
            for rule in rules {
                writeln!(text, "-A {} {}", hook.name(), render_rule(family, rule)).unwrap();
            }
        }
        for (chain, rules) in &table.chains {
            writeln!(text, ":{chain}").unwrap();
            for rule in rules {
                writeln!(text, "-A {chain} {}", render_rule(family, rule)).unwrap();
            }
        }
    }
    for (name, set) in objects.sets.iter().filter(|(_, s)| s.spec.family == family) {
        let elements: Vec<String> = set.elements.iter().map(ToString::to_string).collect();
        let timeout = set.spec.timeout.map(|t| format!(" timeout {t}")).unwrap_or_default();
        writeln!(
            text,
            "set {name} {}{timeout} [{}]",
            set.spec.kind.type_name(),
            elements.join(" ")
        )
        .unwrap();
    }
    for rule in objects.rules.iter().filter(|r| r.family == family) {
        writeln!(text, "rule {rule:?}").unwrap();
    }
    for route in objects.routes.iter().filter(|r| r.family() == family) {
        writeln!(text, "route {route:?}").unwrap();
    }
    if family == Family::V4 {
        for (key, value) in &objects.sysctls {
            writeln!(text, "sysctl {key} = {value}").unwrap();
        }
    }
    text
}

/// Everything that a Mapping can say, on one address.
fn rich() -> Vec<ClusterObject> {
    let echo = service("echo")
        .port("http", Protocol::Tcp, 80, 8080)
        .port("dns", Protocol::Udp, 53, 5353)
        .port("media", Protocol::Udp, 6000, 7000)
        .ready("10.244.1.11")
        .ready("10.244.1.12")
        .draining("10.244.1.13")
        .ready("fd00:244:1::11");
    let sticky = service("sticky")
        .port("", Protocol::Tcp, 443, 443)
        .affinity(600)
        .ready("10.244.1.11")
        .ready("10.244.1.12");
    [
        echo.build(),
        sticky.build(),
        vec![
            mapping("echo")
                .address("198.51.100.10")
                .address("2001:db8:51::10")
                .source("192.0.2.0/24")
                .source("2001:db8:2::/64")
                .port(Protocol::Tcp, 8080, None, Some("http"))
                .port(Protocol::Udp, 53, None, Some("dns"))
                .port(Protocol::Udp, 6000, Some(6010), None)
                .port(Protocol::Tcp, 9999, None, None)
                .masquerade(false)
                .egress(true)
                .build(),
            mapping("sticky").address("203.0.113.10").tcp(443).build(),
        ],
    ]
    .concat()
}

#[test]
fn everything_that_a_mapping_can_say_ipv4() {
    insta::assert_snapshot!(print(&objects_of(rich()), Family::V4));
}

#[test]
fn everything_that_a_mapping_can_say_ipv6() {
    insta::assert_snapshot!(print(&objects_of(rich()), Family::V6));
}

#[test]
fn without_mappings_the_guard_stands() {
    insta::assert_snapshot!(print(&objects_of(Vec::new()), Family::V4));
}

/// As `nft list table` would print it.
fn nft_table(cluster: Vec<ClusterObject>) -> String {
    render_table(&lowered(cluster, Backend::Nftables).nft.expect("a table"))
}

#[test]
fn everything_that_a_mapping_can_say_in_nftables() {
    insta::assert_snapshot!(nft_table(rich()));
}

#[test]
fn without_mappings_the_guard_stands_in_nftables() {
    insta::assert_snapshot!(nft_table(Vec::new()));
}

#[test]
fn the_order_of_a_cold_start() {
    let observed = KernelState {
        sysctls: objects_of(rich())
            .sysctls
            .into_keys()
            .map(|key| (key, SysctlState { value: "0".into(), original: None }))
            .collect(),
        ..KernelState::default()
    };
    let plan: Vec<String> = diff(&objects_of(rich()), &observed)
        .iter()
        .map(|t| {
            let ops: Vec<String> = t.ops.iter().map(|op| op.describe(t.domain)).collect();
            format!("{:?}\n  {}", t.domain, ops.join("\n  "))
        })
        .collect();
    insta::assert_snapshot!(plan.join("\n"));
}
