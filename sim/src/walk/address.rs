//! Which source address the kernel chooses.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use smartnat_core::model::InterfaceAddress;

use crate::kernel::Links;

/// The source address of packets to `destination` over `interface` by `next_hop`.
pub(super) fn select(
    links: &Links,
    interface: &str,
    next_hop: IpAddr,
    destination: IpAddr,
) -> Option<IpAddr> {
    match destination {
        IpAddr::V4(_) => select_v4(links, interface, next_hop),
        IpAddr::V6(v6) => select_v6(links, interface, v6),
    }
}

/// `inet_select_addr`: the first primary address whose subnet has the next hop, else the first
/// primary one, else one of another link.
fn select_v4(links: &Links, interface: &str, next_hop: IpAddr) -> Option<IpAddr> {
    let own = links.get(interface).map(|link| primary(&link.addresses)).unwrap_or_default();
    let fitting = own.iter().find(|net| net.contains(&next_hop)).or(own.first());
    if let Some(found) = fitting {
        return Some(found.addr());
    }
    let mut others: Vec<_> = links.iter().filter(|(_, link)| link.up).collect();
    others.sort_by_key(|(_, link)| link.index);
    others
        .into_iter()
        .flat_map(|(_, link)| primary(&link.addresses))
        .map(|net| net.addr())
        .find(|address| !address.is_loopback())
}

/// IPv4 addresses that are the first of their subnet (no `IFA_F_SECONDARY`).
fn primary(addresses: &[InterfaceAddress]) -> Vec<IpNet> {
    let mut found: Vec<IpNet> = Vec::new();
    for net in addresses.iter().map(|a| a.address).filter(|net| net.addr().is_ipv4()) {
        if !found.iter().any(|held| held.trunc() == net.trunc()) {
            found.push(net);
        }
    }
    found
}

/// Whether it is the destination itself, has its scope, is of the interface, has its label; the
/// length of the common prefix.
type Rank = (bool, bool, bool, bool, u8);

/// `ipv6_dev_get_saddr`, RFC 6724: own address, scope, interface, label, longest common prefix;
/// among equals the youngest, which heads the list of its link.
fn select_v6(links: &Links, interface: &str, destination: Ipv6Addr) -> Option<IpAddr> {
    let scope = scope(destination);
    let mut best: Option<(Rank, Ipv6Addr)> = None;
    for (name, link) in links.iter().filter(|(name, link)| link.up && *name != "lo") {
        for held in link.addresses.iter().rev() {
            let IpAddr::V6(address) = held.address.addr() else { continue };
            let common = (address.to_bits() ^ destination.to_bits()).leading_zeros();
            let common = u8::try_from(common).unwrap_or(128).min(held.address.prefix_len());
            let rank = (
                address == destination,
                self::scope(address) >= scope,
                name == interface,
                label(address) == label(destination),
                common,
            );
            if best.as_ref().is_none_or(|(held, _)| rank > *held) {
                best = Some((rank, address));
            }
        }
    }
    best.map(|(_, address)| address.into())
}

/// Larger is wider.
fn scope(address: Ipv6Addr) -> u8 {
    if address.is_loopback() {
        1
    } else if address.is_unicast_link_local() {
        2
    } else {
        14
    }
}

/// `ip6addrlbl_init_table`, the ranges that occur.
fn label(address: Ipv6Addr) -> u8 {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0x2002, ..] => 2,
        [first, ..] if first & 0xfe00 == 0xfc00 => 5,
        [0x2001, 0, ..] => 6,
        [0x2001, second, ..] if second & 0xfff0 == 0x10 => 7,
        _ => 1,
    }
}
