//! What other programs do to the kernel, ours and theirs, from choices.

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    NftChain, NftData, NftExpr, NftKey, NftRule, NftSetSpec, NftTable, NftType, NftVerdict,
};
use smartnat_core::objects::{
    ROUTE_PROTOCOL, SetElement, SetName, SysctlKey, XtMatch, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, NftOp, Transaction};

use super::choices::Choices;
use crate::SimKernel;
use crate::kernel::{HeldTable, Policy};

/// Comment of rules of others.
const OTHERS: &str = "others";

/// Something of ours is changed or deleted; what the kernel refuses, does not happen.
pub(super) fn with_ours(c: &mut Choices<'_>, kernel: &mut SimKernel) -> String {
    match (c.below(8), kernel.nft().ours().map(HeldTable::observe)) {
        (0..=3 | 7, Some(table)) => with_our_table(c, kernel, &table),
        (number, _) => with_other_objects(c, kernel, number),
    }
}

/// Chains, rules, sets and elements of our table of nftables.
fn with_our_table(c: &mut Choices<'_>, kernel: &mut SimKernel, table: &NftTable) -> String {
    let ops = match c.below(6) {
        0 => delete_element(c, table),
        1 => add_element(c, table),
        2 => change_chain(c, table),
        3 => vec![NftOp::CreateSet {
            name: OTHERS.into(),
            spec: NftSetSpec::exact([NftType::Mark], NftData::Nothing),
        }],
        4 => jump_to_ours(c, table),
        _ => vec![NftOp::DeleteTable],
    };
    let ops: Vec<NetworkOp> = ops.into_iter().map(NetworkOp::Nft).collect();
    let text = format!("{ops:?}");
    let done = kernel.interfere(&Transaction { domain: Domain::Nftables, ops });
    format!("{text}: {}", done.is_ok())
}

/// One of the first elements of a set goes.
fn delete_element(c: &mut Choices<'_>, table: &NftTable) -> Vec<NftOp> {
    let elements = table.sets.iter().filter_map(|(set, held)| {
        let (key, _) = held.elements.iter().next()?;
        Some(NftOp::DeleteElement { set: set.clone(), key: key.clone() })
    });
    one_of(c, elements)
}

/// A set gets a key that is none, with what another element has.
fn add_element(c: &mut Choices<'_>, table: &NftTable) -> Vec<NftOp> {
    let elements = table.sets.iter().filter_map(|(set, held)| {
        let (key, element) = held.elements.iter().next()?;
        let beyond = |key: &[u8]| key.iter().map(|_| 0xfe).collect::<Vec<u8>>();
        let last = key.last.as_deref().map(|key| beyond(key).into());
        let key = NftKey { first: beyond(&key.first).into(), last };
        Some(NftOp::AddElement { set: set.clone(), key, element: element.clone() })
    });
    one_of(c, elements)
}

/// A chain loses all rules or its last one, or gets one.
fn change_chain(c: &mut Choices<'_>, table: &NftTable) -> Vec<NftOp> {
    let chains: Vec<_> = table.chains.iter().collect();
    if chains.is_empty() {
        return Vec::new();
    }
    let (name, chain) = c.pick(&chains);
    let mut chain = chain.clone();
    match c.below(3) {
        0 => chain.rules.clear(),
        1 => {
            chain.rules.pop();
        }
        _ => chain.rules.insert(0, accept()),
    }
    vec![NftOp::PutChain { name: name.clone(), chain }]
}

/// A chain that is none of ours leads to one of ours, and looks into a set.
fn jump_to_ours(c: &mut Choices<'_>, table: &NftTable) -> Vec<NftOp> {
    let below: Vec<_> = table.chains.iter().filter(|(_, chain)| chain.base.is_none()).collect();
    if below.is_empty() {
        return Vec::new();
    }
    let (name, _) = c.pick(&below);
    let jump = NftExpr::Verdict(NftVerdict::Jump(name.clone()));
    let rules = vec![NftRule { expressions: vec![jump], comment: None }];
    vec![NftOp::PutChain { name: OTHERS.into(), chain: NftChain { base: None, rules } }]
}

fn one_of(c: &mut Choices<'_>, ops: impl Iterator<Item = NftOp>) -> Vec<NftOp> {
    let ops: Vec<NftOp> = ops.collect();
    if ops.is_empty() { ops } else { vec![c.pick(&ops)] }
}

fn accept() -> NftRule {
    let expressions = vec![NftExpr::Verdict(NftVerdict::Accept)];
    NftRule { expressions, comment: Some(OTHERS.into()) }
}

fn with_other_objects(c: &mut Choices<'_>, kernel: &mut SimKernel, number: usize) -> String {
    match number {
        0..=2 => with_our_rules(c, kernel),
        3 => with_our_sets(c, kernel),
        4 => {
            let (family, at) = (c.pick(&Family::ALL), c.below(8));
            let rules = kernel.routing().rules(family);
            let rule = rules.filter(|r| r.protocol == ROUTE_PROTOCOL).nth(at).cloned();
            kernel.foreign_delete_routing_rules(|r| Some(r) == rule.as_ref());
            format!("a routing rule is deleted: {rule:?}")
        }
        5 => {
            let name = c.pick(&["ext1", "ext2", "int0"]);
            kernel.foreign_delete_routes(|r| {
                r.protocol == ROUTE_PROTOCOL && r.route.interface == name
            });
            format!("routes of ours over {name} are deleted")
        }
        6 => {
            let family = c.pick(&Family::ALL);
            let name = c.pick(&["ext1", "ext2", "int0"]).to_owned();
            let key = match c.below(5) {
                0 => SysctlKey::Forwarding(family),
                1 => SysctlKey::MarkReflect(family),
                2 => SysctlKey::ReversePathFilter(name),
                3 => SysctlKey::SourceValidMark(name),
                _ => SysctlKey::AcceptRouterAdvertisements(name),
            };
            let value = c.pick(&["0", "1", "2"]);
            let _ = kernel.write_sysctl(&key, value);
            format!("{key} = {value}")
        }
        _ => {
            let table = table(c);
            for chain in our_chains(kernel, table) {
                kernel.foreign_delete_rules(table, &chain, |_| true);
            }
            delete_from_hooks(kernel, table, is_jump_to_ours);
            format!("all rules of ours in {table:?} are deleted")
        }
    }
}

fn with_our_rules(c: &mut Choices<'_>, kernel: &mut SimKernel) -> String {
    let table = table(c);
    let chains = our_chains(kernel, table);
    if chains.is_empty() {
        return "nothing".into();
    }
    let chain = c.pick(&chains);
    match c.below(4) {
        0 => {
            kernel.foreign_delete_rules(table, &chain, |_| true);
            format!("{chain} is flushed")
        }
        1 => {
            kernel.foreign_append(table, &chain, &rule_of_others());
            format!("{chain} gets a rule")
        }
        2 => {
            delete_from_hooks(kernel, table, |r| {
                r.jump_target().is_some_and(|target| target.0 == chain)
            });
            format!("jumps to {chain} are deleted")
        }
        _ => {
            let jump =
                XtRule::new(XtTarget::Jump(smartnat_core::objects::ChainName(chain.clone())));
            let hook = c.pick(table.table.hooks());
            let insert = NetworkOp::InsertJump { hook, rule: jump };
            let done = kernel
                .interfere(&Transaction { domain: Domain::Xtables(table), ops: vec![insert] });
            format!("another jump from {} to {chain}: {}", hook.name(), done.is_ok())
        }
    }
}

fn with_our_sets(c: &mut Choices<'_>, kernel: &mut SimKernel) -> String {
    let sets: Vec<(SetName, Option<SetElement>)> = kernel
        .sets()
        .iter()
        .filter(|(name, _)| name.0.starts_with("smartnat-"))
        .map(|(name, set)| (name.clone(), set.elements.keys().next().copied()))
        .collect();
    if sets.is_empty() {
        return "nothing".into();
    }
    let (set, first) = c.pick(&sets);
    let op = match (c.below(3), first) {
        (0, Some(element)) => NetworkOp::DeleteElement { set, element },
        (1, _) => NetworkOp::DestroySet { name: set },
        _ => {
            let addresses: Vec<_> =
                super::objects::EXTERNAL.iter().flat_map(|a| a.parse()).collect();
            let address: std::net::IpAddr = c.pick(&addresses);
            let element =
                if c.flag() { SetElement::Net(address.into()) } else { SetElement::Ip(address) };
            NetworkOp::AddElement { set, element }
        }
    };
    let text = op.describe(Domain::Sets);
    let done = kernel.interfere(&Transaction { domain: Domain::Sets, ops: vec![op] });
    format!("{text} changes: {}", done.is_ok())
}

/// Something that is not ours comes or goes.
pub(super) fn with_theirs(c: &mut Choices<'_>, kernel: &mut SimKernel) -> String {
    let table = table(c);
    let hook = c.pick(table.table.hooks());
    match c.below(4) {
        0 => {
            kernel.foreign_append(table, hook.name(), &rule_of_others());
            format!("others append to {}", hook.name())
        }
        1 => {
            kernel.foreign_insert(table, hook.name(), &rule_of_others());
            format!("others insert into {}", hook.name())
        }
        2 => {
            delete_from_hooks(kernel, table, |r| *r == rule_of_others());
            format!("others delete their rules in {table:?}")
        }
        _ => {
            let policy = if c.flag() { Policy::Drop } else { Policy::Accept };
            let filter = XtTableId { table: XtTable::Filter, ..table };
            kernel.foreign_policy(filter, "FORWARD", policy);
            format!("policy of FORWARD: {policy:?}")
        }
    }
}

fn table(c: &mut Choices<'_>) -> XtTableId {
    XtTableId { family: c.pick(&Family::ALL), table: c.pick(&XtTable::ALL) }
}

/// Deletes rules of the built-in chains that there are.
fn delete_from_hooks(kernel: &mut SimKernel, table: XtTableId, gone: impl Fn(&XtRule) -> bool) {
    for hook in table.table.hooks() {
        if kernel.xtables().table(table).is_some_and(|t| t.builtin(*hook).is_some()) {
            kernel.foreign_delete_rules(table, hook.name(), &gone);
        }
    }
}

fn our_chains(kernel: &SimKernel, table: XtTableId) -> Vec<String> {
    let Some(table) = kernel.xtables().table(table) else { return Vec::new() };
    table.chains().map(|(name, _)| name.0.clone()).filter(|n| n.starts_with("SMARTNAT-")).collect()
}

fn is_jump_to_ours(rule: &XtRule) -> bool {
    rule.jump_target().is_some_and(|chain| chain.0.starts_with("SMARTNAT-"))
}

fn rule_of_others() -> XtRule {
    XtRule::new(XtTarget::Accept).with(XtMatch::Comment(OTHERS.into()))
}
