//! What others change of ours is back at the next look, with an event (T17), and nothing of
//! theirs is touched (T14, P11).

use smartnat_core::gateway::{EventKind, Input, Output};
use smartnat_core::model::{Backend, Family};
use smartnat_core::names::{external_set, fixed_chain, quarantine_set};
use smartnat_core::objects::{
    ChainName, ROUTE_PROTOCOL, SetElement, SysctlKey, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::XtFlavour;

use crate::common::*;

const NAT: XtTableId = XtTableId { family: Family::V4, table: XtTable::Nat };
const MANGLE: XtTableId = XtTableId { family: Family::V6, table: XtTable::Mangle };

fn others(kernel: &mut SimKernel, domain: Domain, op: NetworkOp) {
    kernel
        .interfere(&Transaction { domain, ops: vec![op] })
        .unwrap_or_else(|e| panic!("not even somebody else can do that: {e}"));
}

fn jump(chain: &str) -> XtRule {
    XtRule::new(XtTarget::Jump(fixed_chain(chain)))
}

fn route_of_ext1(kernel: &SimKernel) -> smartnat_core::objects::Route {
    let routes = held(kernel).routes;
    routes
        .into_iter()
        .find(|r| r.interface == "ext1" && r.gateway.is_some())
        .expect("a default route")
}

type Interference = fn(&mut SimKernel);

/// Every kind of object, and every way to spoil it.
const INTERFERENCES: &[(&str, Interference)] = &[
    ("a chain is flushed", |k| k.foreign_delete_rules(NAT, "SMARTNAT-DNAT", |_| true)),
    ("a rule of ours is deleted", |k| {
        k.foreign_delete_rules(MANGLE, "SMARTNAT-MARK", |r| r.in_interface.is_some());
    }),
    ("a rule is added to ours", |k| k.foreign_append(MANGLE, "SMARTNAT-MARK", &stray_rule())),
    ("a jump is deleted", |k| {
        k.foreign_delete_rules(NAT, "PREROUTING", |r| {
            r.jump_target() == Some(&fixed_chain("DNAT"))
        });
    }),
    ("a jump is repeated", |k| {
        let rule = held(k).xtables[&NAT].jumps[&HOOKS[0]][0].clone();
        k.foreign_append(NAT, "PREROUTING", &rule);
    }),
    ("a jump with other matches is added", |k| k.foreign_append(NAT, "PREROUTING", &jump("DNAT"))),
    ("a jump to a chain that is to go is added", |k| {
        let chain = ChainName("SMARTNAT-STRAY".into());
        others(k, Domain::Xtables(NAT), NetworkOp::PutChain { chain, rules: Vec::new() });
        k.foreign_append(NAT, "OUTPUT", &jump("STRAY"));
    }),
    ("everything of a table is flushed and deleted", |k| {
        for chain in ["PREROUTING", "OUTPUT", "POSTROUTING"] {
            k.foreign_delete_rules(NAT, chain, |r| {
                r.jump_target().is_some_and(|t| t.0.starts_with("SMARTNAT-"))
            });
        }
        let chains: Vec<ChainName> = held(k).xtables[&NAT].chains.keys().cloned().collect();
        let flush =
            chains.iter().map(|c| NetworkOp::PutChain { chain: c.clone(), rules: Vec::new() });
        let delete = chains.iter().map(|c| NetworkOp::DeleteChain { chain: c.clone() });
        let ops = flush.chain(delete).collect();
        k.interfere(&Transaction { domain: Domain::Xtables(NAT), ops })
            .expect("nothing refers to them");
    }),
    ("an element is removed", |k| {
        let op = NetworkOp::DeleteElement {
            set: external_set(Family::V4),
            element: SetElement::Ip(ip(EXT1)),
        };
        others(k, Domain::Sets, op);
    }),
    ("an element is added", |k| {
        let op = NetworkOp::AddElement {
            set: external_set(Family::V6),
            element: SetElement::Ip(ip("2001:db8::bad")),
        };
        others(k, Domain::Sets, op);
    }),
    ("a set is added", |k| {
        let spec = held(k).sets[&external_set(Family::V4)].spec;
        let name = smartnat_core::objects::SetName("smartnat-stray".into());
        others(k, Domain::Sets, NetworkOp::CreateSet { name, spec });
    }),
    ("a routing rule is deleted", |k| {
        k.foreign_delete_routing_rules(|r| r.protocol == ROUTE_PROTOCOL && r.priority == 20_003);
    }),
    ("a routing rule of ours is added", |k| {
        let rule = lookup(Family::V4, 20_002, 254);
        others(k, Domain::Routing, NetworkOp::AddRule(rule));
    }),
    ("all routes of ours are deleted", |k| {
        k.foreign_delete_routes(|r| r.protocol == ROUTE_PROTOCOL);
    }),
    ("a route is replaced", |k| {
        let mut route = route_of_ext1(k);
        route.gateway = Some(ip("203.0.113.200"));
        others(k, Domain::Routing, NetworkOp::PutRoute(route));
    }),
    ("a route is added", |k| {
        let mut route = route_of_ext1(k);
        route.destination = net("192.0.2.0/28");
        others(k, Domain::Routing, NetworkOp::PutRoute(route));
    }),
    ("a sysctl is reset", |k| {
        for key in [SysctlKey::Forwarding(Family::V4), SysctlKey::SourceValidMark("ext2".into())] {
            k.write_sysctl(&key, "0").expect("it exists");
        }
    }),
];

#[test]
fn every_interference_is_repaired_at_the_next_look() {
    for flavour in [XtFlavour::Nft, XtFlavour::Legacy] {
        for (what, interfere) in INTERFERENCES {
            let mut driver = settled(flavour);
            let wanted = held(&driver.kernel);
            interfere(&mut driver.kernel);
            assert_ne!(held(&driver.kernel), wanted, "{what}: is seen");
            let foreign = driver.kernel.foreign();
            driver.advance(4_000);
            assert_eq!(held(&driver.kernel), wanted, "{what}: {:#?}", driver.kernel.log());
            assert_in_sync(&driver);
            assert_eq!(driver.kernel.foreign(), foreign, "{what}: P11");
            assert!(
                driver.kernel.trespasses().is_empty(),
                "{what}: {:?}",
                driver.kernel.trespasses()
            );
            let events = driver.take_events();
            assert_eq!(count(&events, EventKind::DriftRepaired), 1, "{what}: {events:?}");
            assert_eq!(count(&events, EventKind::KernelError), 0, "{what}: {events:?}");
            let ops = driver.kernel.applied_ops();
            driver.advance(60_000);
            assert_eq!(driver.kernel.applied_ops(), ops, "{what}: is repaired once");
        }
    }
}

/// What the kernel tells at once is repaired at once.
#[test]
fn a_notification_is_acted_on_at_once() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let wanted = held(&driver.kernel);
        flush_by_others(&mut driver.kernel);
        driver.kernel_changed();
        assert_eq!(held(&driver.kernel), wanted);
        assert_eq!(count(driver.events(), EventKind::DriftRepaired), 1, "{:?}", driver.events());
    });
}

/// Others may put rules before ours; elements that the kernel adds at run time are no drift.
#[test]
fn what_concerns_us_not_is_no_drift() {
    let mut driver = settled(XtFlavour::Nft);
    driver.kernel.foreign_insert(NAT, "PREROUTING", &stray_rule());
    driver.kernel.foreign_append(NAT, "KUBE-SERVICES", &stray_rule());
    let held_back = NetworkOp::AddElement {
        set: quarantine_set(Family::V4),
        element: SetElement::IpPortIp {
            ip: ip("10.1.0.7"),
            protocol: smartnat_core::model::Protocol::Tcp,
            port: 80,
            other: ip("192.0.2.5"),
        },
    };
    others(&mut driver.kernel, Domain::Sets, held_back);
    let untouched = SysctlKey::ArpIgnore("ext1".into());
    driver.kernel.write_sysctl(&untouched, "1").expect("it exists");
    driver.advance(60_000);
    assert!(driver.kernel.log().is_empty(), "{:#?}", driver.kernel.log());
    assert!(driver.events().is_empty(), "{:?}", driver.events());
}

/// Our own changes are no drift, however they arrive.
#[test]
fn our_own_changes_are_no_drift() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        driver.cluster(vec![smartnat_sim::scenario::without_mapping("echo")]);
        driver.kernel_changed();
        driver.kernel.remove_address("ext2", ip(EXT2));
        driver.host_changed();
        driver.kernel_changed();
        driver.advance(60_000);
        assert_in_sync(&driver);
        assert_eq!(count(driver.events(), EventKind::DriftRepaired), 0, "{:?}", driver.events());
    });
}

/// Drift that is found in the same look as a change of ours is told of all the same.
#[test]
fn drift_beside_a_change_is_told() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        flush_by_others(&mut driver.kernel);
        driver.kernel.add_link("ext3");
        driver.kernel.add_address("ext3", "192.0.2.130/25");
        // A new link has sysctls, so the kernel is read before anything is decided; the table of
        // nftables where it tells of a change.
        if backend() == Backend::Nftables {
            driver.gateway.handle_input(driver.kernel.now(), Input::KernelChanged);
        }
        driver.host_changed();
        assert_in_sync(&driver);
        assert_eq!(count(driver.events(), EventKind::DriftRepaired), 1, "{:?}", driver.events());
    });
}

/// Somebody who undoes everything at once must not keep the gateway busy: it goes on later.
#[test]
fn a_tug_of_war_is_fought_with_pauses() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let mut observations = 0;
        flush_by_others(&mut driver.kernel);
        driver.gateway.handle_input(driver.kernel.now(), Input::KernelChanged);
        while let Some(output) = step(&mut driver.gateway, &mut driver.kernel, |_| {}) {
            if matches!(output, Output::Apply(_)) {
                flush_by_others(&mut driver.kernel);
                driver.gateway.handle_input(driver.kernel.now(), Input::KernelChanged);
            }
            observations += usize::from(matches!(output, Output::Observe(_)));
            assert!(observations < 50, "the gateway does not come to rest");
        }
        assert!(!driver.gateway.status().expect("a status").in_sync);
        let wait = driver.gateway.poll_timeout().expect("a retry").0 - driver.kernel.now().0;
        assert!((100..=5_000).contains(&wait), "{wait} ms");
        if backend() == Backend::Nftables {
            driver.kernel_changed();
            let status = driver.gateway.status().expect("a status");
            assert!(!status.in_sync, "news do not end the pause");
        }
        let mut meanwhile = driver.clone();
        meanwhile.cluster(vec![smartnat_sim::scenario::without_mapping("exit")]);
        assert_in_sync(&meanwhile);
        driver.advance(5_000);
        assert!(driver.gateway.status().expect("a status").in_sync);
    });
}
