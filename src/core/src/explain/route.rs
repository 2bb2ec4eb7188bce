//! Policy routing as the host will do it: our rules and tables before table main.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::dataplane::Dataplane;
use crate::lower::{routing_routes, routing_rules};
use crate::model::{Family, HostState, Link};
use crate::objects::{Route, RoutingRule, RuleAction};

/// The interface that packets of the host itself come from, as routing rules see it.
pub(super) const LOOPBACK: &str = "lo";
/// Table main.
const MAIN: u32 = 254;

/// Rules and routes of a host.
pub(super) struct Router<'a> {
    host: &'a HostState,
    rules: BTreeSet<RoutingRule>,
    routes: BTreeSet<Route>,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Local,
    Onwards(Hop),
}

/// The route of a packet that does not end here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) interface: String,
    pub(super) gateway: Option<IpAddr>,
    pub(super) table: u32,
}

impl Hop {
    /// How people say it.
    pub(super) fn describe(&self) -> String {
        let by = self.gateway.map_or("on its link".to_owned(), |g| format!("by gateway {g}"));
        let table = if self.table == MAIN { "main".to_owned() } else { self.table.to_string() };
        format!("{} ({by}, table {table})", self.interface)
    }
}

impl<'a> Router<'a> {
    pub(super) fn new(host: &'a HostState, dataplane: &Dataplane) -> Self {
        let (rules, routes) = if dataplane.uplinks.is_empty() {
            (BTreeSet::new(), BTreeSet::new())
        } else {
            (routing_rules(dataplane), routing_routes(dataplane))
        };
        Self { host, rules, routes }
    }

    /// The route that the first rule with an answer gives.
    pub(super) fn look_up(&self, to: IpAddr, mark: u32, input: &str) -> Option<Way> {
        if is_own(self.host, to) {
            return Some(Way::Local);
        }
        let rules = self.rules.iter().filter(|rule| rule.family == Family::of(&to));
        for rule in rules.filter(|rule| holds(rule, to, mark, input)) {
            match rule.action {
                RuleAction::Unreachable => return None,
                RuleAction::Lookup { table, suppress_prefix } => {
                    let found = self.in_table(table, to);
                    let kept = found.filter(|(net, _)| {
                        suppress_prefix.is_none_or(|limit| net.prefix_len() > limit)
                    });
                    if let Some((_, hop)) = kept {
                        return Some(Way::Onwards(hop));
                    }
                }
            }
        }
        self.in_table(MAIN, to).map(|(_, hop)| Way::Onwards(hop))
    }

    /// The longest prefix; of equals the smaller metric, then the older interface.
    fn in_table(&self, table: u32, to: IpAddr) -> Option<(IpNet, Hop)> {
        let rank = |net: &IpNet, metric: u32, interface: &str| {
            let index = self.host.links.get(interface).map_or(u32::MAX, |link| link.index);
            (u8::MAX - net.prefix_len(), metric, index)
        };
        let hop =
            |interface: &str, gateway| Hop { interface: interface.to_owned(), gateway, table };
        if table == MAIN {
            let fitting = self.host.routes.iter().filter(|r| r.destination.contains(&to));
            return fitting
                .min_by_key(|r| rank(&r.destination, r.metric, &r.interface))
                .map(|r| (r.destination, hop(&r.interface, r.gateway)));
        }
        let fitting =
            self.routes.iter().filter(|r| r.table == table && r.destination.contains(&to));
        fitting
            .min_by_key(|r| rank(&r.destination, 0, &r.interface))
            .map(|r| (r.destination, hop(&r.interface, r.gateway)))
    }
}

fn holds(rule: &RoutingRule, to: IpAddr, mark: u32, input: &str) -> bool {
    rule.in_interface.as_deref().is_none_or(|name| name == input)
        && rule.mark.is_none_or(|(value, mask)| mark & mask == value & mask)
        && rule.destination.is_none_or(|net| net.contains(&to))
}

/// Whether the host itself has this address.
pub(super) fn is_own(host: &HostState, address: IpAddr) -> bool {
    address.is_loopback() || holder(host, address).is_some_and(|name| is_enabled(host, name))
}

/// Whether an interface is not switched off, carrier or not: what is switched off takes nothing in,
/// though it keeps its IPv4 addresses, and loses all its routes.
fn is_enabled(host: &HostState, name: &str) -> bool {
    host.links.get(name).is_some_and(|link| link.up)
        || host.routes.iter().any(|route| route.interface == name)
}

/// The interface that has this address.
pub(super) fn holder(host: &HostState, address: IpAddr) -> Option<&str> {
    let has = |link: &Link| link.addresses.iter().any(|a| a.address.addr() == address);
    host.links.iter().find(|(_, link)| has(link)).map(|(name, _)| name.as_str())
}

/// The address that masquerading gives to packets for `to` that leave by `hop`.
pub(super) fn masquerade_address(host: &HostState, hop: &Hop, to: IpAddr) -> Option<IpAddr> {
    match to {
        IpAddr::V4(_) => select_v4(host, hop, to),
        IpAddr::V6(v6) => select_v6(host, hop, v6),
    }
}

/// The first address whose subnet has the next hop, else the first one, else another link's.
fn select_v4(host: &HostState, hop: &Hop, to: IpAddr) -> Option<IpAddr> {
    let v4 = |link: &Link| -> Vec<IpNet> {
        link.addresses.iter().map(|a| a.address).filter(|net| net.addr().is_ipv4()).collect()
    };
    let next = hop.gateway.unwrap_or(to);
    let own = host.links.get(&hop.interface).map(v4).unwrap_or_default();
    let fitting = own.iter().find(|net| net.contains(&next)).or(own.first());
    fitting.map(IpNet::addr).or_else(|| {
        let mut others: Vec<&Link> = host.links.values().filter(|link| link.up).collect();
        others.sort_by_key(|link| link.index);
        let all = others.into_iter().flat_map(v4).map(|net| net.addr());
        all.into_iter().find(|address| !address.is_loopback())
    })
}

/// RFC 6724 as far as it decides here: the interface's own, of the destination's kind, with the
/// longest common prefix; of equals the youngest.
fn select_v6(host: &HostState, hop: &Hop, to: Ipv6Addr) -> Option<IpAddr> {
    let candidates = host.links.iter().filter(|(name, link)| link.up && *name != LOOPBACK);
    let ranked = candidates.flat_map(|(name, link)| {
        link.addresses.iter().filter_map(move |held| {
            let IpAddr::V6(address) = held.address.addr() else { return None };
            let common = (address.to_bits() ^ to.to_bits()).leading_zeros();
            let common = common.min(held.address.prefix_len().into());
            let wide = !address.is_unicast_link_local() || to.is_unicast_link_local();
            let like = address.is_unique_local() == to.is_unique_local();
            Some(((wide, *name == hop.interface, like, common), address))
        })
    });
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, address)| address.into())
}
