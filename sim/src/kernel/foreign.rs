//! What is not ours: held apart from observations, to be left alone (T14, P11).

use std::collections::{BTreeMap, BTreeSet};

use smartnat_core::objects::nft::{NFT_TABLE, NftTable};
use smartnat_core::objects::{
    BuiltinChain, BuiltinHook, ChainName, ROUTE_PROTOCOL, SetName, XtRule, XtTable, XtTableId,
};
use smartnat_core::ops::{Domain, NetworkOp};

use super::SimKernel;
use super::ipset::{Set, Sets};
use super::log::describe;
use super::routing::{HeldRoute, HeldRule};
use super::xtables::{BuiltinRules, Policy, XtFlavour, XtTableRules, is_ours, jumps_to_ours};

/// Somebody else's chain, or what somebody else has in a built-in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignChain {
    /// Policy, if it is a built-in chain.
    pub policy: Option<Policy>,
    /// Rules in order, without ours.
    pub rules: Vec<XtRule>,
}

/// Everything that is not ours. Two equal snapshots: nothing of it has changed in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignObjects {
    /// Chains by table and name; a built-in chain that we created is there once others use it.
    pub chains: BTreeMap<(XtTableId, String), ForeignChain>,
    /// Sets.
    pub sets: BTreeMap<SetName, Set>,
    /// Tables of nftables, without elements that come and go at run time.
    pub nft: BTreeMap<String, NftTable>,
    /// Rules in the order of lookup.
    pub rules: Vec<HeldRule>,
    /// Routes.
    pub routes: Vec<HeldRoute>,
}

/// What is not ours.
impl SimKernel {
    /// A snapshot of everything that is not ours.
    pub fn foreign(&self) -> ForeignObjects {
        let mut chains = BTreeMap::new();
        for table in self.xtables.tables() {
            for (name, rules) in table.chains().filter(|(name, _)| !is_ours(name)) {
                let chain = ForeignChain { policy: None, rules: rules.to_vec() };
                chains.insert((table.id(), name.0.clone()), chain);
            }
            for (hook, builtin) in table.builtins() {
                let rules: Vec<_> =
                    builtin.rules.iter().filter(|r| !jumps_to_ours(r)).cloned().collect();
                // An empty one says nothing where all are always there.
                let always_there = self.xtables.flavour() == XtFlavour::Legacy;
                let ours = table.created_builtins().contains(&hook);
                if !(ours || always_there) || !rules.is_empty() || builtin.policy != Policy::Accept
                {
                    let chain = ForeignChain { policy: Some(builtin.policy), rules };
                    chains.insert((table.id(), hook.name().into()), chain);
                }
            }
        }
        ForeignObjects {
            chains,
            sets: self
                .sets
                .iter()
                .filter(|(name, _)| !Sets::is_ours(name))
                .map(|(name, set)| (name.clone(), set.clone()))
                .collect(),
            nft: self
                .nft
                .tables()
                .filter(|(name, _)| *name != NFT_TABLE)
                .map(|(name, table)| (name.to_owned(), table.observe()))
                .collect(),
            rules: self
                .routing
                .all_rules()
                .iter()
                .filter(|r| r.protocol != ROUTE_PROTOCOL)
                .cloned()
                .collect(),
            routes: self
                .routing
                .routes()
                .iter()
                .filter(|r| r.protocol != ROUTE_PROTOCOL)
                .cloned()
                .collect(),
        }
    }

    /// Built-in chains of table filter in which others have a rule or a policy of DROP.
    pub(super) fn contested(&self) -> BTreeSet<BuiltinChain> {
        let filters = self.xtables.tables().filter(|table| table.id().table == XtTable::Filter);
        let judged = |table: &XtTableRules| -> Vec<BuiltinChain> {
            let theirs = |builtin: &BuiltinRules| {
                builtin.policy != Policy::Accept || !builtin.rules.iter().all(jumps_to_ours)
            };
            let judged = table.builtins().filter(|(_, builtin)| theirs(builtin));
            judged.map(|(hook, _)| BuiltinChain { table: table.id(), hook }).collect()
        };
        filters.flat_map(judged).collect()
    }

    /// Notes an operation of ours that means something that is not ours.
    pub(super) fn note_trespass(&mut self, domain: Domain, op: &NetworkOp) {
        let foreign = match op {
            NetworkOp::PutChain { chain, .. } | NetworkOp::DeleteChain { chain } => !is_ours(chain),
            NetworkOp::InsertJump { rule, .. } | NetworkOp::DeleteJump { rule, .. } => {
                !jumps_to_ours(rule)
            }
            NetworkOp::DeleteEmptyBuiltin { hook } => self.is_foreign_builtin(domain, *hook),
            NetworkOp::CreateSet { name, .. } | NetworkOp::DestroySet { name } => {
                !Sets::is_ours(name)
            }
            NetworkOp::AddElement { set, .. } | NetworkOp::DeleteElement { set, .. } => {
                !Sets::is_ours(set)
            }
            NetworkOp::PutRoute(route) => self.routing.displaced_by(route).is_some(),
            _ => false,
        };
        if foreign {
            self.log.trespass(describe(domain, op));
        }
    }

    /// Whether a built-in chain exists that did not come into being by us.
    fn is_foreign_builtin(&self, domain: Domain, hook: BuiltinHook) -> bool {
        let Domain::Xtables(id) = domain else { return false };
        self.xtables.table(id).is_some_and(|table| {
            self.xtables.flavour() == XtFlavour::Nft
                && table.builtin(hook).is_some()
                && !table.created_builtins().contains(&hook)
        })
    }
}

/// The name of a chain, built-in or not, as others use it.
pub(super) fn hook_of(chain: &str) -> Option<BuiltinHook> {
    BuiltinHook::ALL.into_iter().find(|hook| hook.name() == chain)
}

/// A user-defined chain's name.
pub(super) fn user_chain(chain: &str) -> ChainName {
    ChainName(chain.into())
}
