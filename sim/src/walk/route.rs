//! Policy routing: rules by priority, the longest prefix of a table.

use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::Family;
use smartnat_core::objects::RuleAction;

use super::refusal::Refusal;
use super::trace::Decision;
use crate::kernel::{HeldRule, Links, Routing, RuleBody, TABLE_LOCAL, TABLE_MAIN};

/// Metric of an IPv6 route that follows from an address (`IP6_RT_PRIO_ADDRCONF`).
const METRIC_CONNECTED_V6: u32 = 256;
/// The interface that packets of the host itself come from, as routing rules see it.
pub(super) const LOOPBACK: &str = "lo";

/// Rules and routes of a host.
#[derive(Clone, Copy)]
pub(super) struct Fib<'k> {
    pub(super) routing: &'k Routing,
    pub(super) links: &'k Links,
}

/// What a route is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'q> {
    pub(super) to: IpAddr,
    pub(super) mark: u32,
    /// `iif`; [`LOOPBACK`] for the host's own packets.
    pub(super) input: &'q str,
}

/// Where to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'k> {
    Local,
    Onwards(Hop<'k>),
}

/// The route of a packet that does not end here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'k> {
    pub(super) rule: u32,
    pub(super) table: u32,
    pub(super) destination: IpNet,
    pub(super) interface: &'k str,
    pub(super) gateway: Option<IpAddr>,
}

impl Hop<'_> {
    /// The address to look for on the link.
    pub(super) fn next_hop(&self, destination: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(destination)
    }
}

impl From<Found<'_>> for Decision {
    fn from(found: Found<'_>) -> Self {
        match found {
            Found::Local => Self::Local,
            Found::Onwards(hop) => Self::Onwards {
                rule: hop.rule,
                table: hop.table,
                route: hop.destination,
                interface: hop.interface.to_owned(),
                gateway: hop.gateway,
            },
        }
    }
}

impl<'k> Fib<'k> {
    /// The route that the first rule with an answer gives (`fib_rules_lookup`).
    pub(super) fn lookup(&self, query: &Query<'_>) -> Result<Option<Found<'k>>, Refusal> {
        for held in self.routing.rules(Family::of(&query.to)) {
            let (table, suppress_prefix) = match selected_action(held, query)? {
                None => continue,
                // FR_ACT_UNREACHABLE ends the search with an error (fib4_rule_action).
                Some(RuleAction::Unreachable) => return Ok(None),
                Some(RuleAction::Lookup { table, suppress_prefix }) => (table, suppress_prefix),
            };
            if table == TABLE_LOCAL {
                if self.links.is_local(query.to) {
                    return Ok(Some(Found::Local));
                }
                continue;
            }
            let Some(route) = self.longest_prefix(table, query.to) else { continue };
            // fib4_rule_suppress, fib6_rule_suppress: the whole answer of the table is passed over.
            if suppress_prefix.is_some_and(|limit| route.destination.prefix_len() <= limit) {
                continue;
            }
            return Ok(Some(Found::Onwards(Hop { rule: held.priority, table, ..route })));
        }
        Ok(None)
    }

    /// Routes with equal prefixes: the smaller metric, then the older interface.
    fn longest_prefix(&self, table: u32, to: IpAddr) -> Option<Hop<'k>> {
        let metric = if to.is_ipv4() { 0 } else { METRIC_CONNECTED_V6 };
        let hop = |destination, interface, gateway| Hop {
            rule: 0,
            table,
            destination,
            interface,
            gateway,
        };
        let mut best: Option<((u8, u32, u32), Hop<'k>)> = None;
        let mut offer = |rank: (u8, u32, u32), candidate: Hop<'k>| {
            if best.as_ref().is_none_or(|(held, _)| rank < *held) {
                best = Some((rank, candidate));
            }
        };
        let shortness = |net: &IpNet| u8::MAX - net.prefix_len();
        if table == TABLE_MAIN {
            for (name, net) in self.links.connected().filter(|(_, net)| net.contains(&to)) {
                let index = self.links.get(name).map_or(u32::MAX, |link| link.index);
                offer((shortness(&net), metric, index), hop(net, name, None));
            }
        }
        let added = self.routing.routes().iter().filter(|r| r.route.table == table);
        for held in added.filter(|r| r.route.destination.contains(&to)) {
            let route = &held.route;
            let rank = (shortness(&route.destination), held.metric, u32::MAX);
            offer(rank, hop(route.destination, &route.interface, route.gateway));
        }
        best.map(|(_, hop)| hop)
    }
}

/// What a rule does, if it holds.
fn selected_action(held: &HeldRule, query: &Query<'_>) -> Result<Option<RuleAction>, Refusal> {
    let rule = match &held.body {
        RuleBody::Known(rule) => rule,
        RuleBody::Opaque(text) => {
            return Err(Refusal::RoutingRule { priority: held.priority, text: text.clone() });
        }
    };
    let holds = rule.in_interface.as_deref().is_none_or(|name| name == query.input)
        && rule.mark.is_none_or(|(value, mask)| query.mark & mask == value & mask)
        && rule.destination.is_none_or(|net| net.contains(&query.to));
    Ok(holds.then_some(rule.action))
}
