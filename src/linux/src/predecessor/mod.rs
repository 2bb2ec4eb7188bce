//! What the Go version left in this network namespace, and its removal (T14).
//!
//! It made chains `SNM-*` and `MAP-NAME`, sets `DNAT-NAME` and `NAME`, where `NAME` has 24
//! base32 letters, and per interface a routing table with rules that lead to it, all of IPv4.

mod find;
mod names;
mod remove;
mod routes;

#[cfg(test)]
mod tests;

use std::fmt;

use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use serde::Serialize;
use smartnat_core::objects::{BuiltinHook, ChainName, SetName, XtTable};

use crate::xtables::Flavour;

pub use find::find;
pub use remove::{Removal, remove};

/// A chain of the Go version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftoverChain {
    /// In which flavour of iptables.
    #[serde(serialize_with = "flavour_name")]
    pub flavour: Flavour,
    /// Its table.
    pub table: XtTable,
    /// Its name.
    pub name: ChainName,
}

/// A rule of a built-in chain that jumps to a chain of the Go version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftoverJump {
    /// In which flavour of iptables.
    #[serde(serialize_with = "flavour_name")]
    pub flavour: Flavour,
    /// Its table.
    pub table: XtTable,
    /// The built-in chain.
    #[serde(serialize_with = "hook_name")]
    pub hook: BuiltinHook,
    /// The rule as `iptables-save` prints it, without its chain.
    pub rule: String,
}

/// A routing rule of the Go version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftoverRule {
    /// As `ip rule` writes it.
    pub rule: String,
    #[serde(skip)]
    message: RuleMessage,
}

/// A route in a table of the Go version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftoverRoute {
    /// As `ip route` writes it.
    pub route: String,
    #[serde(skip)]
    message: RouteMessage,
}

/// Everything that the Go version left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Leftovers {
    /// Jumps from built-in chains.
    pub jumps: Vec<LeftoverJump>,
    /// Chains.
    pub chains: Vec<LeftoverChain>,
    /// Sets.
    pub sets: Vec<SetName>,
    /// Routing rules.
    pub rules: Vec<LeftoverRule>,
    /// Routes in the tables that these rules lead to.
    pub routes: Vec<LeftoverRoute>,
    /// What could not be looked into, and why.
    pub unreadable: Vec<String>,
}

impl Leftovers {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.jumps.is_empty()
            && self.chains.is_empty()
            && self.sets.is_empty()
            && self.rules.is_empty()
            && self.routes.is_empty()
    }

    /// One line for each object, in the order of removal.
    pub fn describe(&self) -> Vec<String> {
        let rules = self.rules.iter().map(ToString::to_string);
        let routes = self.routes.iter().map(ToString::to_string);
        let jumps = self.jumps.iter().map(ToString::to_string);
        let chains = self.chains.iter().map(ToString::to_string);
        let sets = self.sets.iter().map(|name| format!("set {name}"));
        rules.chain(routes).chain(jumps).chain(chains).chain(sets).collect()
    }
}

impl fmt::Display for LeftoverChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {}/{} (iptables-{})", self.table.name(), self.name, self.flavour)
    }
}

impl fmt::Display for LeftoverJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, hook) = (self.table.name(), self.hook.name());
        write!(f, "rule in {table}/{hook} (iptables-{}): {}", self.flavour, self.rule)
    }
}

impl fmt::Display for LeftoverRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule)
    }
}

impl fmt::Display for LeftoverRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.route)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn flavour_name<S: serde::Serializer>(flavour: &Flavour, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(flavour.name())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn hook_name<S: serde::Serializer>(hook: &BuiltinHook, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(hook.name())
}
