//! iptables of both families: tables, chains, rules. Probed with iptables 1.8.9, both flavours.

mod chain;
mod hooks;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smartnat_core::model::Family;
use smartnat_core::objects::{
    BuiltinHook, CHAIN_PREFIX, ChainName, SetName, XtRule, XtTable, XtTableId, XtTableState,
};
use smartnat_core::ops::{NetworkOp, OpError};
use smartnat_core::xtables_text::canonical;

use super::Actor;
use super::error::{busy, invalid, not_found};
use super::ipset::Sets;
use super::links::Links;
use super::log::describe;
use super::references::References;

/// Which iptables programs carry the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XtFlavour {
    /// `iptables-nft`: built-in chains come into being with their first rule.
    #[default]
    Nft,
    /// `iptables-legacy`: built-in chains are always there.
    Legacy,
}

/// Policy of a built-in chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `ACCEPT`.
    #[default]
    Accept,
    /// `DROP`.
    Drop,
}

/// A built-in chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuiltinRules {
    /// What happens to packets that no rule decides about.
    pub policy: Policy,
    /// Rules of everybody in the order of traversal.
    pub rules: Arc<Vec<XtRule>>,
}

/// One table of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XtTableRules {
    id: XtTableId,
    builtins: BTreeMap<BuiltinHook, BuiltinRules>,
    chains: BTreeMap<ChainName, Arc<Vec<XtRule>>>,
    created_builtins: BTreeSet<BuiltinHook>,
    jumps: References<ChainName>,
    sets: References<SetName>,
    /// Rules that need connection tracking.
    tracking: usize,
}

/// All tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xtables {
    flavour: XtFlavour,
    tables: BTreeMap<XtTableId, XtTableRules>,
}

/// A transaction in progress: nothing of it is in effect before the commit.
pub(super) struct Staged {
    table: XtTableRules,
    flavour: XtFlavour,
    by: Actor,
}

impl Xtables {
    pub(super) fn new(flavour: XtFlavour) -> Self {
        Self { flavour, tables: BTreeMap::new() }
    }

    /// Which programs carry the rules.
    pub fn flavour(&self) -> XtFlavour {
        self.flavour
    }

    /// One table; `None` while nobody has used it.
    pub fn table(&self, id: XtTableId) -> Option<&XtTableRules> {
        self.tables.get(&id)
    }

    /// All tables that somebody has used.
    pub fn tables(&self) -> impl Iterator<Item = &XtTableRules> {
        self.tables.values()
    }

    /// Whether any rule refers to the set.
    pub(super) fn refers_to_set(&self, name: &SetName) -> bool {
        self.tables.values().any(|t| t.sets.holds(name))
    }

    /// Whether connections of the family are tracked: from the first rule on that needs it
    /// (`nf_ct_netns_get`).
    pub(crate) fn tracks(&self, family: Family) -> bool {
        let of_family = self.tables.values().filter(|t| t.id.family == family);
        self.translates(family) || of_family.into_iter().any(|t| t.tracking > 0)
    }

    /// Whether the hooks of table nat are registered (`nf_nat_register_fn`).
    pub(crate) fn translates(&self, family: Family) -> bool {
        let id = XtTableId { family, table: XtTable::Nat };
        self.tables.get(&id).is_some_and(|table| !table.builtins.is_empty())
    }

    pub(super) fn observe(&self) -> BTreeMap<XtTableId, XtTableState> {
        self.tables
            .iter()
            .map(|(id, table)| (*id, table.observe()))
            .filter(|(_, state)| !state.is_empty() || !state.created_builtins.is_empty())
            .collect()
    }

    /// Begins a transaction on one table.
    pub(super) fn stage(&self, id: XtTableId, by: Actor) -> Staged {
        let table =
            self.tables.get(&id).cloned().unwrap_or_else(|| XtTableRules::new(id, self.flavour));
        Staged { table, flavour: self.flavour, by }
    }

    /// Puts a transaction into effect if the resulting table is one that the kernel takes.
    pub(super) fn commit(&mut self, staged: Staged) -> Result<(), OpError> {
        hooks::check(&staged.table, self.flavour)?;
        self.tables.insert(staged.table.id, staged.table);
        Ok(())
    }
}

impl XtTableRules {
    fn new(id: XtTableId, flavour: XtFlavour) -> Self {
        let builtins = match flavour {
            XtFlavour::Nft => BTreeMap::new(),
            XtFlavour::Legacy => {
                id.table.hooks().iter().map(|h| (*h, BuiltinRules::default())).collect()
            }
        };
        Self {
            id,
            builtins,
            chains: BTreeMap::new(),
            created_builtins: BTreeSet::new(),
            jumps: References::new(),
            sets: References::new(),
            tracking: 0,
        }
    }

    /// Family and table.
    pub fn id(&self) -> XtTableId {
        self.id
    }

    /// A built-in chain; `None` where it does not exist (nft flavour).
    pub fn builtin(&self, hook: BuiltinHook) -> Option<&BuiltinRules> {
        self.builtins.get(&hook)
    }

    /// All built-in chains that exist.
    pub fn builtins(&self) -> impl Iterator<Item = (BuiltinHook, &BuiltinRules)> {
        self.builtins.iter().map(|(hook, chain)| (*hook, chain))
    }

    /// Rules of a user-defined chain.
    pub fn chain(&self, name: &ChainName) -> Option<&[XtRule]> {
        self.chains.get(name).map(|rules| rules.as_slice())
    }

    /// All user-defined chains, ours and others'.
    pub fn chains(&self) -> impl Iterator<Item = (&ChainName, &[XtRule])> {
        self.chains.iter().map(|(name, rules)| (name, rules.as_slice()))
    }

    /// Built-in chains that came into being by an operation of ours.
    pub fn created_builtins(&self) -> &BTreeSet<BuiltinHook> {
        &self.created_builtins
    }

    fn observe(&self) -> XtTableState {
        let jumps = |chain: &BuiltinRules| -> Vec<XtRule> {
            chain.rules.iter().filter(|r| jumps_to_ours(r)).cloned().collect()
        };
        XtTableState {
            chains: self
                .chains
                .iter()
                .filter(|(name, _)| is_ours(name))
                .map(|(name, rules)| (name.clone(), rules.to_vec()))
                .collect(),
            jumps: self
                .builtins
                .iter()
                .map(|(hook, chain)| (*hook, jumps(chain)))
                .filter(|(_, rules)| !rules.is_empty())
                .collect(),
            created_builtins: self
                .created_builtins
                .iter()
                .copied()
                .filter(|hook| !self.is_shared(*hook))
                .collect(),
        }
    }

    /// Whether others use a built-in chain too: they have a rule there, or a policy.
    fn is_shared(&self, hook: BuiltinHook) -> bool {
        self.builtin(hook).is_some_and(|chain| {
            chain.policy != Policy::Accept || !chain.rules.iter().all(jumps_to_ours)
        })
    }

    fn count_in(&mut self, rule: &XtRule) {
        rule.jump_target().into_iter().for_each(|chain| self.jumps.add(chain));
        rule.sets().for_each(|set| self.sets.add(set));
        self.tracking += usize::from(rule::needs_tracking(rule));
    }

    fn count_out(&mut self, rule: &XtRule) {
        rule.jump_target().into_iter().for_each(|chain| self.jumps.remove(chain));
        rule.sets().for_each(|set| self.sets.remove(set));
        self.tracking -= usize::from(rule::needs_tracking(rule));
    }
}

/// Whether a chain is ours by its name.
pub(super) fn is_ours(name: &ChainName) -> bool {
    name.0.starts_with(CHAIN_PREFIX)
}

/// Whether a rule of a built-in chain is ours.
pub(super) fn jumps_to_ours(rule: &XtRule) -> bool {
    rule.jump_target().is_some_and(is_ours)
}

impl Staged {
    /// Ahead of all operations every chain that is put is declared, which creates or empties it,
    /// and every chain that is deleted is flushed: the order of chains that jump to each other
    /// does not matter.
    pub(super) fn declare(&mut self, ops: &[NetworkOp], links: &Links) -> Result<(), OpError> {
        let id = self.table.id;
        if !links.families().contains(&id.family) {
            let object = format!("table {} ({})", id.table.name(), id.family);
            return invalid(object, "the kernel does not have this family");
        }
        for op in ops {
            if let NetworkOp::PutChain { chain, .. } = op {
                chain::check_name(id, chain)?;
                self.table.chains.entry(chain.clone()).or_default();
                self.flush(chain)?;
            }
        }
        for op in ops {
            if let NetworkOp::DeleteChain { chain } = op {
                chain::check_name(id, chain)?;
                self.flush(chain)?;
            }
        }
        Ok(())
    }

    /// One operation, on what those before it have left.
    pub(super) fn apply(&mut self, op: &NetworkOp, sets: &Sets) -> Result<(), OpError> {
        match op {
            NetworkOp::PutChain { chain, rules } => self.fill_chain(chain, rules, sets),
            NetworkOp::DeleteChain { chain } => self.delete_chain(chain),
            NetworkOp::InsertJump { hook, rule } => self.insert(*hook, 0, rule, sets),
            NetworkOp::DeleteJump { hook, rule } => self.delete_rule(*hook, rule),
            NetworkOp::DeleteEmptyBuiltin { hook } => {
                self.delete_empty_builtin(*hook);
                Ok(())
            }
            _ => invalid(self.describe(op), "is no operation of iptables"),
        }
    }

    /// Gives a declared chain its rules. They may jump to the chain itself while no hook reaches it.
    fn fill_chain(
        &mut self,
        name: &ChainName,
        rules: &[XtRule],
        sets: &Sets,
    ) -> Result<(), OpError> {
        // A chain that is put twice has the rules of the last.
        self.flush(name)?;
        let mut held = Vec::with_capacity(rules.len());
        for wanted in rules {
            held.push(self.accept(&name.0, wanted, sets)?);
        }
        for rule in &held {
            self.table.count_in(rule);
        }
        self.table.chains.insert(name.clone(), Arc::new(held));
        Ok(())
    }

    /// `-X`: refused while the chain has rules, or another a jump to it.
    fn delete_chain(&mut self, name: &ChainName) -> Result<(), OpError> {
        let Some(rules) = self.table.chains.get(name) else { return self.no_chain(&name.0) };
        if !rules.is_empty() || self.table.jumps.holds(name) {
            return busy(self.object(&name.0), "device or resource busy");
        }
        self.table.chains.remove(name);
        Ok(())
    }

    /// Inserts a rule before the one at `position` of a built-in chain, which comes into being if need be.
    pub(super) fn insert(
        &mut self,
        hook: BuiltinHook,
        position: usize,
        wanted: &XtRule,
        sets: &Sets,
    ) -> Result<(), OpError> {
        self.check_target_name(wanted)?;
        self.check_hook(hook)?;
        let held = self.accept(hook.name(), wanted, sets)?;
        self.table.count_in(&held);
        if !self.table.builtins.contains_key(&hook) && self.by == Actor::Us {
            self.table.created_builtins.insert(hook);
        }
        let rules = Arc::make_mut(&mut self.table.builtins.entry(hook).or_default().rules);
        rules.insert(position.min(rules.len()), held);
        Ok(())
    }

    /// Deletes the first equal rule of a built-in chain.
    fn delete_rule(&mut self, hook: BuiltinHook, wanted: &XtRule) -> Result<(), OpError> {
        self.check_target_name(wanted)?;
        self.check_hook(hook)?;
        let wanted = canonical(wanted);
        // `-D` with a jump to a chain that does not exist fails on the chain, in the same class.
        let found = self
            .table
            .builtins
            .get(&hook)
            .and_then(|chain| chain.rules.iter().position(|held| *held == wanted));
        let (Some(at), Some(chain)) = (found, self.table.builtins.get_mut(&hook)) else {
            return not_found(
                self.object(hook.name()),
                "bad rule (does a matching rule exist in that chain?)",
            );
        };
        let gone = Arc::make_mut(&mut chain.rules).remove(at);
        self.table.count_out(&gone);
        Ok(())
    }

    /// Where it is not empty, or has a policy, it stays; one that is not there is gone already.
    fn delete_empty_builtin(&mut self, hook: BuiltinHook) {
        if self.flavour == XtFlavour::Nft
            && self
                .table
                .builtins
                .get(&hook)
                .is_some_and(|c| c.rules.is_empty() && c.policy == Policy::Accept)
        {
            self.table.builtins.remove(&hook);
            self.table.created_builtins.remove(&hook);
        }
    }

    /// `-F`.
    fn flush(&mut self, name: &ChainName) -> Result<(), OpError> {
        let Some(chain) = self.table.chains.get_mut(name) else { return self.no_chain(&name.0) };
        let old = std::mem::take(chain);
        for rule in old.iter() {
            self.table.count_out(rule);
        }
        Ok(())
    }

    fn no_chain<T>(&self, name: &str) -> Result<T, OpError> {
        not_found(self.object(name), "no chain/target/match by that name")
    }

    /// The rule as the kernel would hold it in the chain.
    fn accept(&self, chain: &str, wanted: &XtRule, sets: &Sets) -> Result<XtRule, OpError> {
        let place = rule::Place { table: self.table.id, chain, by: self.by };
        rule::check(&place, wanted, sets)?;
        self.check_target_name(wanted)?;
        if let Some(target) = wanted.jump_target()
            && !self.table.chains.contains_key(target)
        {
            // Both flavours find that out before anything reaches the kernel.
            let detail = format_args!("chain '{target}' does not exist");
            return not_found(self.object(chain), detail);
        }
        Ok(canonical(wanted))
    }

    /// The programs look at the name of a target before they look for anything.
    fn check_target_name(&self, rule: &XtRule) -> Result<(), OpError> {
        rule.jump_target().map_or(Ok(()), |target| chain::check_name(self.table.id, target))
    }

    fn check_hook(&self, hook: BuiltinHook) -> Result<(), OpError> {
        if self.table.id.table.hooks().contains(&hook) {
            return Ok(());
        }
        self.no_chain(hook.name())
    }

    fn object(&self, chain: &str) -> String {
        chain_object(self.table.id, chain)
    }

    fn describe(&self, op: &NetworkOp) -> String {
        describe(smartnat_core::ops::Domain::Xtables(self.table.id), op)
    }

    /// For what others do.
    pub(super) fn set_policy(&mut self, hook: BuiltinHook, policy: Policy) -> Result<(), OpError> {
        self.check_hook(hook)?;
        self.table.builtins.entry(hook).or_default().policy = policy;
        Ok(())
    }

    /// Removes the rules of a chain, built-in or not, that `gone` names; for what others do.
    pub(super) fn drop_rules(&mut self, chain: &str, gone: impl Fn(&XtRule) -> bool) {
        let hook = BuiltinHook::ALL.into_iter().find(|h| h.name() == chain);
        let rules = match hook {
            Some(hook) => self.table.builtins.get_mut(&hook).map(|c| &mut c.rules),
            None => self.table.chains.get_mut(&ChainName(chain.into())),
        };
        let rules = rules.unwrap_or_else(|| panic!("there is no chain {chain}"));
        let (out, kept): (Vec<_>, Vec<_>) = rules.iter().cloned().partition(gone);
        *rules = Arc::new(kept);
        for rule in &out {
            self.table.count_out(rule);
        }
    }

    /// The rules of a user-defined chain and one more; for what others do.
    pub(super) fn append(
        &mut self,
        chain: &ChainName,
        wanted: &XtRule,
        sets: &Sets,
    ) -> Result<(), OpError> {
        let Some(rules) = self.table.chains.get(chain) else { return self.no_chain(&chain.0) };
        let mut rules = rules.to_vec();
        rules.push(wanted.clone());
        self.fill_chain(chain, &rules, sets)
    }
}

/// A chain as [`NetworkOp::describe`] names it.
fn chain_object(id: XtTableId, chain: &str) -> String {
    format!("chain {chain} in {} ({})", id.table.name(), id.family)
}

/// `iptables` or `ip6tables` takes addresses of its own family alone.
fn of_family(family: Family, address: std::net::IpAddr) -> bool {
    Family::of(&address) == family
}
