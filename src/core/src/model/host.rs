//! The host: links, addresses and routes as the kernel reports them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Family;

/// Links, addresses and routes of this host. Ours are left out of `routes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostState {
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Unicast routes of table main (254), in the kernel's order.
    pub routes: Vec<HostRoute>,
    /// Families that the kernel has; IPv6 may be disabled.
    pub families: Vec<Family>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Its addresses, without those that are tentative or failed duplicate detection.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceAddress {
    /// Address with the prefix length of its subnet (host bits kept).
    pub address: IpNet,
    /// Scope link or host: no external address.
    #[serde(default)]
    pub link_local: bool,
}

/// A route of table main.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRoute {
    /// Destination; a default route has prefix length 0.
    pub destination: IpNet,
    /// Next hop, absent for a connected route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Output interface.
    pub interface: String,
    /// Metric; smaller wins.
    #[serde(default)]
    pub metric: u32,
}

impl HostState {
    /// Whether the kernel has this family.
    pub fn has_family(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// The interface of the best default route of `family`.
    pub fn default_interface(&self, family: Family) -> Option<&str> {
        self.routes
            .iter()
            .filter(|r| r.destination.prefix_len() == 0)
            .filter(|r| Family::of(&r.destination.addr()) == family)
            .min_by_key(|r| r.metric)
            .map(|r| r.interface.as_str())
    }

    /// The interface by which main routes to `address`: longest prefix, then smallest metric.
    pub fn route_to(&self, address: IpAddr) -> Option<&HostRoute> {
        self.routes
            .iter()
            .filter(|r| r.destination.contains(&address))
            .max_by_key(|r| (r.destination.prefix_len(), std::cmp::Reverse(r.metric)))
    }
}
