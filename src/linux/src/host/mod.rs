//! The host as the core sees it: links, addresses, routes of table main.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};
use smartnat_core::model::{Family, HostRoute, HostState, InterfaceAddress, Link};
use smartnat_core::objects::ROUTE_PROTOCOL;
use smartnat_core::ops::OpError;

use crate::routing::{self, MAIN_TABLE, Routing, available_families, interface_names, table_of};

/// Reads links, addresses and routes of the network namespace that `routing` was opened in.
pub fn observe_host(routing: &mut Routing) -> Result<HostState, OpError> {
    let connection = routing.connection();
    let link_messages = connection.links().map_err(|e| e.about("list of links"))?;
    let addresses = connection.addresses().map_err(|e| e.about("list of addresses"))?;
    let names = interface_names(&link_messages);
    let mut links: BTreeMap<String, Link> = link_messages
        .iter()
        .filter_map(|m| Some((names.get(&m.header.index)?.clone(), decode_link(m))))
        .collect();
    for message in &addresses {
        let link = names.get(&message.header.index).and_then(|name| links.get_mut(name));
        if let (Some(link), Some(address)) = (link, decode_address(message)) {
            link.addresses.push(address);
        }
    }
    let families = available_families();
    let mut routes = Vec::new();
    for family in &families {
        let filter = routing::main_routes_filter(*family);
        let messages =
            connection.routes(filter).map_err(|e| e.about(format!("list of routes ({family})")))?;
        routes.extend(messages.iter().flat_map(|m| decode_routes(*family, m, &names)));
    }
    Ok(HostState { links, routes, families })
}

fn decode_link(message: &LinkMessage) -> Link {
    let carrier = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Carrier(carrier) => Some(*carrier != 0),
        _ => None,
    });
    let flags = message.header.flags;
    // Some virtual drivers report no operational state; the carrier is what counts.
    let carrier = carrier.unwrap_or(flags.contains(LinkFlags::LowerUp));
    Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up) && carrier,
        addresses: Vec::new(),
    }
}

fn decode_address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let header = &message.header;
    let (mut local, mut peer, mut flags) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(bits) => flags = Some(*bits),
            _ => {}
        }
    }
    let unusable = match flags {
        Some(bits) => bits.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        None => {
            header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
        }
    };
    // An optimistic address may be used while its duplicate detection runs.
    let optimistic = flags.is_some_and(|bits| {
        bits.contains(AddressFlags::Optimistic) && !bits.contains(AddressFlags::Dadfailed)
    });
    if unusable && !optimistic {
        return None;
    }
    // On a point-to-point link the address attribute is the peer's.
    let address: IpAddr = local.or(peer)?;
    let link_local = matches!(header.scope, AddressScope::Link | AddressScope::Host);
    Some(InterfaceAddress { address: IpNet::new(address, header.prefix_len).ok()?, link_local })
}

fn decode_routes(
    family: Family,
    message: &RouteMessage,
    names: &BTreeMap<u32, String>,
) -> Vec<HostRoute> {
    let header = &message.header;
    let wanted = table_of(message) == MAIN_TABLE
        && header.kind == RouteType::Unicast
        && u8::from(header.protocol) != ROUTE_PROTOCOL
        && !header.flags.contains(RouteFlags::Cloned);
    let Some(destination) = routing::destination(family, message).filter(|_| wanted) else {
        return Vec::new();
    };
    let metric = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let decode = |hop: routing::NextHop| {
        Some(HostRoute {
            destination,
            gateway: hop.gateway,
            interface: names.get(&hop.interface)?.clone(),
            metric: metric.unwrap_or(0),
        })
    };
    routing::next_hops(message).into_iter().filter_map(decode).collect()
}

#[cfg(test)]
mod tests;
