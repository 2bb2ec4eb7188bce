//! Settings of a gateway that decisions depend on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which kind of kernel objects carries the dataplane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// nftables: one table of our own.
    Nftables,
    /// iptables + ipset.
    #[default]
    Iptables,
    /// The simulated kernel.
    Simulated,
}

/// Which iptables programs are used; never both at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IptablesFlavour {
    /// The one that holds our or others' rules already, else what `iptables` is.
    #[default]
    Auto,
    /// `iptables-nft`.
    Nft,
    /// `iptables-legacy`.
    Legacy,
}

/// A configured gateway of one uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct UplinkGateway {
    /// IPv4 next hop.
    pub ipv4: Option<IpAddr>,
    /// IPv6 next hop.
    pub ipv6: Option<IpAddr>,
}

/// Settings of this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "independent settings")]
pub struct GatewayConfig {
    /// Name of this instance, usually the node's.
    pub instance: String,
    /// Regular expression that the whole name of an uplink matches.
    pub uplink_pattern: String,
    /// Uplinks by exact name; the only way to use the default route's interface as one.
    pub uplink_names: Vec<String>,
    /// The host's default-route interface; found by its routes if absent.
    pub default_interface: Option<String>,
    /// Cluster interfaces beside those found by routes.
    pub cluster_interfaces: Vec<String>,
    /// Configured gateways by uplink name.
    pub gateways: BTreeMap<String, UplinkGateway>,
    /// Gateway as offset in the uplink's subnet: 1 is the first address, -1 the last before broadcast.
    pub gateway_offset: i32,
    /// Pods see the gateway's address (T7).
    pub masquerade: bool,
    /// Pods leave with the Mapping's address (T13).
    pub egress: bool,
    /// Guard on uplinks (T3).
    pub guard: bool,
    /// Guard also on an uplink that is the default route's interface.
    pub guard_default_interface: bool,
    /// Entries of `spec.ports` in one Mapping.
    pub max_ports: usize,
    /// Bits of packet and connection mark that are ours; at least 5 bits.
    pub mark_mask: u32,
    /// Routing table of uplink number n is `table_base + n`.
    pub table_base: u32,
    /// First of our five consecutive `ip rule` priorities.
    pub rule_priority: u32,
    /// Which kind of kernel objects carries the dataplane.
    pub backend: Backend,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            instance: "smartnat".into(),
            uplink_pattern: String::new(),
            uplink_names: Vec::new(),
            default_interface: None,
            cluster_interfaces: Vec::new(),
            gateways: BTreeMap::new(),
            gateway_offset: 1,
            masquerade: true,
            egress: false,
            guard: true,
            guard_default_interface: false,
            max_ports: 50,
            mark_mask: 0x00ff_0000,
            table_base: 7000,
            rule_priority: 20_000,
            backend: Backend::default(),
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
#[error("{setting}: {value:?} {problem}")]
pub struct ConfigError {
    /// Name of the setting.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl GatewayConfig {
    /// Checks every setting that decisions rely on; all problems at once.
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        if let Err(error) = regex_lite::Regex::new(&self.uplink_pattern) {
            found.push(ConfigError {
                setting: "uplinkPattern",
                value: self.uplink_pattern.clone(),
                problem: format!("is no regular expression: {error}"),
            });
        }
        if self.mark_mask.count_ones() < 5 {
            found.push(ConfigError {
                setting: "markMask",
                value: format!("{:#x}", self.mark_mask),
                problem: "must have at least 5 bits set".into(),
            });
        }
        if self.max_ports == 0 {
            found.push(ConfigError {
                setting: "maxPorts",
                value: "0".into(),
                problem: "must be at least 1".into(),
            });
        }
        if !(256..=0x7fff_0000).contains(&self.table_base) {
            found.push(ConfigError {
                setting: "tableBase",
                value: self.table_base.to_string(),
                problem: "must be from 256 to 2147418112".into(),
            });
        }
        if !(1..=32_000).contains(&self.rule_priority) {
            found.push(ConfigError {
                setting: "rulePriority",
                value: self.rule_priority.to_string(),
                problem: "must be from 1 to 32000, before the rule of table main (32766)".into(),
            });
        }
        if self.gateway_offset == 0 {
            found.push(ConfigError {
                setting: "gatewayOffset",
                value: "0".into(),
                problem: "must not be 0; 1 is the first address of the subnet, -1 the last".into(),
            });
        }
        found
    }
}
