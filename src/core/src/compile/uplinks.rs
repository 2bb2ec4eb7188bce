//! Which interfaces are uplinks, their numbers, subnets and gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::dataplane::Uplink;
use crate::lower::{mark_chain_uplinks, uplink_numbers};
use crate::marks::MarkLayout;
use crate::model::{Family, GatewayConfig, HostState, Link};
use crate::objects::KernelState;

/// Numbers of uplinks by interface name. A number stays with its uplink.
pub type UplinkNumbers = BTreeMap<String, u32>;

/// The numbers that the kernel's objects of ours speak of (P9: adopted from the host).
pub fn adopt_numbers(observed: &KernelState, config: &GatewayConfig) -> UplinkNumbers {
    let marks = MarkLayout::new(config.mark_mask);
    let mut numbers = UplinkNumbers::new();
    let mut taken = BTreeSet::new();
    let from_table = uplink_numbers(observed);
    let from_marks = mark_chain_uplinks(observed, marks);
    let from_routes = observed
        .routes
        .iter()
        .map(|r| (r.interface.clone(), r.table.wrapping_sub(config.table_base)));
    for (name, number) in from_table.into_iter().chain(from_marks).chain(from_routes) {
        let valid = (1..=marks.max_uplinks()).contains(&number);
        if valid && !numbers.contains_key(&name) && taken.insert(number) {
            numbers.insert(name, number);
        }
    }
    numbers
}

/// Whether the configuration takes an interface of this name as uplink, default interface aside.
pub fn is_uplink_name(name: &str, config: &GatewayConfig) -> bool {
    config.uplink_names.iter().any(|n| n == name) || matches_pattern(name, config)
}

fn matches_pattern(name: &str, config: &GatewayConfig) -> bool {
    !config.uplink_pattern.is_empty()
        && regex_lite::Regex::new(&format!("^(?:{})$", config.uplink_pattern))
            .is_ok_and(|pattern| pattern.is_match(name))
}

/// The interface by which the host is administered: configured, else that of its default route.
fn default_interface<'a>(host: &'a HostState, config: &'a GatewayConfig) -> Option<&'a str> {
    config
        .default_interface
        .as_deref()
        .or_else(|| host.default_interface(Family::V4))
        .or_else(|| host.default_interface(Family::V6))
}

/// The names of the interfaces that are uplinks, those that no number is left for included.
pub fn uplink_names<'a>(host: &'a HostState, config: &GatewayConfig) -> Vec<&'a String> {
    let administrative = default_interface(host, config);
    host.links
        .keys()
        .filter(|name| name.as_str() != "lo" && is_uplink_name(name, config))
        .filter(|name| Some(name.as_str()) != administrative || config.uplink_names.contains(name))
        .collect()
}

/// All uplinks, and warnings about interfaces that cannot be one.
pub(super) fn uplinks(
    host: &HostState,
    config: &GatewayConfig,
    marks: MarkLayout,
    numbers: &UplinkNumbers,
) -> (BTreeMap<String, Uplink>, Vec<String>) {
    let administrative = default_interface(host, config);
    let mut free = free_numbers(marks, numbers, host);
    let mut warnings = Vec::new();
    let mut uplinks = BTreeMap::new();
    for name in uplink_names(host, config) {
        let Some(number) = numbers.get(name).copied().or_else(|| free.next()) else {
            warnings.push(format!(
                "uplink {name} is left out: markMask {:#x} has room for {} uplinks; widen it",
                config.mark_mask,
                marks.max_uplinks()
            ));
            continue;
        };
        let dedicated = Some(name.as_str()) != administrative || config.guard_default_interface;
        uplinks.insert(
            name.clone(),
            Uplink {
                number,
                dedicated,
                guarded: config.guard && dedicated,
                ..describe(name, &host.links[name], host, config)
            },
        );
    }
    warnings.extend(uplinks.iter().filter_map(|(name, uplink)| unrouted(name, uplink, host)));
    let inside = inside_subnets(host, &uplinks);
    for uplink in uplinks.values_mut() {
        let overlaps = |net: &IpNet| inside.iter().any(|i| i.contains(net) || net.contains(i));
        uplink.exclusive = uplink.connected.iter().filter(|n| !overlaps(n)).copied().collect();
    }
    (uplinks, warnings)
}

/// With reverse-path filtering the kernel answers no ARP of a router that main has no way to.
fn unrouted(name: &str, uplink: &Uplink, host: &HostState) -> Option<String> {
    let gateway = *uplink.gateways.get(&Family::V4)?;
    let on_link = uplink.connected.iter().any(|net| net.contains(&gateway));
    (uplink.up && !on_link && host.route_to(gateway).is_none()).then(|| {
        format!(
            "uplink {name}: no route leads to its gateway {gateway}, so its ARP requests are not answered: ip route add {gateway} dev {name}"
        )
    })
}

/// Subnets of interfaces that are no uplinks.
fn inside_subnets(host: &HostState, uplinks: &BTreeMap<String, Uplink>) -> Vec<IpNet> {
    host.links
        .iter()
        .filter(|(name, _)| uplinks.get(*name).is_none_or(|u| !u.dedicated))
        .flat_map(|(_, link)| link.addresses.iter().filter(|a| !a.link_local))
        .map(|a| a.address.trunc())
        .collect()
}

/// Addresses of the host's other links.
pub(super) fn inside_addresses(
    host: &HostState,
    uplinks: &BTreeMap<String, Uplink>,
) -> BTreeSet<IpAddr> {
    let links = host.links.iter().filter(|(name, _)| !uplinks.contains_key(*name));
    links.flat_map(|(_, link)| link.addresses.iter().map(|a| a.address.addr())).collect()
}

/// Numbers that no uplink has; those of vanished interfaces last, since they may come back.
fn free_numbers(
    marks: MarkLayout,
    numbers: &UplinkNumbers,
    host: &HostState,
) -> impl Iterator<Item = u32> + use<> {
    let taken: BTreeSet<u32> = numbers.values().copied().collect();
    let vanished: BTreeSet<u32> = numbers
        .iter()
        .filter(|(name, _)| !host.links.contains_key(*name))
        .map(|(_, number)| *number)
        .collect();
    (1..=marks.max_uplinks()).filter(move |n| !taken.contains(n)).chain(vanished)
}

fn describe(name: &str, link: &Link, host: &HostState, config: &GatewayConfig) -> Uplink {
    let external: Vec<IpNet> =
        link.addresses.iter().filter(|a| !a.link_local).map(|a| a.address).collect();
    let connected: BTreeSet<IpNet> = external
        .iter()
        .filter(|net| net.prefix_len() < net.max_prefix_len())
        .map(IpNet::trunc)
        .collect();
    let gateways = Family::ALL
        .into_iter()
        .filter(|f| external.iter().any(|net| Family::of(&net.addr()) == *f))
        .filter_map(|f| gateway(name, f, &external, host, config).map(|g| (f, g)))
        .collect();
    Uplink {
        number: 0,
        up: link.up,
        addresses: external.iter().map(IpNet::addr).collect(),
        connected,
        exclusive: BTreeSet::new(),
        gateways,
        guarded: false,
        dedicated: false,
    }
}

/// Configured, else the host's own default route through the interface, else the offset.
fn gateway(
    name: &str,
    family: Family,
    external: &[IpNet],
    host: &HostState,
    config: &GatewayConfig,
) -> Option<IpAddr> {
    let configured = config.gateways.get(name).and_then(|g| match family {
        Family::V4 => g.ipv4,
        Family::V6 => g.ipv6,
    });
    let routed = || {
        host.routes
            .iter()
            .filter(|r| r.interface == name && r.destination.prefix_len() == 0)
            .filter(|r| Family::of(&r.destination.addr()) == family)
            .min_by_key(|r| r.metric)
            .and_then(|r| r.gateway)
    };
    let by_offset = || {
        let first = external.iter().find(|net| Family::of(&net.addr()) == family)?;
        let own: Vec<IpAddr> = external.iter().map(IpNet::addr).collect();
        offset_address(first, config.gateway_offset).filter(|g| !own.contains(g))
    };
    configured.or_else(routed).or_else(by_offset)
}

/// The address `offset` from the network address, or from the broadcast address if negative (IPv4 only).
fn offset_address(subnet: &IpNet, offset: i32) -> Option<IpAddr> {
    if subnet.prefix_len() == subnet.max_prefix_len() {
        return None;
    }
    let address: IpAddr = match subnet {
        IpNet::V4(net) => {
            let base = if offset > 0 { net.network() } else { net.broadcast() };
            let value = i64::from(u32::from(base)) + i64::from(offset);
            u32::try_from(value).ok().map(|v| IpAddr::V4(v.into()))
        }
        IpNet::V6(net) => {
            let offset = u128::try_from(offset).ok()?;
            u128::from(net.network()).checked_add(offset).map(|v| IpAddr::V6(v.into()))
        }
    }?;
    subnet.contains(&address).then_some(address)
}

/// Why there is no uplink, with the mend.
pub(super) fn nothing_matches(host: &HostState, config: &GatewayConfig) -> String {
    let links: Vec<&str> = host.links.keys().map(String::as_str).filter(|n| *n != "lo").collect();
    let reserved = default_interface(host, config)
        .filter(|name| is_uplink_name(name, config))
        .map(|name| {
            format!("; {name} matches but carries the host's default route: name it with --uplink {name} to use it")
        })
        .unwrap_or_default();
    format!(
        "no uplink: pattern {:?} and names {:?} match no interface of this host ({}){reserved}",
        config.uplink_pattern,
        config.uplink_names,
        links.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_offset_counts_from_the_network_or_back_from_the_broadcast_address() {
        let cases = [
            ("198.51.100.10/24", 1, Some("198.51.100.1")),
            ("198.51.100.10/24", -1, Some("198.51.100.254")),
            ("198.51.100.10/30", 300, None),
            ("198.51.100.10/32", 1, None),
            ("2001:db8::10/64", 1, Some("2001:db8::1")),
            ("2001:db8::10/64", -1, None),
            ("2001:db8::10/128", 1, None),
        ];
        for (subnet, offset, expected) in cases {
            let found = offset_address(&subnet.parse().unwrap(), offset);
            assert_eq!(found, expected.map(|e| e.parse().unwrap()), "{subnet} {offset}");
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_name_only() {
        let config = GatewayConfig { uplink_pattern: "eth[12]|ext".into(), ..Default::default() };
        for (name, expected) in
            [("eth1", true), ("ext", true), ("eth12", false), ("veth1", false), ("next", false)]
        {
            assert_eq!(is_uplink_name(name, &config), expected, "{name}");
        }
    }
}
