//! iptables: changed chains as a whole, jumps counted, one transaction a table.

use std::collections::BTreeMap;

use crate::lower::DesiredObjects;
use crate::objects::{BuiltinHook, KernelState, XtRule, XtTableId, XtTableState};
use crate::ops::NetworkOp;

type TableOps = BTreeMap<XtTableId, Vec<NetworkOp>>;

/// Changes of tables that hold something afterwards, and of those that hold nothing any more.
pub(super) fn changes(desired: &DesiredObjects, observed: &KernelState) -> (TableOps, TableOps) {
    let empty = XtTableState::default();
    let mut fill = TableOps::new();
    let mut clear = TableOps::new();
    for (id, wanted) in &desired.xtables {
        let held = observed.xtables.get(id).unwrap_or(&empty);
        fill.insert(*id, table_changes(wanted, held));
    }
    for (id, held) in &observed.xtables {
        if !desired.xtables.contains_key(id) {
            let mut ops = table_changes(&empty, held);
            let builtins = held.created_builtins.iter();
            ops.extend(builtins.map(|hook| NetworkOp::DeleteEmptyBuiltin { hook: *hook }));
            clear.insert(*id, ops);
        }
    }
    (fill, clear)
}

fn table_changes(wanted: &XtTableState, held: &XtTableState) -> Vec<NetworkOp> {
    let put = wanted
        .chains
        .iter()
        .filter(|(name, rules)| held.chains.get(name) != Some(rules))
        .map(|(name, rules)| NetworkOp::PutChain { chain: name.clone(), rules: rules.clone() });
    let delete = held
        .chains
        .keys()
        .filter(|name| !wanted.chains.contains_key(name))
        .map(|name| NetworkOp::DeleteChain { chain: name.clone() });
    put.chain(jump_changes(wanted, held)).chain(delete).collect()
}

/// A jump's position among foreign rules is no drift (T17); a missing or repeated one is.
fn jump_changes(wanted: &XtTableState, held: &XtTableState) -> Vec<NetworkOp> {
    let none: &[XtRule] = &[];
    let mut ops = Vec::new();
    for hook in BuiltinHook::ALL {
        let wanted = wanted.jumps.get(&hook).map_or(none, Vec::as_slice);
        let held = held.jumps.get(&hook).map_or(none, Vec::as_slice);
        let count = |rules: &[XtRule], rule: &XtRule| rules.iter().filter(|r| *r == rule).count();
        let missing = wanted.iter().filter(|rule| count(held, rule) == 0);
        ops.extend(missing.map(|rule| NetworkOp::InsertJump { hook, rule: rule.clone() }));
        let mut kept: Vec<&XtRule> = Vec::new();
        for rule in held {
            if wanted.contains(rule) && !kept.contains(&rule) {
                kept.push(rule);
            } else {
                ops.push(NetworkOp::DeleteJump { hook, rule: rule.clone() });
            }
        }
    }
    ops
}
