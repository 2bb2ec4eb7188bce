//! iptables: changed chains as a whole, jumps counted, one transaction a table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::side_by_side;
use crate::names::is_egress_set;
use crate::objects::{BuiltinHook, XtMatch, XtRule, XtTableId, XtTableState, XtTarget};
use crate::ops::NetworkOp;

type Tables = BTreeMap<XtTableId, XtTableState>;
type TableOps = BTreeMap<XtTableId, Vec<NetworkOp>>;

/// Changes by table.
#[derive(Default)]
pub(super) struct Changes {
    /// Source translation of pods that are about to be let out.
    pub(super) addresses_of_pods: TableOps,
    /// Tables that hold something afterwards.
    pub(super) fill: TableOps,
    /// Tables that hold nothing any more.
    pub(super) clear: TableOps,
}

/// All changes of one flavour.
pub(super) fn changes(desired: &Tables, observed: &Tables) -> Changes {
    let empty = XtTableState::default();
    let mut changes = Changes::default();
    for (id, wanted) in desired {
        let mut held = Cow::Borrowed(observed.get(id).unwrap_or(&empty));
        let ops = addresses_of_pods(wanted, &mut held);
        if !ops.is_empty() {
            changes.addresses_of_pods.insert(*id, ops);
        }
        changes.fill.insert(*id, table_changes(wanted, &held));
    }
    for (id, held) in observed {
        if !desired.contains_key(id) {
            let mut ops = table_changes(&empty, held);
            let builtins = held.created_builtins.iter();
            ops.extend(builtins.map(|hook| NetworkOp::DeleteEmptyBuiltin { hook: *hook }));
            changes.clear.insert(*id, ops);
        }
    }
    changes
}

/// The chain that translates sources, if pods get an address there that they did not have; with
/// those of before, which mangle still lets out. `held` becomes what the table holds then.
fn addresses_of_pods(wanted: &XtTableState, held: &mut Cow<'_, XtTableState>) -> Vec<NetworkOp> {
    let none: &[XtRule] = &[];
    let mut ops = Vec::new();
    for (chain, rules) in &wanted.chains {
        if !rules.iter().any(is_address_of_pods) {
            continue;
        }
        let before = held.chains.get(chain).map_or(none, Vec::as_slice);
        if !rules.iter().any(|rule| is_address_of_pods(rule) && !before.contains(rule)) {
            continue;
        }
        let leaving = before.iter().filter(|r| is_address_of_pods(r) && !rules.contains(r));
        let both: Vec<XtRule> = rules.iter().chain(leaving).cloned().collect();
        ops.push(NetworkOp::PutChain { chain: chain.clone(), rules: both.clone() });
        held.to_mut().chains.insert(chain.clone(), both);
        let jumps = wanted.jumps.iter().flat_map(|(hook, jumps)| jumps.iter().map(|j| (*hook, j)));
        for (hook, jump) in jumps.filter(|(_, jump)| jump.jump_target() == Some(chain)) {
            let held = held.to_mut().jumps.entry(hook).or_default();
            if !held.contains(jump) {
                ops.push(NetworkOp::InsertJump { hook, rule: jump.clone() });
                held.push(jump.clone());
            }
        }
    }
    ops
}

/// Rules of table nat for the members of an egress set; mangle has none that translates.
fn is_address_of_pods(rule: &XtRule) -> bool {
    let of_pods = |m: &XtMatch| matches!(m, XtMatch::Set { name, .. } if is_egress_set(name));
    let translates = |target: &XtTarget| {
        matches!(target, XtTarget::SourceNat { .. } | XtTarget::SetConnMark { .. })
    };
    rule.out_interface.is_some() && rule.matches.iter().any(of_pods) && translates(&rule.target)
}

fn table_changes(wanted: &XtTableState, held: &XtTableState) -> Vec<NetworkOp> {
    let (mut put, mut delete) = (Vec::new(), Vec::new());
    for (name, wanted, held) in side_by_side(&wanted.chains, &held.chains) {
        let chain = || name.clone();
        match wanted {
            None => delete.push(NetworkOp::DeleteChain { chain: chain() }),
            Some(rules) if held != Some(rules) => {
                put.push(NetworkOp::PutChain { chain: chain(), rules: rules.clone() });
            }
            Some(_) => {}
        }
    }
    put.into_iter().chain(jump_changes(wanted, held)).chain(delete).collect()
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
