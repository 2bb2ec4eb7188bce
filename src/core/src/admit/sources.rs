//! Who may connect: source networks in canonical form.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::Family;

use super::Problem;
use super::addresses::mapped;

/// Networks that may connect, per family. Canonical: host bits cleared, merged, sorted, so
/// that equal permissions are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AllowedSources {
    /// IPv4 networks; empty: nobody, `0.0.0.0/0` alone: everyone.
    pub ipv4: Vec<IpNet>,
    /// IPv6 networks; empty: nobody, `::/0` alone: everyone.
    pub ipv6: Vec<IpNet>,
}

impl AllowedSources {
    /// Everyone, over both families.
    pub fn everyone() -> Self {
        let all = |address: IpAddr| vec![IpNet::new_assert(address, 0)];
        Self {
            ipv4: all(std::net::Ipv4Addr::UNSPECIFIED.into()),
            ipv6: all(std::net::Ipv6Addr::UNSPECIFIED.into()),
        }
    }

    /// The addresses of `networks` and no others, in canonical form.
    pub fn merged(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (ipv4, ipv6) = networks.into_iter().partition(|n| n.addr().is_ipv4());
        Self { ipv4: merge(ipv4), ipv6: merge(ipv6) }
    }

    /// Parses `spec.allowedSources`, where an empty list means everyone; what is no network
    /// goes to `problems`.
    pub(super) fn parse(texts: &[String], problems: &mut Vec<Problem>) -> Self {
        if texts.is_empty() {
            return Self::everyone();
        }
        let mut networks = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            match parse_network(text) {
                Ok(network) => networks.push(network),
                Err(message) => {
                    problems.push(Problem::new(format!("spec.allowedSources[{i}]"), text, message));
                }
            }
        }
        Self::merged(networks)
    }

    /// The networks of one family.
    pub fn of(&self, family: Family) -> &[IpNet] {
        match family {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        }
    }

    /// Whether `source` may connect.
    pub fn allows(&self, source: IpAddr) -> bool {
        self.of(Family::of(&source)).iter().any(|n| n.contains(&source))
    }

    /// Whether every address of the family may connect.
    pub fn is_everyone(&self, family: Family) -> bool {
        self.of(family).first().is_some_and(|n| n.prefix_len() == 0)
    }
}

/// A CIDR, whose host bits are masked, or a bare address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    const A_NETWORK: &str = "is no source; write a network like 198.51.100.0/24 or \
                             2001:db8::/32, or a bare IP address";
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| A_NETWORK)?;
    let bits = Family::of(&address).bits();
    let length = prefix.map_or(Some(bits), prefix_length);
    let network = length.and_then(|l| IpNet::new(address, l).ok()).ok_or_else(|| {
        format!("has no valid prefix length; write a number from 0 to {bits} after the slash")
    })?;
    match mapped(address) {
        Some(v4) if network.prefix_len() >= 96 => Err(format!(
            "is an IPv4-mapped IPv6 network; write it as {v4}/{}",
            network.prefix_len() - 96
        )),
        _ => Ok(network.trunc()),
    }
}

/// Digits only: the number parser of the standard library also takes a sign.
fn prefix_length(text: &str) -> Option<u8> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Drops networks that lie in others and joins halves, of one family.
fn merge(mut networks: Vec<IpNet>) -> Vec<IpNet> {
    for network in &mut networks {
        *network = network.trunc();
    }
    // By address, then the wider first: whatever contains a network comes before it.
    networks.sort_unstable();
    let mut merged: Vec<IpNet> = Vec::with_capacity(networks.len());
    for network in networks {
        if merged.last().is_some_and(|last| last.contains(&network)) {
            continue;
        }
        let mut network = network;
        while let Some(both) = merged.last().and_then(|last| joined(*last, network)) {
            merged.pop();
            network = both;
        }
        merged.push(network);
    }
    merged
}

/// The network whose two halves `lower` and `upper` are.
fn joined(lower: IpNet, upper: IpNet) -> Option<IpNet> {
    let both = lower.supernet()?;
    (lower != upper && upper.supernet() == Some(both)).then_some(both)
}

#[cfg(test)]
mod tests;
