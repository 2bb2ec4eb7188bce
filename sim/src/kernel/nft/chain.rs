//! What the kernel checks of chains: where packets enter them, loops, depth, what may be done where.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    NFT_TABLE, NatKind, NftBase, NftChain, NftChainKind, NftExpr, NftName, NftRule,
};
use smartnat_core::ops::OpError;

use super::HeldTable;
use crate::kernel::error::invalid;
use crate::kernel::hooks::{CONNTRACK, translation_priority};

/// Chains below a base chain (`NFT_JUMP_STACK_SIZE`): 15 were accepted, 16 refused with "too many
/// links", whether by jumps or by gotos.
const MAX_DEPTH: usize = 15;

/// Refuses a base chain that the kernel refuses, or whose place among what is built in is not modelled.
pub(super) fn check_base(base: NftBase) -> Result<(), &'static str> {
    let NftBase { kind, hook, priority, .. } = base;
    match kind {
        NftChainKind::Nat if hook == BuiltinHook::Forward => {
            return Err("nothing is translated while it is forwarded");
        }
        NftChainKind::Nat if priority <= CONNTRACK => {
            return Err("translation comes after connection tracking");
        }
        NftChainKind::Route if hook != BuiltinHook::Output => {
            return Err("the type route is for output alone");
        }
        _ => {}
    }
    let tracked = matches!(hook, BuiltinHook::Prerouting | BuiltinHook::Output);
    let built_in = (tracked && priority == CONNTRACK)
        || (kind != NftChainKind::Nat && translation_priority(hook) == Some(priority));
    if built_in {
        return Err("the order among chains of the kernel's own at that priority is not modelled");
    }
    Ok(())
}

/// Refuses a table with a loop or too deep a nesting below a base chain, or with something that is
/// reachable from a base chain where it may not be. Chains that no base chain reaches may hold either.
pub(super) fn check(table: &HeldTable) -> Result<(), OpError> {
    for (name, base) in table.bases() {
        let object = || format!("chain {name} of table inet {NFT_TABLE}");
        let reached = reachable(table, name);
        for chain in &reached {
            check_rules(base, rules(table, chain)).or_else(|problem| {
                invalid(object(), format_args!("{problem}, in chain {chain}"))
            })?;
        }
        match depth_below(table, name, &reached) {
            None => return invalid(object(), "too many links: the chains below it form a loop"),
            Some(depth) if depth > MAX_DEPTH => {
                return invalid(object(), "too many links: chains are nested too deep");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn rules<'t>(table: &'t HeldTable, chain: &NftName) -> &'t [NftRule] {
    table.chain(chain).map_or(&[], |chain: &std::sync::Arc<NftChain>| &chain.rules)
}

/// Chains that the rules of a chain and the verdict maps that they look into lead to.
fn targets<'t>(table: &'t HeldTable, chain: &NftName) -> BTreeSet<&'t NftName> {
    let mut targets = BTreeSet::new();
    for rule in rules(table, chain) {
        targets.extend(rule.chains());
        let maps = rule.verdict_maps().filter_map(|name| table.set(name));
        targets.extend(maps.flat_map(|set| set.targets.iter()));
    }
    targets
}

/// A chain and all below it.
fn reachable<'t>(table: &'t HeldTable, base: &'t NftName) -> BTreeSet<&'t NftName> {
    let mut reached = BTreeSet::from([base]);
    let mut queue = VecDeque::from([base]);
    while let Some(name) = queue.pop_front() {
        let new = targets(table, name).into_iter().filter(|target| reached.insert(target));
        queue.extend(new.collect::<Vec<_>>());
    }
    reached
}

/// The longest way down from a base chain, in chains; `None` if there is a loop.
fn depth_below(table: &HeldTable, base: &NftName, reached: &BTreeSet<&NftName>) -> Option<usize> {
    let mut incoming: BTreeMap<&NftName, usize> = BTreeMap::new();
    for target in reached.iter().flat_map(|name| targets(table, name)) {
        *incoming.entry(target).or_default() += 1;
    }
    if incoming.contains_key(base) {
        return None;
    }
    let mut depths = BTreeMap::from([(base, 0_usize)]);
    let mut ready = VecDeque::from([base]);
    let (mut ordered, mut deepest) = (0, 0);
    while let Some(name) = ready.pop_front() {
        ordered += 1;
        let depth = depths.get(name).copied().unwrap_or_default();
        deepest = deepest.max(depth);
        for target in targets(table, name) {
            let below = depths.entry(target).or_default();
            *below = (*below).max(depth + 1);
            let left = incoming.get_mut(target).expect("counted above");
            *left -= 1;
            if *left == 0 {
                ready.push_back(target);
            }
        }
    }
    (ordered == reached.len()).then_some(deepest)
}

/// `nft_chain_validate_dependency`, `nft_chain_validate_hooks`.
fn check_rules(base: NftBase, rules: &[NftRule]) -> Result<(), &'static str> {
    use BuiltinHook::{Input, Output, Postrouting, Prerouting};
    for expression in rules.iter().flat_map(|rule| &rule.expressions) {
        let (only_nat, hooks): (bool, &[BuiltinHook]) = match expression {
            NftExpr::Nat { kind: NatKind::Destination, .. } => (true, &[Prerouting, Output]),
            NftExpr::Nat { kind: NatKind::Source, .. } => (true, &[Postrouting, Input]),
            NftExpr::Masquerade => (true, &[Postrouting]),
            NftExpr::Reject(_) => (false, &[Prerouting, Input, BuiltinHook::Forward, Output]),
            _ => continue,
        };
        if only_nat && base.kind != NftChainKind::Nat {
            return Err("translation is for chains of type nat alone");
        }
        if !hooks.contains(&base.hook) {
            return Err("an expression cannot be used at this hook");
        }
    }
    Ok(())
}
