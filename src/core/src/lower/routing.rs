//! Policy routing: replies leave by the uplink that their connection came in on (T11),
//! egress by the uplink of its address (T13).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::dataplane::Dataplane;
use crate::model::Family;
use crate::objects::{Route, RoutingRule, RuleAction};

/// Table main.
const MAIN: u32 = 254;

/// Rules in five consecutive priorities. What arrives on an uplink is routed by main,
/// else a marked packet would go back out. Egress goes where main has more than a
/// default route, unless only an uplink leads there. The rest goes by the mark, and nowhere
/// else while that uplink is down.
pub(crate) fn rules(dataplane: &Dataplane) -> BTreeSet<RoutingRule> {
    let marks = dataplane.marks;
    let mut rules = BTreeSet::new();
    for family in dataplane.families.iter().copied() {
        let rule = |step: u32| RoutingRule {
            family,
            priority: dataplane.rule_priority + step,
            in_interface: None,
            mark: None,
            destination: None,
            action: RuleAction::Lookup { table: MAIN, suppress_prefix: None },
        };
        for (name, uplink) in &dataplane.uplinks {
            let table = dataplane.table_base + uplink.number;
            let number = marks.uplink_mark(uplink.number);
            let by_table = RuleAction::Lookup { table, suppress_prefix: None };
            rules.insert(RoutingRule { in_interface: Some(name.clone()), ..rule(0) });
            rules.insert(RoutingRule {
                mark: Some((number, marks.uplink)),
                action: by_table,
                ..rule(3)
            });
            rules.insert(RoutingRule {
                mark: Some((number, marks.uplink)),
                action: RuleAction::Unreachable,
                ..rule(4)
            });
            if has_egress(dataplane, name, family) {
                let beyond = dataplane.uplinks.values().flat_map(|u| &u.exclusive);
                for subnet in beyond.filter(|net| Family::of(&net.addr()) == family) {
                    rules.insert(RoutingRule {
                        mark: Some((number | marks.egress, marks.routing())),
                        destination: Some(*subnet),
                        action: by_table,
                        ..rule(1)
                    });
                }
                rules.insert(RoutingRule {
                    mark: Some((marks.egress, marks.egress)),
                    action: RuleAction::Lookup { table: MAIN, suppress_prefix: Some(0) },
                    ..rule(2)
                });
            }
        }
    }
    rules
}

fn has_egress(dataplane: &Dataplane, uplink: &str, family: Family) -> bool {
    dataplane
        .egress
        .iter()
        .any(|(address, plane)| plane.uplink == uplink && Family::of(address) == family)
}

/// Per uplink that is up one table: its connected subnets and a default route by its gateway.
pub(crate) fn routes(dataplane: &Dataplane) -> BTreeSet<Route> {
    let mut routes = BTreeSet::new();
    for (name, uplink) in dataplane.uplinks.iter().filter(|(_, u)| u.up) {
        let table = dataplane.table_base + uplink.number;
        let wanted = |family: Family| dataplane.families.contains(&family);
        for subnet in uplink.connected.iter().filter(|n| wanted(Family::of(&n.addr()))) {
            routes.insert(Route {
                table,
                destination: *subnet,
                gateway: None,
                interface: name.clone(),
                onlink: false,
            });
        }
        for (family, gateway) in uplink.gateways.iter().filter(|(f, _)| wanted(**f)) {
            let reachable = uplink.connected.iter().any(|net| net.contains(gateway));
            routes.insert(Route {
                table,
                destination: default_destination(*family),
                gateway: Some(*gateway),
                interface: name.clone(),
                onlink: !reachable && !is_link_local(gateway),
            });
        }
    }
    routes
}

fn default_destination(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}
