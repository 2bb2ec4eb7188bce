use smartnat_core::gateway::EventKind;
use smartnat_core::model::{ClusterObject, Family, GatewayConfig, Protocol};
use smartnat_core::objects::{
    KernelState, ObservationScope, RoutingRule, RuleAction, SysctlKey, XtRule, XtTable, XtTableId,
    XtTarget,
};
use smartnat_core::ops::{Kernel, OpErrorClass};

use super::*;
use crate::kernel::XtFlavour;
use crate::scenario;

fn config() -> GatewayConfig {
    GatewayConfig {
        uplink_pattern: "ext[0-9]+".into(),
        table_base: 7000,
        rule_priority: 20_000,
        ..GatewayConfig::default()
    }
}

/// Two uplinks of both families, a cluster side with the default route, things of others.
fn kernel(flavour: XtFlavour) -> SimKernel {
    let mut kernel = SimKernel::new(flavour);
    for (name, addresses) in [
        ("ext1", ["203.0.113.10/24", "2001:db8:1::10/64"]),
        ("ext2", ["198.51.100.10/24", "2001:db8:2::10/64"]),
        ("int0", ["10.0.0.2/24", "fd00::2/64"]),
    ] {
        kernel.add_link(name);
        for address in addresses {
            kernel.add_address(name, address);
        }
    }
    kernel.add_host_route("0.0.0.0/0", Some("10.0.0.1"), "int0");
    kernel.add_host_route("::/0", Some("fd00::1"), "int0");
    kernel.foreign_rule(
        RoutingRule {
            family: Family::V4,
            priority: 100,
            in_interface: None,
            mark: None,
            destination: None,
            action: RuleAction::Lookup { table: 100, suppress_prefix: None },
        },
        4,
    );
    kernel
}

fn objects() -> Vec<ClusterObject> {
    let mut objects = scenario::service("echo")
        .port("", Protocol::Tcp, 8080, 80)
        .ready("10.1.0.7")
        .ready("10.1.0.8")
        .ready("fd01::7")
        .build();
    objects.push(
        scenario::mapping("echo")
            .service("echo")
            .address("203.0.113.10")
            .address("2001:db8:1::10")
            .source("192.0.2.0/24")
            .tcp(8080)
            .build(),
    );
    objects
}

fn held(driver: &mut Driver) -> KernelState {
    let scope = ObservationScope {
        table_base: 7000,
        table_count: 1000,
        rule_priority: 20_000,
        ..ObservationScope::default()
    };
    driver.kernel.observe(&scope).expect("no fault is injected")
}

fn started() -> Driver {
    let mut driver = Driver::new(config(), kernel(XtFlavour::Nft));
    driver.start(objects());
    driver
}

#[test]
fn a_gateway_gets_in_sync_and_stays_quiet() {
    let mut driver = started();
    let status = driver.status().expect("a status").clone();
    assert!(status.in_sync, "{status:?}\n{:#?}", driver.kernel.log());
    assert!(!held(&mut driver).xtables.is_empty());
    let ops = driver.kernel.applied_ops();
    driver.advance(60_000);
    driver.restart(config(), objects());
    assert_eq!(driver.kernel.applied_ops(), ops, "T15: an unchanged restart applies nothing");
    assert!(driver.kernel.trespasses().is_empty(), "{:?}", driver.kernel.trespasses());
}

#[test]
fn clean_up_leaves_what_was_there() {
    for kernel in [kernel(XtFlavour::Nft), kernel(XtFlavour::Legacy)] {
        let mut driver = Driver::new(config(), kernel.clone());
        driver.start(objects());
        assert_ne!(held(&mut driver), KernelState::default());
        driver.clean_up();
        let events = driver.take_events();
        assert!(
            events.iter().any(|e| e.kind == EventKind::CleanedUp),
            "{events:?}\n{:#?}",
            driver.kernel.log()
        );
        assert_eq!(held(&mut driver), KernelState::default());
        assert_eq!(driver.kernel.foreign(), kernel.foreign());
        assert_eq!(driver.kernel.sysctls().originals(), kernel.sysctls().originals());
    }
}

#[test]
fn a_crash_after_every_operation_is_recovered_from() {
    let mut reference = started();
    let wanted = held(&mut reference);
    let total = reference.kernel.applied_ops();
    for n in 0..total {
        let mut driver = Driver::new(config(), kernel(XtFlavour::Nft));
        driver.kernel.crash_after(n);
        driver.start(objects());
        driver.restart(config(), objects());
        driver.advance(60_000);
        assert_eq!(held(&mut driver), wanted, "crash after {n} operations");
        assert!(driver.status().is_some_and(|s| s.in_sync), "crash after {n} operations");
    }
}

#[test]
fn every_single_failure_is_recovered_from() {
    let mut reference = started();
    let wanted = held(&mut reference);
    for n in 1..=reference.kernel.applied_ops() {
        let mut driver = Driver::new(config(), kernel(XtFlavour::Nft));
        driver.kernel.fail_nth(n, OpErrorClass::Transient);
        driver.start(objects());
        driver.advance(120_000);
        assert_eq!(held(&mut driver), wanted, "failure of operation {n}");
    }
}

const MANGLE: XtTableId = XtTableId { family: Family::V4, table: XtTable::Mangle };

/// What somebody else does to the kernel.
type Change = (&'static str, fn(&mut SimKernel));

#[test]
fn what_others_change_of_ours_is_back_within_five_seconds() {
    let wanted = held(&mut started());
    let changes: [Change; 5] = [
        ("jumps flushed", |k| {
            k.foreign_delete_rules(MANGLE, "PREROUTING", |_| true);
        }),
        ("a rule added", |k| {
            let rule = XtRule::new(XtTarget::Unknown("-j LOG".into()));
            k.foreign_append(MANGLE, "SMARTNAT-MARK", &rule);
        }),
        ("routing rules deleted", |k| k.foreign_delete_routing_rules(|r| r.protocol == 83)),
        ("routes deleted", |k| k.foreign_delete_routes(|r| r.route.table == 7001)),
        ("sysctl written", |k| {
            k.write_sysctl(&SysctlKey::Forwarding(Family::V4), "0").expect("it exists");
        }),
    ];
    for (what, change) in changes {
        let mut driver = started();
        let sysctls = driver.kernel.sysctls().clone();
        driver.take_events();
        change(&mut driver.kernel);
        assert!(held(&mut driver) != wanted || *driver.kernel.sysctls() != sysctls, "{what}");
        driver.advance(5_000);
        assert_eq!(held(&mut driver), wanted, "T17: {what}");
        assert_eq!(*driver.kernel.sysctls(), sysctls, "T17: {what}");
        let events = driver.take_events();
        assert!(events.iter().any(|e| e.kind == EventKind::DriftRepaired), "T17: {what}");
    }
}

#[test]
fn routes_that_a_link_took_along_come_back_with_it() {
    let mut driver = started();
    let wanted = held(&mut driver);
    driver.kernel.set_link_up("ext1", false);
    driver.host_changed();
    assert_ne!(held(&mut driver), wanted);
    driver.kernel.set_link_up("ext1", true);
    driver.kernel.add_address("ext1", "2001:db8:1::10/64");
    driver.host_changed();
    driver.advance(60_000);
    assert_eq!(held(&mut driver), wanted);
    assert!(driver.status().is_some_and(|s| s.in_sync));
}
