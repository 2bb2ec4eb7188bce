//! Policy routing: `ip rule` and `ip route`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::Family;

/// What a routing rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RuleAction {
    /// `lookup TABLE`.
    Lookup {
        /// The table.
        table: u32,
        /// `suppress_prefixlength`: results with a prefix no longer than this do not count.
        suppress_prefix: Option<u8>,
    },
    /// `unreachable`: the packet goes nowhere, and its sender is told.
    Unreachable,
}

/// An `ip rule` of ours. The kernel refuses a second equal one at the same priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoutingRule {
    /// Family of the rule list.
    pub family: Family,
    /// `pref`.
    pub priority: u32,
    /// `iif`.
    pub in_interface: Option<String>,
    /// `fwmark VALUE/MASK`.
    pub mark: Option<(u32, u32)>,
    /// `to PREFIX`.
    pub destination: Option<IpNet>,
    /// What it does.
    pub action: RuleAction,
}

/// A route in one of our tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Table number.
    pub table: u32,
    /// Destination, host bits zero.
    pub destination: IpNet,
    /// Next hop; absent: on link.
    pub gateway: Option<IpAddr>,
    /// Output interface.
    pub interface: String,
    /// Accept a gateway that is on no connected subnet.
    pub onlink: bool,
}

impl Route {
    /// Family of the route.
    pub fn family(&self) -> Family {
        Family::of(&self.destination.addr())
    }
}
