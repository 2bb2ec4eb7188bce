//! What others have in the way: their policies and rules, evaluated as far as that is possible.

mod evaluate;
mod rule;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Family;
use crate::objects::BuiltinHook;
use crate::xtables_text::SavedTables;

pub(super) use evaluate::{Fate, Finding, Passing, Point};

/// Everything of others that a packet may meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Foreign {
    /// Tables of iptables.
    pub tables: Vec<ForeignRules>,
    /// Base chains of nftables whose policy drops; what their rules accept is not known.
    pub dropping_chains: Vec<DroppingChain>,
    /// What could not be read.
    pub unreadable: Vec<String>,
}

/// One table of iptables without what is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ForeignRules {
    /// `iptables-nft` or `iptables-legacy`.
    pub program: String,
    /// Which of the two families.
    pub family: Family,
    /// Its name.
    pub table: String,
    /// Our rules are, or will be, in a table of this program.
    pub beside_ours: bool,
    /// Its built-in chains.
    pub builtins: BTreeMap<String, ForeignBuiltin>,
    /// User-defined chains, as `iptables-save` prints their rules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chains: BTreeMap<String, Vec<String>>,
}

/// A built-in chain without what is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ForeignBuiltin {
    /// What no rule decides is dropped.
    pub drops: bool,
    /// Rules before our jump.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// Rules after it, or all where there is none: ours goes to the head.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// A base chain of nftables that drops what its rules do not accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DroppingChain {
    /// For people.
    pub name: String,
    /// The families that come to it.
    pub families: Vec<Family>,
    /// Where it sees packets.
    pub hook: BuiltinHook,
}

impl Foreign {
    /// Adds what a program printed of one family, of whose tables these have or will have rules of
    /// ours.
    pub fn add_tables(
        &mut self,
        program: &str,
        family: Family,
        beside_ours: impl Fn(&str) -> bool,
        saved: &SavedTables,
    ) {
        for (name, table) in &saved.foreign {
            if table.is_untouched() {
                continue;
            }
            let mut builtins: BTreeMap<String, ForeignBuiltin> = BTreeMap::new();
            for (chain, policy) in table.policies.iter().filter(|(_, policy)| *policy == "DROP") {
                builtins.entry(chain.clone()).or_default().drops = policy == "DROP";
            }
            for (chain, rules) in table.builtin_rules.iter().filter(|(_, r)| !r.is_empty()) {
                let ahead = saved.rules_ahead.get(&(name.clone(), chain.clone())).copied();
                let (before, after) = rules.split_at(ahead.unwrap_or(0).min(rules.len()));
                let builtin = builtins.entry(chain.clone()).or_default();
                builtin.before = before.to_vec();
                builtin.after = after.to_vec();
            }
            self.tables.push(ForeignRules {
                program: program.to_owned(),
                family,
                table: name.clone(),
                beside_ours: beside_ours(name),
                builtins,
                chains: table.chains.clone(),
            });
        }
        let unreadable = saved.unreadable.iter();
        self.unreadable.extend(unreadable.map(|t| format!("table {t} ({program}, {family})")));
    }
}
