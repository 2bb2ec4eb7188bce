//! Our table of nftables as text, the way `nft list table` (version 1.0.6) prints it.
//!
//! A rule is evaluated symbolically: each register holds what it was loaded with, so that a key is
//! the names of what it was put together from. What has no text is shown in brackets, `[ … ]`.
//!
//! Where nft itself has no text or a wrong one, this says what the kernel does: nft 1.0.6 ends with
//! a failed assertion (`netlink_parse_concat_expr`) when a part of a key was looked up in a map,
//! knows only the first register of a value of several, shows what was there before in the others,
//! and has no name for an address of which
//! the first bytes alone are read and masked.

mod comparison;
mod operand;
mod payload;
mod rule;
mod set;
#[cfg(test)]
mod tests;
mod value;

pub use rule::render_rule;
pub use set::{declaration, kind_of, render_element, render_key, render_set};

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::objects::BuiltinHook;
use crate::objects::nft::{
    NFT_TABLE, NFT_TABLE_COMMENT, NftBase, NftChain, NftName, NftSet, NftTable,
};

/// The sets and maps of a table: a key has as many registers as the set that it is looked up in
/// says.
pub type NftSets = BTreeMap<NftName, NftSet>;

/// The whole table, sets before chains, both in order of their names, with all elements.
pub fn render_table(table: &NftTable) -> String {
    let mut text = format!("table inet {NFT_TABLE} {{\n\tcomment \"{NFT_TABLE_COMMENT}\"\n");
    let sets = table.sets.iter().map(|(name, set)| render_set(name, set, usize::MAX));
    let chains = table.chains.iter().map(|(name, chain)| render_chain(&table.sets, name, chain));
    for block in sets.chain(chains) {
        text.push('\n');
        for line in block.lines() {
            let _ = writeln!(text, "\t{line}");
        }
    }
    text.push_str("}\n");
    text
}

/// A chain with its rules, one a line.
pub fn render_chain(sets: &NftSets, name: &NftName, chain: &NftChain) -> String {
    let mut text = format!("chain {name} {{\n");
    for line in chain_lines(sets, chain) {
        let _ = writeln!(text, "\t{line}");
    }
    text.push_str("}\n");
    text
}

/// Where packets enter a chain by themselves, if they do, and its rules.
pub fn chain_lines(sets: &NftSets, chain: &NftChain) -> Vec<String> {
    let base = chain.base.map(base_line);
    base.into_iter().chain(chain.rules.iter().map(|rule| render_rule(sets, rule))).collect()
}

fn base_line(base: NftBase) -> String {
    format!(
        "type {} hook {} priority {}; policy {};",
        base.kind.name(),
        base.hook.name().to_ascii_lowercase(),
        priority(base.hook, base.priority),
        if base.drops { "drop" } else { "accept" },
    )
}

/// A priority by the nearest name that the hook has, as nft does within ten of it
/// (`std_prio_lookup`).
fn priority(hook: BuiltinHook, priority: i32) -> String {
    const NAMES: [(&str, i32); 6] = [
        ("raw", -300),
        ("mangle", -150),
        ("dstnat", -100),
        ("filter", 0),
        ("security", 50),
        ("srcnat", 100),
    ];
    let named = NAMES.into_iter().find(|(name, value)| {
        let of_hook = match *name {
            "dstnat" => hook == BuiltinHook::Prerouting,
            "srcnat" => hook == BuiltinHook::Postrouting,
            _ => true,
        };
        of_hook && value.abs_diff(priority) <= 10
    });
    match named {
        None => priority.to_string(),
        Some((name, value)) if value == priority => name.to_owned(),
        Some((name, value)) if value < priority => format!("{name} + {}", priority - value),
        Some((name, value)) => format!("{name} - {}", value - priority),
    }
}

/// A text between quotes; nft has no way to write a quote inside.
fn quoted(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c == '"' || c.is_control() { ' ' } else { c }).collect();
    format!("\"{plain}\"")
}
