//! nftables: one atomic change of our table; a cold start of very many elements in several, of
//! which each leaves the table whole.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::lower::rank;
use crate::objects::nft::{NftChain, NftData, NftKey, NftName, NftRule, NftSet, NftTable};
use crate::ops::{Domain, NetworkOp, NftOp, Transaction};

/// Operations that the kernel is handed at once: about 6 MB of messages.
const MAX_OPS: usize = 50_000;

/// Changes of the table, in order.
pub(super) fn changes(desired: &NftTable, observed: Option<&NftTable>) -> Vec<Transaction> {
    let empty = NftTable::default();
    let ops = match observed {
        Some(held) if can_follow(desired, held) => follow(desired, held),
        // What can't be changed in place is replaced as a whole, which nobody notices either.
        Some(_) => {
            let anew = [NftOp::DeleteTable, NftOp::CreateTable];
            let ops = anew.into_iter().chain(follow(desired, &empty)).collect();
            return vec![transaction(ops)];
        }
        None => std::iter::once(NftOp::CreateTable).chain(follow(desired, &empty)).collect(),
    };
    in_parts(ops)
}

fn transaction(ops: Vec<NftOp>) -> Transaction {
    Transaction { domain: Domain::Nftables, ops: ops.into_iter().map(NetworkOp::Nft).collect() }
}

fn in_parts(mut ops: Vec<NftOp>) -> Vec<Transaction> {
    let mut parts = Vec::new();
    while ops.len() > MAX_OPS {
        let rest = ops.split_off(place_to_cut(&ops));
        parts.push(transaction(ops));
        ops = rest;
    }
    if !ops.is_empty() {
        parts.push(transaction(ops));
    }
    parts
}

/// What is deleted to be added anew stays together, unless so much is deleted that the part would
/// be a small one.
fn place_to_cut(ops: &[NftOp]) -> usize {
    let deletes = |op: &NftOp| matches!(op, NftOp::DeleteElement { .. });
    let kept = ops[MAX_OPS / 2..MAX_OPS].iter().rposition(|op| !deletes(op));
    let adds = matches!(ops[MAX_OPS], NftOp::AddElement { .. });
    match kept {
        Some(position) => MAX_OPS / 2 + position + 1,
        None if adds => MAX_OPS - 1,
        None => MAX_OPS,
    }
}

/// Whether sets have the right form, and base chains the right place, where both have them.
fn can_follow(desired: &NftTable, held: &NftTable) -> bool {
    let same_sets = desired
        .sets
        .iter()
        .all(|(name, wanted)| held.sets.get(name).is_none_or(|held| held.spec == wanted.spec));
    let same_chains = desired
        .chains
        .iter()
        .all(|(name, wanted)| held.chains.get(name).is_none_or(|held| held.base == wanted.base));
    same_sets && same_chains
}

/// What is referred to comes first and goes last.
fn follow(desired: &NftTable, held: &NftTable) -> Vec<NftOp> {
    let mut ops = Vec::new();
    for (name, set) in desired.sets.iter().filter(|(name, _)| !held.sets.contains_key(*name)) {
        ops.push(NftOp::CreateSet { name: name.clone(), spec: set.spec.clone() });
    }
    ops.extend(new_chains(desired, held));
    let elements = Elements::between(desired, held);
    ops.extend(elements.come);
    let changed = |(name, chain): &(&NftName, &NftChain)| {
        held.chains.get(*name).is_some_and(|held| held != *chain)
    };
    for (name, chain) in desired.chains.iter().filter(changed) {
        ops.push(NftOp::PutChain { name: name.clone(), chain: chain.clone() });
    }
    ops.extend(elements.go);
    let gone = held.chains.iter().filter(|(name, _)| !desired.chains.contains_key(*name));
    let mut gone = in_order(&gone.collect());
    gone.reverse();
    ops.extend(gone.into_iter().map(|name| NftOp::DeleteChain { name }));
    for name in held.sets.keys().filter(|name| !desired.sets.contains_key(*name)) {
        ops.push(NftOp::DeleteSet { name: name.clone() });
    }
    ops
}

/// Chains that are not there, those that others lead to first; those that packets enter by
/// themselves last, so that none meets half of them.
fn new_chains(desired: &NftTable, held: &NftTable) -> Vec<NftOp> {
    let new = desired.chains.iter().filter(|(name, _)| !held.chains.contains_key(*name));
    let put = |name: NftName| {
        let chain = desired.chains.get(&name).cloned().unwrap_or_default();
        NftOp::PutChain { name, chain }
    };
    in_order(&new.collect()).into_iter().map(put).collect()
}

/// Chains in such an order that each comes after those that its rules lead to.
fn in_order(chains: &BTreeMap<&NftName, &NftChain>) -> Vec<NftName> {
    let mut order = Vec::with_capacity(chains.len());
    let mut seen = BTreeSet::new();
    for name in chains.keys() {
        visit(name, chains, &mut seen, &mut order);
    }
    order
}

/// As deep as the kernel lets chains lead to one another (`NFT_JUMP_STACK_SIZE`), and no deeper
/// than there are chains.
fn visit<'a>(
    name: &'a NftName,
    chains: &BTreeMap<&'a NftName, &'a NftChain>,
    seen: &mut BTreeSet<&'a NftName>,
    order: &mut Vec<NftName>,
) {
    let Some(chain) = chains.get(name).filter(|_| seen.insert(name)) else { return };
    for next in chain.rules.iter().flat_map(NftRule::chains) {
        visit(next, chains, seen, order);
    }
    order.push(name.clone());
}

/// Elements that come or are replaced, and elements that go.
#[derive(Default)]
struct Elements {
    come: Vec<NftOp>,
    go: Vec<NftOp>,
}

impl Elements {
    fn between(desired: &NftTable, held: &NftTable) -> Self {
        let mut elements = Self::default();
        let mut sets: Vec<(&NftName, &NftSet)> = desired.sets.iter().collect();
        sets.sort_by_key(|(name, _)| rank(name));
        for (name, wanted) in &sets {
            elements.add_come(name, wanted, held.sets.get(*name));
        }
        sets.sort_by_key(|(name, _)| Reverse(rank(name)));
        for (name, wanted) in sets {
            if let Some(held) = held.sets.get(name) {
                elements.add_gone(name, wanted, held);
            }
        }
        // A set that goes takes its elements along, but what they lead to goes before it.
        for (name, held) in held.sets.iter().filter(|(name, _)| !desired.sets.contains_key(*name)) {
            if held.spec.data == NftData::Verdict {
                elements.go.extend(held.elements.keys().map(|key| delete(name, key)));
            }
        }
        elements
    }

    fn add_come(&mut self, set: &NftName, wanted: &NftSet, held: Option<&NftSet>) {
        let nothing = BTreeMap::new();
        let held = held.map_or(&nothing, |held| &held.elements);
        if wanted.spec.interval {
            // A new interval may overlap with one that goes.
            let gone = held.keys().filter(|key| !wanted.elements.contains_key(*key));
            self.come.extend(gone.map(|key| delete(set, key)));
        }
        for (key, wanted, held) in super::side_by_side(&wanted.elements, held) {
            let Some(element) = wanted.filter(|_| wanted != held) else { continue };
            if held.is_some() {
                self.come.push(delete(set, key));
            }
            self.come.push(NftOp::AddElement {
                set: set.clone(),
                key: key.clone(),
                element: element.clone(),
            });
        }
    }

    fn add_gone(&mut self, set: &NftName, wanted: &NftSet, held: &NftSet) {
        if wanted.spec.interval {
            return;
        }
        for (key, wanted, _) in super::side_by_side(&wanted.elements, &held.elements) {
            if wanted.is_none() {
                self.go.push(delete(set, key));
            }
        }
    }
}

fn delete(set: &NftName, key: &NftKey) -> NftOp {
    NftOp::DeleteElement { set: set.clone(), key: key.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::nft::{NftElement, NftValue};

    fn parts(ops: Vec<NftOp>) -> Vec<usize> {
        in_parts(ops).iter().map(|part| part.ops.len()).collect()
    }

    /// A hundred thousand elements that go are a few batches, not one each.
    #[test]
    fn parts_are_large_and_what_is_replaced_is_in_one() {
        let (set, key) = (NftName::from("services4"), NftKey::exact([0; 4]));
        let gone = || delete(&set, &key);
        let come = || NftOp::AddElement {
            set: set.clone(),
            key: key.clone(),
            element: NftElement { value: NftValue::Nothing, comment: None },
        };
        assert_eq!(parts((0..100_000).map(|_| gone()).collect()), [50_000, 50_000]);
        assert_eq!(parts((0..100_000).map(|_| come()).collect()), [50_000, 50_000]);
        let replaced = std::iter::once(come()).chain((0..40_000).flat_map(|_| [gone(), come()]));
        assert_eq!(parts(replaced.collect()), [49_999, 30_002]);
        let many = (0..60_000).map(|_| gone()).chain((0..10).map(|_| come()));
        assert_eq!(parts(many.collect()), [50_000, 10_010]);
    }
}
