//! Policy routing: rules and routes of both families. Probed with iproute2 on Linux 6.18.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smartnat_core::model::Family;
use smartnat_core::objects::{ObservationScope, ROUTE_PROTOCOL, Route, RoutingRule, RuleAction};
use smartnat_core::ops::{Domain, NetworkOp, OpError, OpErrorClass};

use super::error::{exists, invalid, not_found};
use super::links::{Links, is_interface_name};

/// `RTPROT_KERNEL`.
const PROTOCOL_KERNEL: u8 = 2;
/// Table local.
pub(crate) const TABLE_LOCAL: u32 = 255;
/// Table main.
pub(crate) const TABLE_MAIN: u32 = 254;
/// Priority and table of the rules that every kernel begins with: local, main, default.
pub const RULE_TABLES: [(u32, u32); 3] = [(0, TABLE_LOCAL), (32_766, TABLE_MAIN), (32_767, 253)];

/// What is known of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleBody {
    /// Understood.
    Known(RoutingRule),
    /// Somebody else's that this simulation cannot evaluate, as `ip rule` prints it.
    Opaque(String),
}

/// An `ip rule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRule {
    /// Family of the rule list.
    pub family: Family,
    /// `pref`.
    pub priority: u32,
    /// `FRA_PROTOCOL`; rules that differ in it alone are two rules.
    pub protocol: u8,
    /// The rest.
    pub body: RuleBody,
}

/// A route that was added, by us or others. Connected routes follow from addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRoute {
    /// The route.
    pub route: Route,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Metric; smaller wins.
    pub metric: u32,
    /// Learned from a router advertisement (`RTF_ADDRCONF`).
    pub learned: bool,
}

/// Rules and routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    rules: Vec<HeldRule>,
    routes: Vec<HeldRoute>,
}

impl Routing {
    pub(super) fn new() -> Self {
        let mut routing = Self { rules: Vec::new(), routes: Vec::new() };
        for family in Family::ALL {
            for (priority, table) in RULE_TABLES {
                let rule = RoutingRule {
                    family,
                    priority,
                    in_interface: None,
                    mark: None,
                    destination: None,
                    action: RuleAction::Lookup { table, suppress_prefix: None },
                };
                routing.insert_rule(HeldRule::known(rule, PROTOCOL_KERNEL));
            }
        }
        routing
    }

    /// The rules of a family in the order of lookup.
    pub fn rules(&self, family: Family) -> impl Iterator<Item = &HeldRule> {
        self.rules.iter().filter(move |r| r.family == family)
    }

    /// All rules, both families, by priority.
    pub(super) fn all_rules(&self) -> &[HeldRule] {
        &self.rules
    }

    /// Routes that were added, in no particular order.
    pub fn routes(&self) -> &[HeldRoute] {
        &self.routes
    }

    pub(super) fn observe_rules(&self, scope: &ObservationScope) -> BTreeSet<RoutingRule> {
        let priorities = scope.rule_priorities();
        self.rules
            .iter()
            .filter(|r| r.protocol == ROUTE_PROTOCOL && priorities.contains(&r.priority))
            .filter_map(|r| match &r.body {
                RuleBody::Known(rule) => Some(rule.clone()),
                RuleBody::Opaque(_) => None,
            })
            .collect()
    }

    pub(super) fn observe_routes(&self, scope: &ObservationScope) -> BTreeSet<Route> {
        let last = scope.table_base.saturating_add(scope.table_count);
        self.routes
            .iter()
            .filter(|r| r.protocol == ROUTE_PROTOCOL)
            .filter(|r| r.route.table > scope.table_base && r.route.table <= last)
            .map(|r| r.route.clone())
            .collect()
    }

    pub(super) fn add_rule(&mut self, links: &Links, rule: &RoutingRule) -> Result<(), OpError> {
        let object = rule_object(rule);
        if !links.families().contains(&rule.family) {
            return invalid(object, "the kernel does not have this family");
        }
        if rule.destination.is_some_and(|d| Family::of(&d.addr()) != rule.family) {
            return invalid(object, "destination of another family");
        }
        // An interface need not exist: `ip rule add iif nope` succeeds and shows [detached].
        if rule.in_interface.as_deref().is_some_and(|i| !is_interface_name(i)) {
            return invalid(object, "not a valid interface name");
        }
        if matches!(rule.action, RuleAction::Lookup { table: 0, .. }) {
            return invalid(object, "table 0 is none");
        }
        let held = HeldRule::known(as_read_back(rule), ROUTE_PROTOCOL);
        if self.rules.contains(&held) {
            return exists(object, "file exists");
        }
        self.insert_rule(held);
        Ok(())
    }

    /// A rule comes after those of its priority.
    pub(super) fn insert_rule(&mut self, held: HeldRule) {
        let at = self.rules.partition_point(|r| r.priority <= held.priority);
        self.rules.insert(at, held);
    }

    /// Deletes the first rule that has everything that `rule` names. What it does not name
    /// matches anything: `ip rule del pref 100 lookup 7` takes one with a mark if that comes first.
    pub(super) fn delete_rule(&mut self, rule: &RoutingRule) -> Result<(), OpError> {
        let wanted = as_read_back(rule);
        // Our executor asks for nothing that is not there exactly; the kernel then takes the first that fits.
        let exact = |r: &HeldRule| {
            r.protocol == ROUTE_PROTOCOL
                && matches!(&r.body, RuleBody::Known(held) if *held == wanted)
        };
        if !self.rules.iter().any(exact) {
            return not_found(rule_object(rule), "no such rule");
        }
        let found = self.rules.iter().position(|r| {
            r.family == wanted.family
                && r.priority == wanted.priority
                && r.protocol == ROUTE_PROTOCOL
                && matches!(&r.body, RuleBody::Known(held) if names_all_of(&wanted, held))
        });
        match found {
            Some(at) => {
                self.rules.remove(at);
                Ok(())
            }
            None => not_found(rule_object(rule), "no such file or directory"),
        }
    }

    pub(super) fn put_route(&mut self, links: &Links, route: &Route) -> Result<(), OpError> {
        self.check_route(links, route)?;
        self.insert_route(HeldRoute::ours(route.clone()));
        Ok(())
    }

    /// Adds a route or takes the place of one to the same destination with the same metric,
    /// whoever's it is (`ip route replace` over another protocol's replaces that).
    pub(super) fn insert_route(&mut self, held: HeldRoute) {
        match self.routes.iter().position(|r| r.same_place(&held)) {
            Some(at) => self.routes[at] = held,
            None => self.routes.push(held),
        }
    }

    /// The route of others that a route of ours would take the place of.
    pub(super) fn displaced_by(&self, route: &Route) -> Option<&HeldRoute> {
        let ours = HeldRoute::ours(route.clone());
        self.routes.iter().find(|r| r.same_place(&ours) && r.protocol != ROUTE_PROTOCOL)
    }

    pub(super) fn delete_route(&mut self, links: &Links, route: &Route) -> Result<(), OpError> {
        let object = route_object(route);
        if links.get(&route.interface).is_none() {
            return not_found(object, "cannot find device");
        }
        let found = self.routes.iter().position(|r| {
            // Without a gateway any fits in IPv6 (ip6_route_del), where no scope tells; onlink is not compared.
            let Route { table, destination, gateway, interface, .. } = &r.route;
            r.protocol == ROUTE_PROTOCOL
                && (table, destination, interface)
                    == (&route.table, &route.destination, &route.interface)
                && (*gateway == route.gateway
                    || route.family() == Family::V6 && route.gateway.is_none())
        });
        match found {
            Some(at) => {
                self.routes.remove(at);
                Ok(())
            }
            None => not_found(object, "no such process"),
        }
    }

    /// Drops every route that `gone` names.
    pub(super) fn drop_routes(&mut self, gone: impl Fn(&HeldRoute) -> bool) {
        self.routes.retain(|r| !gone(r));
    }

    pub(super) fn drop_rules(&mut self, gone: impl Fn(&HeldRule) -> bool) {
        self.rules.retain(|r| !gone(r));
    }

    fn check_route(&self, links: &Links, route: &Route) -> Result<(), OpError> {
        let (object, family) = (route_object(route), route.family());
        if !links.families().contains(&family) {
            return invalid(object, "the kernel does not have this family");
        }
        if route.table == 0 || (253..=255).contains(&route.table) {
            return invalid(object, "the simulation leaves local, main and default to the host");
        }
        // IPv4: "Invalid prefix for given prefix length"; IPv6 would clear the host bits.
        if route.destination.trunc() != route.destination {
            return invalid(object, "the destination has host bits");
        }
        let Some(link) = links.get(&route.interface) else {
            return not_found(object, "cannot find device");
        };
        // ENETDOWN. Without carrier is up enough: the route is added and marked linkdown.
        let down = || {
            let detail = "device for nexthop is not up";
            Err(OpError::new(OpErrorClass::Transient, object.clone(), detail))
        };
        // fib6_nh_init looks at the device of an onlink route before its gateway.
        if route.onlink && family == Family::V6 && !link.up {
            return down();
        }
        match route.gateway {
            Some(gateway) if Family::of(&gateway) != family => {
                return invalid(object, "gateway of another family");
            }
            // A link that is down has no subnets, so its gateways fail here: ENETUNREACH, EHOSTUNREACH.
            Some(gateway) => self.check_gateway(links, route, gateway)?,
            None if route.onlink && family == Family::V4 => {
                return invalid(object, "onlink needs a gateway");
            }
            None => {}
        }
        if link.up { Ok(()) } else { down() }
    }

    fn check_gateway(&self, links: &Links, route: &Route, gateway: IpAddr) -> Result<(), OpError> {
        let object = route_object(route);
        if gateway.is_unspecified() || gateway.is_multicast() || gateway.is_loopback() {
            return invalid(object, "nexthop has invalid gateway");
        }
        let local = links.holder(gateway).is_some();
        match gateway {
            // IPv4 takes an own address of the link as gateway unless onlink is given.
            IpAddr::V4(_) if route.onlink && local => {
                invalid(object, "nexthop has invalid gateway")
            }
            IpAddr::V6(_) if local => invalid(object, "gateway can not be a local address"),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Ok(()),
            IpAddr::V6(_) if route.onlink && self.covered_elsewhere(links, route, gateway) => {
                invalid(object, "nexthop has invalid gateway or device mismatch")
            }
            _ if route.onlink || self.reaches(links, route, gateway) => Ok(()),
            IpAddr::V4(_) => invalid(object, "nexthop has invalid gateway"),
            IpAddr::V6(_) => invalid(object, "no route to host"),
        }
    }

    /// Whether the gateway is on link: by a route of the same table or, failing that, of main.
    fn reaches(&self, links: &Links, route: &Route, gateway: IpAddr) -> bool {
        let own = self.lookup(links, route.table, &route.interface, gateway);
        own.or_else(|| self.lookup(links, TABLE_MAIN, &route.interface, gateway)).unwrap_or(false)
    }

    /// The best route of one table over one link: whether it is a connected one.
    /// IPv4 passes over routes with a gateway on the way to it (their scope is too wide), IPv6 stops there.
    fn lookup(&self, links: &Links, table: u32, interface: &str, to: IpAddr) -> Option<bool> {
        let connected = links
            .connected()
            .filter(|(name, net)| table == TABLE_MAIN && *name == interface && net.contains(&to))
            .map(|(_, net)| (net.prefix_len(), true));
        let added = self
            .routes
            .iter()
            .filter(|r| r.route.table == table && r.route.interface == interface)
            .filter(|r| r.route.destination.contains(&to))
            .filter(|r| to.is_ipv6() || r.route.gateway.is_none())
            .map(|r| (r.route.destination.prefix_len(), r.route.gateway.is_none()));
        connected.chain(added).max().map(|(_, on_link)| on_link)
    }

    /// IPv6 refuses an onlink gateway that main routes over another link by more than a default route.
    fn covered_elsewhere(&self, links: &Links, route: &Route, gateway: IpAddr) -> bool {
        let connected = links.connected().map(|(name, net)| (net, name));
        let added = self
            .routes
            .iter()
            .filter(|r| r.route.table == TABLE_MAIN && r.route.destination.prefix_len() > 0)
            .map(|r| (r.route.destination, r.route.interface.as_str()));
        connected
            .chain(added)
            .filter(|(net, _)| net.contains(&gateway))
            .map(|(net, name)| (net.prefix_len(), name == route.interface))
            .max()
            .is_some_and(|(_, same_link)| !same_link)
    }
}

impl HeldRule {
    /// A rule that the simulation understands.
    pub fn known(rule: RoutingRule, protocol: u8) -> Self {
        Self { family: rule.family, priority: rule.priority, protocol, body: RuleBody::Known(rule) }
    }
}

impl HeldRoute {
    /// A route of ours, with the metric that the kernel gives it.
    pub(super) fn ours(route: Route) -> Self {
        let metric = default_metric(route.family());
        Self { route, protocol: ROUTE_PROTOCOL, metric, learned: false }
    }

    fn same_place(&self, other: &Self) -> bool {
        self.route.table == other.route.table
            && self.route.destination == other.route.destination
            && self.metric == other.metric
            && self.learned == other.learned
    }
}

/// Metric of a route that was added without one (`IP6_RT_PRIO_USER`).
pub(super) fn default_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

/// `fwmark 0/0` is no condition and reads back as none.
fn as_read_back(rule: &RoutingRule) -> RoutingRule {
    RoutingRule { mark: rule.mark.filter(|m| *m != (0, 0)), ..rule.clone() }
}

/// Whether everything that `wanted` names is in `held`.
fn names_all_of(wanted: &RoutingRule, held: &RoutingRule) -> bool {
    let (value, mask) = wanted.mark.unwrap_or_default();
    let (held_value, held_mask) = held.mark.unwrap_or_default();
    let same_action = match (wanted.action, held.action) {
        (
            RuleAction::Lookup { table, suppress_prefix },
            RuleAction::Lookup { table: held_table, suppress_prefix: held_suppress },
        ) => table == held_table && (suppress_prefix.is_none() || suppress_prefix == held_suppress),
        (wanted, held) => wanted == held,
    };
    same_action
        && (wanted.in_interface.is_none() || wanted.in_interface == held.in_interface)
        && (value == 0 || value == held_value)
        && (mask == 0 || mask == held_mask)
        && wanted.destination.is_none_or(|d| d.prefix_len() == 0 || held.destination == Some(d))
}

fn rule_object(rule: &RoutingRule) -> String {
    NetworkOp::AddRule(rule.clone()).describe(Domain::Routing)
}

fn route_object(route: &Route) -> String {
    NetworkOp::PutRoute(route.clone()).describe(Domain::Routing)
}
