//! What traffic must do, free of any backend.

mod change;
mod exposure;

pub(crate) use change::{Before, Change, Changed, Exit, Moved};
pub(crate) use exposure::Exposure;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::admit::AllowedSources;
use crate::marks::MarkLayout;
use crate::model::{Family, ObjectKey, PortRange, Protocol};
use crate::objects::{BuiltinChain, SysctlKey};
use crate::resolve::EndpointSet;

/// What traffic must do on this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dataplane {
    /// How marks are laid out.
    pub marks: MarkLayout,
    /// Table of uplink n is `table_base + n`.
    pub table_base: u32,
    /// First rule priority.
    pub rule_priority: u32,
    /// Families of the kernel.
    pub families: Vec<Family>,
    /// Uplinks by interface name.
    pub uplinks: BTreeMap<String, Uplink>,
    /// Addresses of this host that are on no uplink: what leaves with one stays inside.
    pub inside_addresses: BTreeSet<IpAddr>,
    /// Families in which it was we who switched forwarding on: nothing else is forwarded (T4).
    pub closed_forwarding: BTreeSet<Family>,
    /// Mappings that have an address on this host.
    pub mappings: BTreeMap<ObjectKey, MappingPlane>,
    /// Egress by external address.
    pub egress: BTreeMap<IpAddr, EgressPlane>,
    /// Sysctls that must have a value.
    #[serde(with = "crate::objects::pairs")]
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// Built-in chains of iptables in which others judge packets, and an accept in nftables counts
    /// for nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub contested: BTreeSet<BuiltinChain>,
    /// The same in iptables' other flavour.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub other_contested: BTreeSet<BuiltinChain>,
}

/// An external interface with its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Uplink {
    /// Its number in marks and tables.
    pub number: u32,
    /// Whether the link is up; routes exist only then.
    pub up: bool,
    /// External addresses on it, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// Subnets on its link.
    pub connected: BTreeSet<IpNet>,
    /// Those of them that no other kind of interface leads to: beyond the cluster (T13).
    pub exclusive: BTreeSet<IpNet>,
    /// Next hops, one a family at most.
    pub gateways: BTreeMap<Family, IpAddr>,
    /// Guard (T3) is on.
    pub guarded: bool,
    /// No transit and no foreign source (T4); off on the interface of the host's default route.
    pub dedicated: bool,
}

/// A Mapping with an address on this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MappingPlane {
    /// Its addresses on this host.
    pub addresses: BTreeSet<IpAddr>,
    /// Who may connect.
    pub sources: AllowedSources,
    /// Endpoints see the gateway's address (T7).
    pub masquerade: bool,
    /// Ports in the order of the specification.
    pub ports: Vec<PortPlane>,
}

/// One exposed port or range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortPlane {
    /// Protocol.
    pub protocol: Protocol,
    /// External ports.
    pub ports: PortRange,
    /// Seconds that a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// Endpoints by family; a family without any is absent.
    pub endpoints: LiteMap<Family, EndpointSet>,
}

/// Pods that leave with one external address (T13).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EgressPlane {
    /// The uplink that holds the address.
    pub uplink: String,
    /// Addresses of the pods.
    pub pods: BTreeSet<IpAddr>,
}

impl Dataplane {
    /// All external addresses of a family on uplinks.
    pub fn external_addresses(&self, family: Family) -> BTreeSet<IpAddr> {
        self.uplinks
            .values()
            .flat_map(|u| u.addresses.iter().copied())
            .filter(|a| Family::of(a) == family)
            .collect()
    }

    /// Whether an uplink has this address.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        self.uplinks.values().any(|uplink| uplink.addresses.contains(&address))
    }
}
