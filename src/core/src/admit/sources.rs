//! Who may connect: source networks in canonical form.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::Family;

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
