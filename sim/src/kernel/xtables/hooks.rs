//! What the kernel checks of a whole table: from which hooks a rule can be reached, loops, depth.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smartnat_core::objects::{BuiltinHook, ChainName, XtRule, XtTarget};
use smartnat_core::ops::OpError;

use super::{XtFlavour, XtTableRules, chain_object};
use crate::kernel::error::invalid;

/// Nested user-defined chains that `nf_tables` takes below a built-in one (`NFT_JUMP_STACK_SIZE`):
/// 15 were accepted, 16 refused with "too many links". The legacy flavour took 30.
const MAX_DEPTH: usize = 15;

/// Refuses a table with a loop or too deep a nesting below a hook, or a target that is
/// reachable from a hook where it may not be. Chains that no hook reaches may hold either.
pub(super) fn check(table: &XtTableRules, flavour: XtFlavour) -> Result<(), OpError> {
    for (hook, chain) in table.builtins() {
        check_targets(table, hook, hook.name(), &chain.rules)?;
        let reached = reachable(table, flavour, &chain.rules);
        for name in &reached {
            check_targets(table, hook, &name.0, chain_rules(table, name))?;
        }
        let depth = depth_below(table, flavour, &chain.rules, &reached);
        let object = || chain_object(table.id(), hook.name());
        match depth {
            None => return invalid(object(), "too many links: the chains below it form a loop"),
            Some(depth) if flavour == XtFlavour::Nft && depth > MAX_DEPTH => {
                return invalid(object(), "too many links: chains are nested too deep");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn chain_rules<'t>(table: &'t XtTableRules, name: &ChainName) -> &'t [XtRule] {
    table.chain(name).expect("a jump to a chain that does not exist is refused")
}

/// Chains that the rules jump to. The legacy flavour (`mark_source_chains`) looks at none behind an
/// unconditional verdict.
fn targets(flavour: XtFlavour, rules: &[XtRule]) -> impl Iterator<Item = &ChainName> {
    let ends = |rule: &XtRule| {
        let verdict = matches!(rule.target, XtTarget::Accept | XtTarget::Drop | XtTarget::Return);
        verdict && *rule == XtRule::new(rule.target.clone())
    };
    let read = rules.iter().take_while(move |rule| flavour == XtFlavour::Nft || !ends(rule));
    read.filter_map(XtRule::jump_target)
}

/// All chains below `rules`.
fn reachable<'t>(
    table: &'t XtTableRules,
    flavour: XtFlavour,
    rules: &'t [XtRule],
) -> BTreeSet<&'t ChainName> {
    let mut reached = BTreeSet::new();
    let mut queue: VecDeque<_> = targets(flavour, rules).collect();
    while let Some(name) = queue.pop_front() {
        if reached.insert(name) {
            queue.extend(targets(flavour, chain_rules(table, name)));
        }
    }
    reached
}

/// The longest way down from `rules` in chains; `None` when there is a loop.
fn depth_below(
    table: &XtTableRules,
    flavour: XtFlavour,
    rules: &[XtRule],
    reached: &BTreeSet<&ChainName>,
) -> Option<usize> {
    let mut incoming: BTreeMap<&ChainName, usize> = BTreeMap::new();
    for name in reached {
        for target in targets(flavour, chain_rules(table, name)) {
            *incoming.entry(target).or_default() += 1;
        }
    }
    let mut depths: BTreeMap<&ChainName, usize> = targets(flavour, rules).map(|t| (t, 1)).collect();
    let mut ready: VecDeque<_> =
        reached.iter().copied().filter(|name| !incoming.contains_key(name)).collect();
    let (mut ordered, mut deepest) = (0, 0);
    while let Some(name) = ready.pop_front() {
        ordered += 1;
        let depth = depths.get(name).copied().unwrap_or_default();
        deepest = deepest.max(depth);
        for target in targets(flavour, chain_rules(table, name)) {
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

/// Targets of table nat work at certain hooks alone; REJECT works in all of table filter.
fn check_targets(
    table: &XtTableRules,
    hook: BuiltinHook,
    chain: &str,
    rules: &[XtRule],
) -> Result<(), OpError> {
    use BuiltinHook::{Input, Output, Postrouting, Prerouting};
    for rule in rules {
        let allowed: &[BuiltinHook] = match rule.target {
            XtTarget::DestinationNat { .. } => &[Prerouting, Output],
            XtTarget::SourceNat { .. } => &[Input, Postrouting],
            XtTarget::Masquerade => &[Postrouting],
            _ => continue,
        };
        if !allowed.contains(&hook) {
            let detail = format_args!("{:?} cannot be reached from {}", rule.target, hook.name());
            return invalid(chain_object(table.id(), chain), detail);
        }
    }
    Ok(())
}
