//! iptables of both flavours and families, on the running kernel in throw-away namespaces.

#[path = "../common/mod.rs"]
mod common;

mod builtins;
mod counters;
mod detection;
mod failures;
mod rules;
mod transactions;

use std::collections::BTreeMap;

use common::{in_namespace, sh};
use smartnat_core::model::Family;
use smartnat_core::objects::{ChainName, XtRule, XtTable, XtTableId, XtTableState, XtTarget};
use smartnat_core::ops::NetworkOp;
use smartnat_linux::{Flavour, Xtables, XtablesSettings};

/// Runs `test` in a namespace of its own for each flavour and family.
fn for_each(test: impl Fn(&mut Xtables, Family) + Sync) {
    for flavour in Flavour::ALL {
        for family in Family::ALL {
            in_namespace(|| test(&mut open(flavour), family));
        }
    }
}

fn open(flavour: Flavour) -> Xtables {
    Xtables::detect(flavour.into(), XtablesSettings::default()).expect("iptables is installed")
}

/// The program of a flavour and family: `iptables-nft`, …
fn program(flavour: Flavour, family: Family) -> String {
    let base = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    format!("{base}-{flavour}")
}

/// All rules of the flavour and family, without comments and counters.
fn saved(flavour: Flavour, family: Family) -> String {
    let text = sh(&format!("{}-save", program(flavour, family)));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let without_counters = lines.map(|line| line.split(" [").next().unwrap_or_default());
    without_counters.collect::<Vec<_>>().join("\n")
}

fn chain(name: &str) -> ChainName {
    ChainName(name.to_owned())
}

fn jump(name: &str) -> XtRule {
    XtRule::new(XtTarget::Jump(chain(name)))
}

fn put(name: &str, rules: Vec<XtRule>) -> NetworkOp {
    NetworkOp::PutChain { chain: chain(name), rules }
}

fn delete(name: &str) -> NetworkOp {
    NetworkOp::DeleteChain { chain: chain(name) }
}

fn table(family: Family, table: XtTable) -> XtTableId {
    XtTableId { family, table }
}

fn observe(xtables: &mut Xtables) -> BTreeMap<XtTableId, XtTableState> {
    xtables.observe().expect("it can be read")
}
