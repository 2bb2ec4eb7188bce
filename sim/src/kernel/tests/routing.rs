//! Rules and routes.

use std::collections::BTreeSet;

use smartnat_core::objects::{Route, RoutingRule, RuleAction};
use smartnat_core::ops::OpErrorClass::{Exists, Invalid, NotFound, Transient};

use super::*;
use crate::kernel::HeldRule;

fn rule(priority: u32) -> RoutingRule {
    RoutingRule {
        family: Family::V4,
        priority,
        in_interface: None,
        mark: None,
        destination: None,
        action: RuleAction::Lookup { table: 7001, suppress_prefix: None },
    }
}

fn marked(priority: u32) -> RoutingRule {
    RoutingRule { mark: Some((1, 0xff)), ..rule(priority) }
}

fn route(destination: &str, gateway: Option<&str>, interface: &str) -> Route {
    Route {
        table: 7001,
        destination: destination.parse().expect("a network"),
        gateway: gateway.map(|g| g.parse().expect("an address")),
        interface: interface.into(),
        onlink: false,
    }
}

fn onlink(destination: &str, gateway: &str, interface: &str) -> Route {
    Route { onlink: true, ..route(destination, Some(gateway), interface) }
}

fn run(kernel: &mut SimKernel, op: NetworkOp) -> Result<(), OpError> {
    apply(kernel, Domain::Routing, vec![op])
}

fn put(kernel: &mut SimKernel, route: &Route) -> Option<OpErrorClass> {
    class(run(kernel, NetworkOp::PutRoute(route.clone())))
}

fn routes(kernel: &mut SimKernel) -> BTreeSet<Route> {
    observe(kernel).routes
}

#[test]
fn an_equal_rule_exists_and_an_absent_one_does_not() {
    let mut kernel = kernel();
    run(&mut kernel, NetworkOp::AddRule(marked(20_000))).expect("the first");
    let again = run(&mut kernel, NetworkOp::AddRule(marked(20_000)));
    assert_eq!(class(again), Some(Exists));
    run(&mut kernel, NetworkOp::AddRule(rule(20_000))).expect("another of the same priority");
    assert_eq!(observe(&mut kernel).rules, BTreeSet::from([marked(20_000), rule(20_000)]));
    let absent = run(&mut kernel, NetworkOp::DeleteRule(rule(20_001)));
    assert_eq!(class(absent), Some(NotFound));
    let other_family = RoutingRule { family: Family::V6, ..rule(20_000) };
    assert_eq!(class(run(&mut kernel, NetworkOp::DeleteRule(other_family))), Some(NotFound));
}

#[test]
fn a_rule_of_another_protocol_is_another_rule() {
    let mut kernel = kernel();
    kernel.foreign_rule(rule(20_000), 4);
    let deletion = NetworkOp::DeleteRule(rule(20_000));
    assert_eq!(class(run(&mut kernel, deletion.clone())), Some(NotFound));
    run(&mut kernel, NetworkOp::AddRule(rule(20_000))).expect("no equal one");
    run(&mut kernel, deletion).expect("ours");
    assert!(kernel.routing().rules(Family::V4).any(|r| *r == HeldRule::known(rule(20_000), 4)));
}

#[test]
fn a_deletion_takes_the_first_rule_that_has_what_it_names() {
    let mut kernel = kernel();
    for rule in [marked(20_000), rule(20_000)] {
        run(&mut kernel, NetworkOp::AddRule(rule)).expect("valid");
    }
    run(&mut kernel, NetworkOp::DeleteRule(rule(20_000))).expect("one goes");
    assert_eq!(observe(&mut kernel).rules, BTreeSet::from([rule(20_000)]));
    let named = run(&mut kernel, NetworkOp::DeleteRule(marked(20_000)));
    assert_eq!(class(named), Some(NotFound));
}

#[test]
fn rules_are_looked_up_by_priority_then_age() {
    let mut kernel = kernel();
    for rule in [rule(20_001), marked(20_000), rule(20_000)] {
        run(&mut kernel, NetworkOp::AddRule(rule)).expect("valid");
    }
    let order: Vec<_> = kernel.routing().rules(Family::V4).map(|r| r.priority).collect();
    assert_eq!(order, [0, 20_000, 20_000, 20_001, 32_766, 32_767]);
    let second = kernel.routing().rules(Family::V4).nth(1).expect("it was added");
    assert_eq!(*second, HeldRule::known(marked(20_000), 83));
}

#[test]
fn rules_that_are_refused() {
    let cases = [
        (RoutingRule { in_interface: Some("not-there".into()), ..rule(1) }, None),
        (RoutingRule { in_interface: Some("abcdefghijklmnop".into()), ..rule(1) }, Some(Invalid)),
        (
            RoutingRule {
                destination: Some("2001:db8::/32".parse().expect("a network")),
                ..rule(1)
            },
            Some(Invalid),
        ),
        (
            RoutingRule {
                action: RuleAction::Lookup { table: 0, suppress_prefix: None },
                ..rule(1)
            },
            Some(Invalid),
        ),
    ];
    for (rule, expected) in cases {
        let outcome = run(&mut kernel(), NetworkOp::AddRule(rule.clone()));
        assert_eq!(class(outcome), expected, "{rule:?}");
    }
    let mut kernel = kernel();
    kernel.set_families([Family::V4]);
    let v6 = RoutingRule { family: Family::V6, ..rule(1) };
    assert_eq!(class(run(&mut kernel, NetworkOp::AddRule(v6))), Some(Invalid));
}

#[test]
fn an_empty_mark_is_no_condition() {
    let mut kernel = kernel();
    let empty = RoutingRule { mark: Some((0, 0)), ..rule(20_000) };
    run(&mut kernel, NetworkOp::AddRule(empty)).expect("valid");
    assert_eq!(observe(&mut kernel).rules, BTreeSet::from([rule(20_000)]));
}

#[test]
fn routes_need_a_link_and_a_gateway_within_reach() {
    // ext1 has 192.0.2.10/24 and 2001:db8::10/64, ext2 has no address.
    let cases = [
        (route("192.0.2.0/24", None, "ext1"), None),
        (route("0.0.0.0/0", Some("192.0.2.1"), "ext1"), None),
        (route("0.0.0.0/0", Some("192.0.2.10"), "ext1"), None),
        (route("0.0.0.0/0", Some("198.51.100.1"), "ext1"), Some(Invalid)),
        (route("0.0.0.0/0", Some("192.0.2.1"), "ext2"), Some(Invalid)),
        (route("0.0.0.0/0", Some("2001:db8::1"), "ext1"), Some(Invalid)),
        (onlink("0.0.0.0/0", "198.51.100.1", "ext1"), None),
        (onlink("0.0.0.0/0", "192.0.2.1", "ext2"), None),
        (onlink("0.0.0.0/0", "192.0.2.10", "ext1"), Some(Invalid)),
        (route("192.0.2.7/24", None, "ext1"), Some(Invalid)),
        (route("192.0.2.0/24", None, "none"), Some(NotFound)),
        (route("::/0", Some("2001:db8::1"), "ext1"), None),
        (route("::/0", Some("fe80::1"), "ext1"), None),
        (route("::/0", Some("2001:db8::10"), "ext1"), Some(Invalid)),
        (route("::/0", Some("2001:db8:9::1"), "ext1"), Some(Invalid)),
        (route("::/0", Some("2001:db8::1"), "ext2"), Some(Invalid)),
        (onlink("::/0", "2001:db8:9::1", "ext1"), None),
        (onlink("::/0", "2001:db8::1", "ext2"), Some(Invalid)),
        (Route { onlink: true, ..route("0.0.0.0/0", None, "ext1") }, Some(Invalid)),
        (Route { onlink: true, ..route("::/0", None, "ext1") }, None),
        (Route { table: 254, ..route("192.0.2.0/24", None, "ext1") }, Some(Invalid)),
    ];
    for (route, expected) in cases {
        assert_eq!(put(&mut host(), &route), expected, "{route:?}");
    }
}

#[test]
fn an_ipv6_gateway_in_a_subnet_of_two_links_is_within_reach_of_both() {
    let mut kernel = host();
    kernel.add_address("ext2", "2001:db8::11/64");
    for interface in ["ext1", "ext2"] {
        for route in [
            route("::/0", Some("2001:db8::1"), interface),
            onlink("::/0", "2001:db8::1", interface),
        ] {
            assert_eq!(put(&mut kernel, &route), None, "{route:?}");
        }
    }
}

#[test]
fn a_gateway_is_found_by_the_table_of_the_route_too() {
    for (subnet, gateway, default) in [
        ("198.51.100.0/24", "198.51.100.1", "0.0.0.0/0"),
        ("2001:db8:9::/64", "2001:db8:9::1", "::/0"),
    ] {
        let mut kernel = host();
        assert_eq!(put(&mut kernel, &route(subnet, None, "ext1")), None);
        assert_eq!(put(&mut kernel, &route(default, Some(gateway), "ext1")), None);
        let elsewhere = Route { table: 7002, ..route(default, Some(gateway), "ext1") };
        assert_eq!(put(&mut kernel, &elsewhere), Some(Invalid));
    }
}

#[test]
fn a_link_that_is_down_takes_no_route() {
    let mut kernel = host();
    kernel.set_link_up("ext1", false);
    for route in [route("192.0.2.0/24", None, "ext1"), route("2001:db8::/64", None, "ext1")] {
        assert_eq!(put(&mut kernel, &route), Some(Transient), "{route:?}");
    }
    let default = route("0.0.0.0/0", Some("192.0.2.1"), "ext1");
    assert_eq!(put(&mut kernel, &default), Some(Invalid));
    kernel.set_link_up("ext1", true);
    kernel.set_carrier("ext1", false);
    assert_eq!(put(&mut kernel, &default), None, "carrier does not matter");
}

#[test]
fn a_route_takes_the_place_of_the_one_to_its_destination() {
    let mut kernel = host();
    kernel.add_address("ext2", "198.51.100.10/24");
    let old = route("0.0.0.0/0", Some("192.0.2.1"), "ext1");
    let new = route("0.0.0.0/0", Some("198.51.100.1"), "ext2");
    assert_eq!(put(&mut kernel, &old), None);
    assert_eq!(put(&mut kernel, &new), None);
    assert_eq!(routes(&mut kernel), BTreeSet::from([new.clone()]));
    let gone = run(&mut kernel, NetworkOp::DeleteRoute(old));
    assert_eq!(class(gone), Some(NotFound));
    run(&mut kernel, NetworkOp::DeleteRoute(new)).expect("it is there");
    assert_eq!(routes(&mut kernel), BTreeSet::new());
}

/// What happens, and whether IPv4 and IPv6 routes over the link stay.
type Event = (&'static str, fn(&mut SimKernel), bool, bool);

#[test]
fn routes_go_with_their_link_and_rules_stay() {
    let v4 = route("0.0.0.0/0", Some("192.0.2.1"), "ext1");
    let v6 = route("::/0", Some("2001:db8::1"), "ext1");
    let other = Route { table: 7002, ..onlink("0.0.0.0/0", "203.0.113.1", "ext2") };
    let filled = || {
        let mut kernel = host();
        let ops = [&v4, &v6, &other].map(|r| NetworkOp::PutRoute(r.clone()));
        apply(&mut kernel, Domain::Routing, ops.to_vec()).expect("valid");
        let rule = RoutingRule { in_interface: Some("ext1".into()), ..rule(20_000) };
        run(&mut kernel, NetworkOp::AddRule(rule)).expect("valid");
        kernel
    };
    let events: [Event; 5] = [
        ("down", |k| k.set_link_up("ext1", false), false, false),
        ("removed", |k| k.remove_link("ext1"), false, false),
        ("carrier lost", |k| k.set_carrier("ext1", false), true, true),
        (
            "last IPv4 address",
            |k| k.remove_address("ext1", "192.0.2.10".parse().expect("an address")),
            false,
            true,
        ),
        (
            "last IPv6 address",
            |k| k.remove_address("ext1", "2001:db8::10".parse().expect("an address")),
            true,
            true,
        ),
    ];
    for (what, event, v4_stays, v6_stays) in events {
        let mut kernel = filled();
        event(&mut kernel);
        let held = routes(&mut kernel);
        assert_eq!(held.contains(&v4), v4_stays, "{what}");
        assert_eq!(held.contains(&v6), v6_stays, "{what}");
        assert!(held.contains(&other), "{what}");
        assert_eq!(observe(&mut kernel).rules.len(), 1, "{what}");
    }
}

#[test]
fn routing_stops_at_the_first_failure() {
    let mut kernel = host();
    let first = route("192.0.2.0/24", None, "ext1");
    let ops = vec![
        NetworkOp::PutRoute(first.clone()),
        NetworkOp::PutRoute(route("198.51.100.0/24", None, "none")),
        NetworkOp::AddRule(rule(20_000)),
    ];
    assert_eq!(class(apply(&mut kernel, Domain::Routing, ops)), Some(NotFound));
    assert_eq!(routes(&mut kernel), BTreeSet::from([first]));
    assert!(observe(&mut kernel).rules.is_empty());
}

#[test]
fn only_ours_within_the_scope_is_observed() {
    let mut kernel = host();
    let route = |table| Route { table, ..route("192.0.2.0/24", None, "ext1") };
    for table in [7000, 7001, 7008, 7009] {
        assert_eq!(put(&mut kernel, &route(table)), None);
    }
    kernel.foreign_route(route(7002), 4);
    for priority in [19_999, 20_000, 20_004, 20_005] {
        run(&mut kernel, NetworkOp::AddRule(rule(priority))).expect("valid");
    }
    kernel.foreign_rule(rule(20_001), 4);
    let state = observe(&mut kernel);
    assert_eq!(state.routes, BTreeSet::from([route(7001), route(7008)]));
    assert_eq!(state.rules, BTreeSet::from([rule(20_000), rule(20_004)]));
}
