//! The external addresses of a Mapping.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::Problem;

/// Parses `spec.addresses`; what can be no external address goes to `problems`.
pub(super) fn parse(texts: &[String], problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    if texts.is_empty() {
        problems.push(Problem::missing(
            "spec.addresses",
            "is empty; list at least one external address of a gateway",
        ));
    }
    let mut addresses = Vec::with_capacity(texts.len());
    let mut seen = BTreeMap::new();
    for (i, text) in texts.iter().enumerate() {
        let field = format!("spec.addresses[{i}]");
        match external(text) {
            Err(message) => problems.push(Problem::new(field, text, message)),
            Ok(address) => match seen.get(&address) {
                None => {
                    seen.insert(address, i);
                    addresses.push(address);
                }
                Some(first) => problems.push(Problem::new(
                    field,
                    text,
                    format!("is the address of spec.addresses[{first}] again; remove one of them"),
                )),
            },
        }
    }
    addresses
}

/// The address, or why traffic to it cannot come in from outside.
fn external(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err("is no IP address; write one like 203.0.113.10 or 2001:db8::10, without \
                    prefix length, port, zone or blanks"
            .into());
    };
    if let Some(mapped) = mapped(address) {
        return Err(format!("is an IPv4-mapped IPv6 address; write it as {mapped}"));
    }
    match unusable(address) {
        Some(kind) => Err(format!("is {kind}; write an external address of a gateway")),
        None => Ok(address),
    }
}

/// The IPv4 address inside an IPv4-mapped IPv6 address.
pub(super) fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

/// Whether a routed connection can go to `address`.
pub(crate) fn is_routable(address: IpAddr) -> bool {
    unusable(address).is_none()
}

/// What kind of address it is, if no routed connection can go to it.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    if mapped(address).is_some() {
        Some("an IPv4-mapped IPv6 address")
    } else if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else if link_local {
        Some("a link-local address")
    } else {
        None
    }
}
