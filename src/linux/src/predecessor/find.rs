//! Finding what the Go version left. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use smartnat_core::model::Family;
use smartnat_core::objects::{ChainName, SET_PREFIX, SetName, XtTable};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_core::xtables_text::ForeignTable;

use super::names::{is_chain, is_mapping_name, is_target_set, jump_target, mark_set, matched_sets};
use super::routes::{Evidence, SimpleRule, describe_route, table_names};
use super::{LeftoverChain, LeftoverJump, LeftoverRoute, LeftoverRule, Leftovers};
use crate::ipset::IpsetClient;
use crate::routing::{Routing, interface_names, routes_of_table_filter};
use crate::xtables::{Flavour, Xtables, XtablesSettings};

/// The tables in which the Go version made chains.
const TABLES: [XtTable; 2] = [XtTable::Nat, XtTable::Mangle];

/// Looks for what the Go version left in the calling thread's network namespace, in both
/// flavours of iptables. A part that cannot be read is named in the result.
pub fn find(settings: XtablesSettings) -> Result<Leftovers, OpError> {
    let mut left = Leftovers::default();
    let mut evidence = Evidence::default();
    let mut used_sets = BTreeSet::new();
    for flavour in Flavour::ALL {
        // A flavour without programs was not used by anybody.
        let Ok(mut xtables) = Xtables::detect(flavour.into(), settings) else { continue };
        match xtables.foreign() {
            Ok(tables) => {
                for table in TABLES {
                    if let Some(foreign) = tables.get(&(Family::V4, table.name().to_owned())) {
                        let search = TableSearch { flavour, table, foreign };
                        search.run(&mut left, &mut evidence.marks, &mut used_sets);
                    }
                }
            }
            Err(error) => left.unreadable.push(error.to_string()),
        }
    }
    match IpsetClient::open().and_then(|mut sets| sets.foreign_names(SET_PREFIX)) {
        Ok(names) => left.sets = sets_of(&names, &used_sets),
        Err(error) => left.unreadable.push(error.to_string()),
    }
    evidence.has_netfilter = !left.chains.is_empty() || !left.sets.is_empty();
    find_routes(&mut left, evidence)?;
    Ok(left)
}

/// The search in one table.
struct TableSearch<'a> {
    flavour: Flavour,
    table: XtTable,
    foreign: &'a ForeignTable,
}

impl TableSearch<'_> {
    fn run(&self, left: &mut Leftovers, marks: &mut BTreeSet<u32>, sets: &mut BTreeSet<String>) {
        let (flavour, table) = (self.flavour, self.table);
        for hook in table.hooks() {
            let rules = self.foreign.builtin_rules.get(hook.name());
            let jumps = rules.into_iter().flatten();
            let jumps = jumps.filter(|rule| jump_target(rule).is_some_and(is_chain));
            left.jumps.extend(jumps.map(|rule| LeftoverJump {
                flavour,
                table,
                hook: *hook,
                rule: rule.clone(),
            }));
        }
        for (name, rules) in self.foreign.chains.iter().filter(|(name, _)| is_chain(name)) {
            left.chains.push(LeftoverChain { flavour, table, name: ChainName(name.clone()) });
            sets.extend(name.strip_prefix("MAP-").map(str::to_owned));
            sets.extend(rules.iter().flat_map(|rule| matched_sets(rule)).map(str::to_owned));
            if table == XtTable::Mangle {
                marks.extend(rules.iter().filter_map(|rule| mark_set(rule)));
            }
        }
    }
}

/// Sets by their own name, and sets of pods that a chain or a set of the same Mapping tells of.
fn sets_of(names: &BTreeSet<String>, used: &BTreeSet<String>) -> Vec<SetName> {
    let is_pod_set = |name: &str| {
        is_mapping_name(name) && (used.contains(name) || names.contains(&format!("DNAT-{name}")))
    };
    let theirs = names.iter().filter(|name| is_target_set(name) || is_pod_set(name));
    theirs.cloned().map(SetName).collect()
}

fn find_routes(left: &mut Leftovers, mut evidence: Evidence) -> Result<(), OpError> {
    let socket = |error| OpError::new(OpErrorClass::Denied, "netlink socket", error);
    let mut routing = Routing::open().map_err(socket)?;
    let connection = routing.connection();
    let links = connection.links().map_err(|e| e.about("list of links"))?;
    evidence.interfaces = interface_names(&links);
    evidence.table_names = table_names();
    let messages = connection.rules(Family::V4).map_err(|e| e.about("list of rules (IPv4)"))?;
    let rules: Vec<_> = messages.iter().filter_map(|m| Some((SimpleRule::decode(m)?, m))).collect();
    let mut tables = BTreeMap::new();
    for (rule, _) in rules.iter().filter(|(rule, _)| rule.mark.is_some()) {
        let filter = routes_of_table_filter(Family::V4, rule.table);
        let routes = match connection.routes(filter).map_err(|e| e.about("list of routes (IPv4)")) {
            // A table without routes is none to the kernel.
            Err(error) if error.class == OpErrorClass::NotFound => Vec::new(),
            routes => routes?,
        };
        if evidence.convicts(rule, &routes) {
            tables.insert(rule.table, routes);
        }
    }
    for (rule, message) in rules {
        let routes = tables.get(&rule.table);
        let by_mark = routes.is_some_and(|routes| evidence.convicts(&rule, routes));
        let by_source = routes.is_some() && rule.mark.is_none() && rule.source.is_some();
        if by_mark || by_source {
            let text = rule.describe(&evidence.table_names);
            left.rules.push(LeftoverRule { rule: text, message: message.clone() });
        }
    }
    for (table, routes) in tables {
        left.routes.extend(routes.into_iter().filter_map(|message| {
            let route = describe_route(&message, table, &evidence)?;
            Some(LeftoverRoute { route, message })
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_set_is_believed_when_its_mapping_is_known() {
        let (a, b, c) = ("A".repeat(24), "B".repeat(24), "C".repeat(24));
        let names = [format!("DNAT-{a}"), a.clone(), b.clone(), c, "DNAT-short".into()].into();
        let used = [b.clone(), "blocklist".to_owned()].into();
        let found: Vec<String> = sets_of(&names, &used).into_iter().map(|s| s.0).collect();
        assert_eq!(found, [a.clone(), b, format!("DNAT-{a}")]);
    }
}
