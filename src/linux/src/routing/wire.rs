//! Rules and routes of the core as rtnetlink messages, and back.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol,
    RouteScope, RouteType, RouteVia,
};
use rtnetlink::packet_route::rule::{
    RuleAction as WireAction, RuleAttribute, RuleFlags, RuleMessage,
};
use smartnat_core::model::Family;
use smartnat_core::objects::{ROUTE_PROTOCOL, Route, RoutingRule, RuleAction};

/// `suppress_prefixlength` of a rule that has none.
const NO_SUPPRESSION: u32 = u32::MAX;
/// Table main.
pub(crate) const MAIN_TABLE: u32 = 254;

pub(crate) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Names of interfaces by index.
pub(crate) fn interface_names(links: &[LinkMessage]) -> BTreeMap<u32, String> {
    let name = |link: &LinkMessage| {
        link.attributes.iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
    };
    links.iter().filter_map(|l| Some((l.header.index, name(l)?))).collect()
}

/// Asks the kernel for routes of our protocol number alone.
pub(crate) fn our_routes_filter(family: Family) -> RouteMessage {
    let mut filter = RouteMessage::default();
    filter.header.address_family = address_family(family);
    filter.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    filter
}

/// Asks the kernel for unicast routes of table main alone.
pub(crate) fn main_routes_filter(family: Family) -> RouteMessage {
    let mut filter = RouteMessage::default();
    filter.header.address_family = address_family(family);
    filter.header.table = 254;
    filter.header.kind = RouteType::Unicast;
    filter
}

/// Asks the kernel for all routes of one table.
pub(crate) fn routes_of_table_filter(family: Family, table: u32) -> RouteMessage {
    let mut filter = RouteMessage::default();
    filter.header.address_family = address_family(family);
    filter.attributes.push(RouteAttribute::Table(table));
    filter
}

pub(crate) fn encode_rule(rule: &RoutingRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)));
    match rule.action {
        RuleAction::Lookup { table, suppress_prefix } => {
            message.header.action = WireAction::ToTable;
            attributes.push(RuleAttribute::Table(table));
            if let Some(length) = suppress_prefix {
                attributes.push(RuleAttribute::SuppressPrefixLen(u32::from(length)));
            }
        }
        RuleAction::Unreachable => message.header.action = WireAction::Unreachable,
    }
    if let Some(interface) = &rule.in_interface {
        attributes.push(RuleAttribute::Iifname(interface.clone()));
    }
    if let Some((value, mask)) = rule.mark {
        attributes.push(RuleAttribute::FwMark(value));
        attributes.push(RuleAttribute::FwMask(mask));
    }
    if let Some(destination) = rule.destination {
        attributes.push(RuleAttribute::Destination(destination.addr()));
        message.header.dst_len = destination.prefix_len();
    }
    message
}

/// The rule that `message` tells of; `None` if it has another protocol number than
/// ours, or does what no rule of ours does.
pub(crate) fn decode_rule(family: Family, message: &RuleMessage) -> Option<RoutingRule> {
    let header = &message.header;
    let plain = header.family == address_family(family)
        && matches!(header.action, WireAction::ToTable | WireAction::Unreachable)
        && header.src_len == 0
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert);
    if !plain {
        return None;
    }
    let (mut value, mut value_mask, mut protocol, mut suppress) =
        (None, None, None, NO_SUPPRESSION);
    let mut table = u32::from(header.table);
    let (mut priority, mut in_interface, mut address) = (0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Protocol(number) => protocol = Some(u8::from(*number)),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::SuppressPrefixLen(length) => suppress = *length,
            RuleAttribute::Iifname(name) => in_interface = Some(name.clone()),
            RuleAttribute::FwMark(number) => value = Some(*number),
            RuleAttribute::FwMask(number) => value_mask = Some(*number),
            RuleAttribute::Destination(ip) => address = Some(*ip),
            RuleAttribute::Source(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::Goto(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::SuppressIfGroup(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::L3MDev(true)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => return None,
            _ => {}
        }
    }
    if protocol != Some(ROUTE_PROTOCOL) {
        return None;
    }
    let destination = match address {
        Some(ip) => Some(IpNet::new(ip, header.dst_len).ok()?),
        None => None,
    };
    let mark = match (value, value_mask) {
        (None, None) => None,
        (value, bits) => Some((value.unwrap_or(0), bits.unwrap_or(u32::MAX))),
    };
    let suppress_prefix = match suppress {
        NO_SUPPRESSION => None,
        length => Some(u8::try_from(length).ok()?),
    };
    let action = match header.action {
        WireAction::Unreachable => RuleAction::Unreachable,
        _ => RuleAction::Lookup { table, suppress_prefix },
    };
    Some(RoutingRule { family, priority, in_interface, mark, destination, action })
}

/// The message for `route` through the interface of that index, or why there is none.
pub(crate) fn encode_route(route: &Route, interface: u32) -> Result<RouteMessage, &'static str> {
    let family = route.family();
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = address_family(family);
    header.destination_prefix_length = route.destination.prefix_len();
    header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    header.kind = RouteType::Unicast;
    // IPv6 has no scopes; the kernel ignores what is sent.
    header.scope = if route.gateway.is_none() { RouteScope::Link } else { RouteScope::Universe };
    if route.onlink {
        header.flags = RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    attributes.push(RouteAttribute::Oif(interface));
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route.destination.addr().into()));
    }
    match (family, route.gateway) {
        (_, None) => {}
        (Family::V4, Some(IpAddr::V6(gateway))) => {
            attributes.push(RouteAttribute::Via(RouteVia::Inet6(gateway)));
        }
        (Family::V6, Some(IpAddr::V4(_))) => {
            return Err("an IPv6 route cannot have an IPv4 gateway");
        }
        (_, Some(gateway)) => attributes.push(RouteAttribute::Gateway(gateway.into())),
    }
    Ok(message)
}

/// The route that `message` tells of; `None` if it is none that we could have made.
pub(crate) fn decode_route(
    family: Family,
    message: &RouteMessage,
    names: &BTreeMap<u32, String>,
) -> Option<Route> {
    let header = &message.header;
    if u8::from(header.protocol) != ROUTE_PROTOCOL || header.kind != RouteType::Unicast {
        return None;
    }
    let hops = next_hops(message);
    let [hop] = hops.as_slice() else { return None };
    Some(Route {
        table: table_of(message),
        destination: destination(family, message)?,
        gateway: hop.gateway,
        interface: names.get(&hop.interface)?.clone(),
        onlink: hop.onlink,
    })
}

/// Table number of a route.
pub(crate) fn table_of(message: &RouteMessage) -> u32 {
    let long = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    long.unwrap_or_else(|| u32::from(message.header.table))
}

/// Destination of a route; the kernel leaves the address of a default route out.
pub(crate) fn destination(family: Family, message: &RouteMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(address) => Some(address),
        _ => None,
    });
    let address = match (address, family) {
        (Some(address), _) => ip_of(address)?,
        (None, Family::V4) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        (None, Family::V6) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new(address, message.header.destination_prefix_length).ok()
}

/// One way of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: u32,
    pub(crate) onlink: bool,
}

/// The ways of a route: one, or those of a multipath route.
pub(crate) fn next_hops(message: &RouteMessage) -> Vec<NextHop> {
    let several = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    if let Some(hops) = several {
        let decode = |hop: &rtnetlink::packet_route::route::RouteNextHop| NextHop {
            gateway: gateway(&hop.attributes),
            interface: hop.interface_index,
            onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
        };
        return hops.iter().map(decode).collect();
    }
    let interface = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    let gateway = gateway(&message.attributes);
    interface.map(|interface| NextHop { gateway, interface, onlink }).into_iter().collect()
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// A rule as `ip rule` writes it.
pub(crate) fn describe_rule(rule: &RoutingRule) -> String {
    let mut text = format!("rule {}", rule.priority);
    // Writing to a string cannot fail.
    if let Some(destination) = rule.destination {
        let _ = write!(text, " to {destination}");
    }
    if let Some(interface) = &rule.in_interface {
        let _ = write!(text, " iif {interface}");
    }
    if let Some((value, mask)) = rule.mark {
        let _ = write!(text, " fwmark {value:#x}/{mask:#x}");
    }
    let _ = match rule.action {
        RuleAction::Lookup { table: MAIN_TABLE, .. } => write!(text, " lookup main"),
        RuleAction::Lookup { table, .. } => write!(text, " lookup {table}"),
        RuleAction::Unreachable => write!(text, " unreachable"),
    };
    if let RuleAction::Lookup { suppress_prefix: Some(length), .. } = rule.action {
        let _ = write!(text, " suppress_prefixlength {length}");
    }
    let _ = write!(text, " ({})", rule.family);
    text
}

/// A route as `ip route` writes it.
pub(crate) fn describe_route(route: &Route) -> String {
    let mut text = match route.destination.prefix_len() {
        0 => "route default".to_owned(),
        _ => format!("route {}", route.destination),
    };
    if let Some(gateway) = route.gateway {
        let _ = write!(text, " via {gateway}");
    }
    let _ = write!(text, " dev {} table {}", route.interface, route.table);
    if route.onlink {
        text.push_str(" onlink");
    }
    let _ = write!(text, " ({})", route.family());
    text
}
