//! Rules and routes on a running kernel.

mod common;

use common::{add_uplink, in_namespace, sh};
use smartnat_core::model::Family;
use smartnat_core::objects::{ObservationScope, Route, RoutingRule, RuleAction};
use smartnat_core::ops::{NetworkOp, OpErrorClass};
use smartnat_linux::Routing;

fn scope() -> ObservationScope {
    ObservationScope {
        table_base: 7000,
        table_count: 8,
        rule_priority: 20_000,
        ..ObservationScope::default()
    }
}

fn rules(family: Family) -> Vec<RoutingRule> {
    let plain = RoutingRule {
        family,
        priority: 20_000,
        in_interface: Some("eth1".into()),
        mark: None,
        destination: None,
        action: RuleAction::Lookup { table: 254, suppress_prefix: None },
    };
    let destination = match family {
        Family::V4 => "10.1.0.0/16",
        Family::V6 => "fd00:1::/48",
    };
    vec![
        plain.clone(),
        RoutingRule {
            priority: 20_001,
            in_interface: None,
            mark: Some((0x0001_0000, 0x00ff_0000)),
            action: RuleAction::Lookup { table: 7001, suppress_prefix: None },
            ..plain.clone()
        },
        RoutingRule {
            priority: 20_002,
            in_interface: None,
            mark: Some((0, 0x00ff_0000)),
            destination: destination.parse().ok(),
            action: RuleAction::Lookup { table: 254, suppress_prefix: Some(0) },
            ..plain.clone()
        },
        RoutingRule {
            priority: 20_004,
            in_interface: None,
            mark: Some((0x0001_0000, 0x00ff_0000)),
            action: RuleAction::Unreachable,
            ..plain
        },
    ]
}

fn route(destination: &str, gateway: Option<&str>, onlink: bool) -> Route {
    Route {
        table: 7001,
        destination: destination.parse().expect("a prefix"),
        gateway: gateway.map(|g| g.parse().expect("an address")),
        interface: "eth1".into(),
        onlink,
    }
}

fn routes(family: Family) -> Vec<Route> {
    match family {
        Family::V4 => vec![
            route("192.0.2.0/24", None, false),
            route("0.0.0.0/0", Some("192.0.2.1"), false),
            route("10.9.0.0/16", Some("198.51.100.1"), true),
        ],
        Family::V6 => vec![
            route("2001:db8::/64", None, false),
            route("::/0", Some("2001:db8::1"), false),
            route("fd00:9::/48", Some("2001:db8:9::1"), true),
        ],
    }
}

fn put(routes: &[Route]) -> Vec<NetworkOp> {
    routes.iter().cloned().map(NetworkOp::PutRoute).collect()
}

#[test]
fn rules_are_added_read_back_and_deleted() {
    in_namespace(|| {
        let before = sh("ip rule; ip -6 rule");
        let mut routing = Routing::open().expect("a socket");
        let rules: Vec<_> = Family::ALL.into_iter().flat_map(rules).collect();
        let add: Vec<_> = rules.iter().cloned().map(NetworkOp::AddRule).collect();
        routing.apply(&add).expect("added");
        assert_eq!(routing.rules(&scope()).expect("listed"), rules.iter().cloned().collect());
        assert_eq!(routing.operations(), 8);
        let shown = sh("ip rule");
        assert!(shown.contains("20001:\tfrom all fwmark 0x10000/0xff0000 lookup 7001"), "{shown}");
        assert!(shown.contains("iif eth1 [detached] lookup main proto 83"), "{shown}");
        assert!(shown.contains("lookup main suppress_prefixlength 0"), "{shown}");

        let delete: Vec<_> = rules.into_iter().map(NetworkOp::DeleteRule).collect();
        routing.apply(&delete).expect("deleted");
        assert!(routing.rules(&scope()).expect("listed").is_empty());
        assert_eq!(sh("ip rule; ip -6 rule"), before);
    });
}

#[test]
fn routes_are_put_replaced_read_back_and_deleted() {
    in_namespace(|| {
        add_uplink();
        let before = sh("ip route show table all; ip -6 route show table all");
        let mut routing = Routing::open().expect("a socket");
        let routes: Vec<_> = Family::ALL.into_iter().flat_map(routes).collect();
        routing.apply(&put(&routes)).expect("put");
        routing.apply(&put(&routes)).expect("a second time is no error");
        assert_eq!(routing.routes(&scope()).expect("listed"), routes.iter().cloned().collect());

        let replaced = [
            route("0.0.0.0/0", Some("192.0.2.9"), false),
            route("::/0", Some("2001:db8::9"), false),
            route("192.0.2.0/24", Some("192.0.2.9"), false),
            route("2001:db8::/64", Some("2001:db8::9"), false),
        ];
        routing.apply(&put(&replaced)).expect("replaced");
        let now = routing.routes(&scope()).expect("listed");
        assert_eq!(now.len(), routes.len());
        assert!(replaced.iter().all(|r| now.contains(r)), "{now:?}");

        // On-link routes by which gateways are reached go last.
        let delete: Vec<_> = now.into_iter().map(NetworkOp::DeleteRoute).collect();
        routing.apply(&delete).expect("deleted");
        assert!(routing.routes(&scope()).expect("listed").is_empty());
        assert_eq!(sh("ip route show table all; ip -6 route show table all"), before);
    });
}

#[test]
fn only_what_is_ours_is_observed() {
    in_namespace(|| {
        add_uplink();
        sh("ip rule add pref 20000 iif eth1 lookup main
            ip rule add pref 19999 iif eth1 lookup 7001 protocol 83
            ip rule add pref 20005 iif eth1 lookup 7001 protocol 83
            ip -6 rule add pref 20001 fwmark 0x10000/0xff0000 lookup 7001
            ip route add default via 192.0.2.1 table 7001
            ip route add default via 192.0.2.1 table 7000 proto 83
            ip route add 10.0.0.0/8 via 192.0.2.1 table 7009 proto 83
            ip -6 route add default via 2001:db8::1 proto 83");
        let mut routing = Routing::open().expect("a socket");
        assert!(routing.rules(&scope()).expect("listed").is_empty());
        assert!(routing.routes(&scope()).expect("listed").is_empty());
    });
}

#[test]
fn a_failure_stops_the_transaction_and_names_the_object() {
    in_namespace(|| {
        add_uplink();
        let mut routing = Routing::open().expect("a socket");
        let [first, second, third, _] = rules(Family::V4).try_into().expect("four rules");
        let ops = [first.clone(), first.clone(), second].map(NetworkOp::AddRule);
        let error = routing.apply(&ops).expect_err("the second is there");
        assert_eq!(error.class, OpErrorClass::Exists);
        assert_eq!(error.object, "rule 20000 iif eth1 lookup main (IPv4)");
        assert_eq!(routing.rules(&scope()).expect("listed"), [first].into());

        let error = routing.apply(&[NetworkOp::DeleteRule(third)]).expect_err("it is not there");
        assert_eq!(error.class, OpErrorClass::NotFound);

        let unreachable = route("0.0.0.0/0", Some("198.51.100.1"), false);
        let error = routing.apply(&put(&[unreachable])).expect_err("on no connected subnet");
        assert_eq!(error.class, OpErrorClass::Invalid, "{error}");

        let absent = Route { interface: "eth9".into(), ..route("10.0.0.0/8", None, false) };
        let error = routing.apply(&put(&[absent])).expect_err("no such interface");
        assert_eq!(error.class, OpErrorClass::NotFound);

        let gone = route("10.0.0.0/8", None, false);
        let error = routing.apply(&[NetworkOp::DeleteRoute(gone)]).expect_err("not there");
        assert_eq!(error.class, OpErrorClass::NotFound);

        sh("ip link set eth1 down");
        let error = routing.apply(&put(&[route("10.0.0.0/8", None, false)])).expect_err("down");
        assert_eq!(error.class, OpErrorClass::Transient, "{error}");
    });
}

#[test]
fn a_rule_that_is_not_there_is_not_taken_for_a_more_specific_one() {
    in_namespace(|| {
        let mut routing = Routing::open().expect("a socket");
        for family in Family::ALL {
            let wide = rules(family).remove(0);
            let narrow = RoutingRule { mark: Some((0x1_0000, 0xff_0000)), ..wide.clone() };
            routing.apply(&[NetworkOp::AddRule(narrow.clone())]).expect("added");
            let error = routing.apply(&[NetworkOp::DeleteRule(wide)]).expect_err("not there");
            assert_eq!(error.class, OpErrorClass::NotFound);
            assert!(routing.rules(&scope()).expect("listed").contains(&narrow));
        }
    });
}
