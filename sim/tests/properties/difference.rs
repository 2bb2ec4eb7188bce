//! P6, P7: what a change asks of the kernel.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use smartnat_core::gateway::{Input, Output};
use smartnat_core::model::{ClusterObject, ClusterState, ObjectKey};
use smartnat_core::names;
use smartnat_core::objects::KernelState;
use smartnat_core::objects::nft::{NftElement, NftTable};
use smartnat_core::ops::{Domain, NetworkOp, NftOp, Transaction};
use smartnat_sim::oracle::owning_mappings;

use crate::common::{held, run};
use crate::objects::{a_mapping, a_service, cluster};
use crate::setup::setups;
use crate::story::{Step, Story, stories};
use crate::world::World;
use crate::{cases, told};

proptest! {
    #![proptest_config(cases(1))]

    /// P6: whatever happened, once it is quiet a second look, and a restart, ask for nothing.
    #[test]
    fn p06_a_second_diff_is_empty(story in stories(1..12)) {
        told(&story, || {
            let mut world = World::after_in_silence(&story);
            world.come_to_rest()?;
            world.assert_quiet();
            Ok(())
        })?;
    }

    /// P7: a change of one Mapping or Service touches each object at most once, and none that
    /// looks the same before and after; nothing by name of another Mapping among them.
    #[test]
    fn p07_the_diff_is_minimal(
        setup in setups(),
        before in cluster(),
        change in prop_oneof![a_mapping().prop_map(|m| vec![m]), a_service()],
    ) {
        let steps = vec![Step::Cluster(before), Step::Cluster(change.clone())];
        let story = Story { setup, steps, seed: 7 };
        told(&story, || {
            let first = Story { steps: story.steps[..1].to_vec(), ..story.clone() };
            let mut world = World::after_in_silence(&first);
            let old = (held(&world.driver.kernel), world.oracle(), world.snapshot().cluster);
            let operations = operations_of(&mut world, &change);
            let new = held(&world.driver.kernel);
            let untouched = world.oracle().unchanged(&old.1);
            let cluster = world.snapshot().cluster;
            let names = names_of(&cluster, &untouched, &world);
            for (object, times) in touched(&operations) {
                // Where pods change their address, both must be there for a while (T13).
                if times > 1 && object.name != names::fixed_chain("SNAT").0 {
                    return Err(format!("P7: {object} is touched {times} times"));
                }
                if names.contains(&object.name) {
                    return Err(format!("P7: {object} belongs to a Mapping that did not change"));
                }
                if [&old.0, &new].iter().any(|state| is_of(state, &object, &untouched)) {
                    return Err(format!("P7: {object} is of a Mapping that did not change"));
                }
                if look(&old.0, &object) == look(&new, &object) {
                    return Err(format!("P7: {object} is as before"));
                }
            }
            Ok(())
        })?;
    }
}

/// A kernel object that an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Touched {
    domain: Domain,
    /// The chain, set, rule or the like.
    name: String,
    /// What of it: an element, or all.
    part: String,
}

impl std::fmt::Display for Touched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?})", self.name, self.part, self.domain)
    }
}

/// The transactions of a change.
fn operations_of(world: &mut World, change: &[ClusterObject]) -> Vec<Transaction> {
    world.objects.extend(change.iter().cloned());
    let driver = &mut world.driver;
    let now = driver.kernel.now();
    driver.gateway.handle_input(now, Input::Cluster(change.to_vec()));
    let outputs = run(&mut driver.gateway, &mut driver.kernel, |_| ());
    let applied = outputs.into_iter().filter_map(|output| match output {
        Output::Apply(transaction) => Some(transaction),
        _ => None,
    });
    applied.collect()
}

/// How often each object is touched. To replace a route is one touch, as is to fill a set that is
/// made, and to replace an element.
fn touched(transactions: &[Transaction]) -> BTreeMap<Touched, usize> {
    let mut counts = BTreeMap::new();
    for transaction in transactions {
        let domain = transaction.domain;
        let mut deleted = None;
        for op in &transaction.ops {
            let replaced = deleted.take();
            if let NetworkOp::Nft(op) = op {
                let (name, part) = nft_object(op);
                if let NftOp::DeleteElement { .. } = op {
                    deleted = Some((name.clone(), part.clone()));
                }
                if replaced.as_ref() != Some(&(name.clone(), part.clone())) {
                    *counts.entry(Touched { domain, name, part }).or_insert(0) += 1;
                }
                continue;
            }
            let (name, part) = match op {
                NetworkOp::PutChain { chain, .. } | NetworkOp::DeleteChain { chain } => {
                    (chain.0.clone(), String::new())
                }
                NetworkOp::CreateSet { name, .. } | NetworkOp::DestroySet { name } => {
                    (name.0.clone(), String::new())
                }
                NetworkOp::AddElement { set, element }
                | NetworkOp::DeleteElement { set, element } => (set.0.clone(), element.to_string()),
                NetworkOp::AddRule(rule) | NetworkOp::DeleteRule(rule) => {
                    (format!("{rule:?}"), String::new())
                }
                NetworkOp::PutRoute(route) | NetworkOp::DeleteRoute(route) => {
                    (format!("{} in {}", route.destination, route.table), String::new())
                }
                other => (other.describe(domain), String::new()),
            };
            *counts.entry(Touched { domain, name, part }).or_insert(0) += 1;
        }
    }
    counts
}

/// A chain or set, and the element of it.
fn nft_object(op: &NftOp) -> (String, String) {
    let whole = |name: String| (name, String::new());
    match op {
        NftOp::CreateTable | NftOp::DeleteTable => whole("table".into()),
        NftOp::CreateSet { name, .. } | NftOp::DeleteSet { name } => whole(format!("set {name}")),
        NftOp::PutChain { name, .. } | NftOp::DeleteChain { name } => {
            whole(format!("chain {name}"))
        }
        NftOp::AddElement { set, key, .. } | NftOp::DeleteElement { set, key } => {
            (format!("set {set}"), format!("{key:?}"))
        }
    }
}

/// What our table of nftables holds of an object.
fn look_into_nft(table: &NftTable, object: &Touched) -> Option<String> {
    match object.name.split_once(' ') {
        Some(("chain", name)) => table.chains.get(name).map(|chain| format!("{chain:?}")),
        Some(("set", name)) if object.part.is_empty() => {
            table.sets.get(name).map(|set| format!("{:?}", set.spec))
        }
        Some(_) => nft_element(table, object).map(|element| format!("{element:?}")),
        None => Some(String::new()),
    }
}

fn nft_element<'t>(table: &'t NftTable, object: &Touched) -> Option<&'t NftElement> {
    let set = table.sets.get(object.name.strip_prefix("set ")?)?;
    let mut elements = set.elements.iter();
    elements.find(|(key, _)| format!("{key:?}") == object.part).map(|(_, element)| element)
}

/// Whether an element names one of these Mappings.
fn is_of(state: &KernelState, object: &Touched, mappings: &BTreeSet<ObjectKey>) -> bool {
    let element = state.nft.as_ref().and_then(|table| nft_element(table, object));
    let comment = element.and_then(|element| element.comment.as_deref());
    comment.is_some_and(|text| mappings.iter().any(|key| key.to_string() == text))
}

/// What a kernel holds of an object, as text; `None` where it has none.
fn look(state: &KernelState, object: &Touched) -> Option<String> {
    match object.domain {
        Domain::Xtables(id) | Domain::OtherXtables(id) => {
            let own = matches!(object.domain, Domain::Xtables(_));
            let tables = if own { &state.xtables } else { &state.other_xtables };
            let table = tables.get(&id)?;
            let chain = table.chains.iter().find(|(name, _)| name.0 == object.name);
            // A jump or a built-in chain: by all of them.
            let jumps = || format!("{:?} {:?}", table.jumps, table.created_builtins);
            Some(match chain {
                Some((_, rules)) => format!("{rules:?}"),
                None if object.name.starts_with("SMARTNAT-") => return None,
                None => jumps(),
            })
        }
        Domain::Sets => {
            let (_, set) = state.sets.iter().find(|(name, _)| name.0 == object.name)?;
            if object.part.is_empty() {
                return Some(format!("{:?}", set.spec));
            }
            set.elements.iter().find(|e| e.to_string() == object.part).map(ToString::to_string)
        }
        Domain::Routing => {
            let route = |r: &&smartnat_core::objects::Route| {
                format!("{} in {}", r.destination, r.table) == object.name
            };
            let rule = state.rules.iter().map(|r| format!("{r:?}")).find(|r| *r == object.name);
            rule.or_else(|| state.routes.iter().find(route).map(|r| format!("{r:?}")))
        }
        Domain::Sysctls => state
            .sysctls
            .iter()
            .find(|(key, _)| format!("sysctl {key}") == object.name)
            .map(|(_, value)| format!("{value:?}")),
        Domain::Nftables => state.nft.as_ref().and_then(|table| look_into_nft(table, object)),
        Domain::Flows => None,
    }
}

/// Names of the chains and sets of Mappings.
fn names_of(
    cluster: &ClusterState,
    mappings: &BTreeSet<ObjectKey>,
    world: &World,
) -> BTreeSet<String> {
    let owners = owning_mappings(cluster, &world.config());
    let kept = mappings.intersection(&owners);
    kept.map(|key| names::mapping_chain(key).0).collect()
}
