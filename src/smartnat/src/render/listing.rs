//! Kernel objects of ours as lines of text, in the words of the tools that show them.

use std::collections::BTreeMap;

use smartnat_core::model::Family;
use smartnat_core::nft_text;
use smartnat_core::objects::nft::{NFT_TABLE, NftTable};
use smartnat_core::objects::{
    KernelState, Route, RoutingRule, RuleAction, XtTableId, XtTableState,
};
use smartnat_core::xtables_text::render_rule;

/// Lines by section (`iptables nat`) and object (`chain SMARTNAT-IN`).
pub type Listing = BTreeMap<(String, String), Vec<String>>;

/// Everything that a kernel holds of ours.
pub fn listing(state: &KernelState) -> Listing {
    let mut listing = Listing::new();
    add_tables("", &state.xtables, &mut listing);
    add_tables(" (other flavour)", &state.other_xtables, &mut listing);
    for (name, set) in &state.sets {
        let (kind, family) = (set.spec.kind.type_name(), set.spec.family);
        let elements = set.elements.iter().map(ToString::to_string).collect();
        listing.insert(("ipset".into(), format!("set {name} {kind} {family}")), elements);
    }
    if let Some(table) = &state.nft {
        add_nft(table, &mut listing);
    }
    for rule in &state.rules {
        let section = if rule.family == Family::V4 { "ip rule" } else { "ip -6 rule" };
        listing.insert((section.into(), rule_text(rule)), Vec::new());
    }
    for route in &state.routes {
        let section = if route.family() == Family::V4 { "ip route" } else { "ip -6 route" };
        let table = (section.to_owned(), format!("table {}", route.table));
        listing.entry(table).or_default().push(route_text(route));
    }
    for (key, sysctl) in &state.sysctls {
        let object = ("sysctl".to_owned(), key.to_string());
        listing.insert(object, vec![format!("= {}", sysctl.value)]);
    }
    listing
}

fn add_tables(which: &str, tables: &BTreeMap<XtTableId, XtTableState>, listing: &mut Listing) {
    for (id, table) in tables {
        let section = section_of(*id) + which;
        for (chain, rules) in &table.chains {
            let rules = rules.iter().map(|rule| render_rule(id.family, rule)).collect();
            listing.insert((section.clone(), format!("chain {chain}")), rules);
        }
        for (hook, jumps) in table.jumps.iter().filter(|(_, jumps)| !jumps.is_empty()) {
            let jumps = jumps.iter().map(|rule| render_rule(id.family, rule)).collect();
            listing.insert((section.clone(), format!("jump from {}", hook.name())), jumps);
        }
    }
}

/// Sets and maps with their elements, one a line, and chains with their rules.
fn add_nft(table: &NftTable, listing: &mut Listing) {
    let section = || "nftables".to_owned();
    listing.insert((section(), format!("table inet {NFT_TABLE}")), Vec::new());
    for (name, set) in &table.sets {
        let mut lines = nft_text::declaration(&set.spec);
        let element = |(key, element)| nft_text::render_element(&set.spec, key, element);
        lines.extend(set.elements.iter().map(element));
        listing.insert((section(), format!("{} {name}", nft_text::kind_of(&set.spec))), lines);
    }
    for (name, chain) in &table.chains {
        let lines = nft_text::chain_lines(&table.sets, chain);
        listing.insert((section(), format!("chain {name}")), lines);
    }
}

fn section_of(id: XtTableId) -> String {
    let program = if id.family == Family::V4 { "iptables" } else { "ip6tables" };
    format!("{program} {}", id.table.name())
}

fn rule_text(rule: &RoutingRule) -> String {
    let mut words = vec![format!("{}:", rule.priority)];
    if let Some(destination) = rule.destination {
        words.push(format!("to {destination}"));
    }
    if let Some(interface) = &rule.in_interface {
        words.push(format!("iif {interface}"));
    }
    if let Some((value, mask)) = rule.mark {
        words.push(format!("fwmark {value:#x}/{mask:#x}"));
    }
    match rule.action {
        RuleAction::Lookup { table, suppress_prefix } => {
            words.push(format!("lookup {table}"));
            words.extend(suppress_prefix.map(|length| format!("suppress_prefixlength {length}")));
        }
        RuleAction::Unreachable => words.push("unreachable".into()),
    }
    words.join(" ")
}

fn route_text(route: &Route) -> String {
    let gateway = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let onlink = if route.onlink { " onlink" } else { "" };
    format!("{}{gateway} dev {}{onlink}", route.destination, route.interface)
}
