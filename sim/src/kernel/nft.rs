//! nftables: tables of family inet with chains, sets and maps. Probed with Linux 6.18.

mod chain;
mod rule;
mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smartnat_core::model::Timestamp;
use smartnat_core::objects::nft::{
    NFT_TABLE, NftBase, NftChain, NftChainKind, NftElement, NftKey, NftName, NftSetSpec, NftTable,
    NftValue,
};
use smartnat_core::ops::{NftOp, OpError};

use super::error::{busy, exists, invalid, not_found};
use super::references::References;
use set::Problem;
pub use set::{HeldElement, HeldSet};
pub(crate) use set::{PartialKey, Sought};

/// All tables of family inet by name: ours, and those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nftables {
    tables: BTreeMap<String, HeldTable>,
}

/// A table as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTable {
    sets: BTreeMap<NftName, Arc<HeldSet>>,
    chains: BTreeMap<NftName, Arc<NftChain>>,
    bases: BTreeSet<NftName>,
    /// Chains that rules lead to; sets hold their own.
    jumps: References<NftName>,
    /// Sets that rules refer to.
    uses: References<NftName>,
    /// Rules that need connection tracking.
    tracking: usize,
}

/// What an operation has replaced.
enum Undo {
    Table(Option<HeldTable>),
    Set(NftName, Option<Arc<HeldSet>>),
    Chain(NftName, Option<Arc<NftChain>>),
    Element(NftName, NftKey, Option<HeldElement>),
}

/// Operations of one transaction: all of them are undone if one fails.
pub(super) struct Batch {
    table: String,
    undo: Vec<Undo>,
}

impl Batch {
    /// On our table.
    pub(super) fn ours() -> Self {
        Self::on(NFT_TABLE)
    }

    pub(super) fn on(table: &str) -> Self {
        Self { table: table.to_owned(), undo: Vec::new() }
    }
}

impl Nftables {
    /// One table.
    pub fn table(&self, name: &str) -> Option<&HeldTable> {
        self.tables.get(name)
    }

    /// Our table.
    pub fn ours(&self) -> Option<&HeldTable> {
        self.table(NFT_TABLE)
    }

    /// All tables by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &HeldTable)> {
        self.tables.iter().map(|(name, table)| (name.as_str(), table))
    }

    pub(super) fn observe(&self) -> Option<NftTable> {
        self.ours().map(HeldTable::observe)
    }

    /// Whether connections are tracked: from the first rule on that needs it (`nf_ct_netns_get`).
    pub(crate) fn tracks(&self) -> bool {
        self.tables.values().any(|table| table.tracking > 0)
    }

    /// Whether the hooks of address translation are registered (`nf_nat_inet_register_fn`).
    pub(crate) fn translates(&self) -> bool {
        let of_nat = |(_, base): (&NftName, NftBase)| base.kind == NftChainKind::Nat;
        self.tables.values().any(|table| table.bases().any(of_nat))
    }

    /// A set, to be changed by a rule.
    pub(crate) fn set_mut(&mut self, table: &str, name: &NftName) -> Option<&mut HeldSet> {
        self.tables.get_mut(table)?.sets.get_mut(name).map(Arc::make_mut)
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        for table in self.tables.values_mut() {
            let timed = table.sets.values_mut().filter(|set| set.spec().timeout.is_some());
            timed.for_each(|set| Arc::make_mut(set).expire(now));
        }
    }

    /// One operation, on what those before it have left.
    pub(super) fn apply(
        &mut self,
        op: &NftOp,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<(), OpError> {
        check_name(op)?;
        let table = match (op, self.tables.get_mut(&batch.table)) {
            (NftOp::CreateTable, Some(_)) => return Ok(()),
            (NftOp::CreateTable, None) => {
                self.tables.insert(batch.table.clone(), HeldTable::new());
                batch.undo.push(Undo::Table(None));
                return Ok(());
            }
            (_, None) => return not_found(op, "no such table"),
            (NftOp::DeleteTable, Some(_)) => {
                batch.undo.push(Undo::Table(self.tables.remove(&batch.table)));
                return Ok(());
            }
            (_, Some(table)) => table,
        };
        batch.undo.extend(table.apply(op, now)?);
        Ok(())
    }

    /// Checks what the kernel checks at the end of a batch (`nf_tables_validate`).
    pub(super) fn check(&self, batch: &Batch) -> Result<(), OpError> {
        self.tables.get(&batch.table).map_or(Ok(()), chain::check)
    }

    /// Takes back what a batch has done so far.
    pub(super) fn undo(&mut self, batch: Batch) {
        for undo in batch.undo.into_iter().rev() {
            if let Undo::Table(old) = undo {
                self.tables.remove(&batch.table);
                self.tables.extend(old.map(|old| (batch.table.clone(), old)));
            } else if let Some(table) = self.tables.get_mut(&batch.table) {
                table.undo(undo);
            }
        }
    }
}

impl HeldTable {
    fn new() -> Self {
        Self {
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
            bases: BTreeSet::new(),
            jumps: References::new(),
            uses: References::new(),
            tracking: 0,
        }
    }

    /// A set or map.
    pub fn set(&self, name: &NftName) -> Option<&HeldSet> {
        self.sets.get(name).map(Arc::as_ref)
    }

    /// All sets and maps by name.
    pub fn sets(&self) -> impl Iterator<Item = (&NftName, &HeldSet)> {
        self.sets.iter().map(|(name, set)| (name, set.as_ref()))
    }

    /// A chain.
    pub(crate) fn chain(&self, name: &NftName) -> Option<&Arc<NftChain>> {
        self.chains.get(name)
    }

    /// Chains that packets enter by themselves.
    pub fn bases(&self) -> impl Iterator<Item = (&NftName, NftBase)> {
        self.bases.iter().filter_map(|name| Some((name, self.chains.get(name)?.base?)))
    }

    /// What an observation tells of it.
    pub fn observe(&self) -> NftTable {
        let sets = self.sets.iter().map(|(name, set)| (name.clone(), set.observe()));
        let chains = self.chains.iter().map(|(name, chain)| (name.clone(), (**chain).clone()));
        NftTable { sets: sets.collect(), chains: chains.collect() }
    }

    fn apply(&mut self, op: &NftOp, now: Timestamp) -> Result<Option<Undo>, OpError> {
        match op {
            NftOp::CreateSet { name, spec } => self.create_set(op, name, spec).map(Some),
            NftOp::DeleteSet { name } => self.delete_set(op, name).map(Some),
            NftOp::PutChain { name, chain } => self.put_chain(op, name, chain).map(Some),
            NftOp::DeleteChain { name } => self.delete_chain(op, name).map(Some),
            NftOp::AddElement { set, key, element } => {
                self.add_element(op, set, (key, element), now)
            }
            NftOp::DeleteElement { set, key } => self.delete_element(op, set, key, now).map(Some),
            NftOp::CreateTable | NftOp::DeleteTable => Ok(None),
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Table(_) => {}
            Undo::Set(name, old) => {
                self.swap_set(&name, old);
            }
            Undo::Chain(name, old) => {
                self.swap_chain(&name, old);
            }
            Undo::Element(set, key, old) => {
                if let Some(set) = self.sets.get_mut(&set) {
                    Arc::make_mut(set).swap(&key, old);
                }
            }
        }
    }

    fn create_set(
        &mut self,
        op: &NftOp,
        name: &NftName,
        spec: &NftSetSpec,
    ) -> Result<Undo, OpError> {
        set::check_spec(spec).or_else(|problem| invalid(op, problem))?;
        if self.sets.contains_key(name) {
            return exists(op, "a set of that name exists");
        }
        let old = self.swap_set(name, Some(Arc::new(HeldSet::new(spec.clone()))));
        Ok(Undo::Set(name.clone(), old))
    }

    fn delete_set(&mut self, op: &NftOp, name: &NftName) -> Result<Undo, OpError> {
        if !self.sets.contains_key(name) {
            return not_found(op, "no such set");
        }
        if self.uses.holds(name) {
            return busy(op, "a rule refers to it");
        }
        Ok(Undo::Set(name.clone(), self.swap_set(name, None)))
    }

    fn put_chain(&mut self, op: &NftOp, name: &NftName, chain: &NftChain) -> Result<Undo, OpError> {
        let mut chain = chain.clone();
        if let Some(held) = self.chains.get(name) {
            match (held.base, chain.base) {
                // nf_tables_updchain: without a hook in the message nothing about it changes.
                (base, None) => chain.base = base,
                // It has no policy to change.
                (None, Some(_)) => return invalid(op, "it is no base chain"),
                (Some(held), Some(wanted)) => {
                    if (held.hook, held.priority) != (wanted.hook, wanted.priority) {
                        return invalid(op, "its hook and priority can't be changed");
                    }
                    if held.kind != wanted.kind {
                        return exists(op, "its type can't be changed");
                    }
                }
            }
        } else if let Some(base) = chain.base {
            chain::check_base(base).or_else(|problem| invalid(op, problem))?;
        }
        // Its rules may lead to it: it comes into being, or is emptied, ahead of them.
        let empty = Arc::new(NftChain { base: chain.base, rules: Vec::new() });
        let old = self.swap_chain(name, Some(empty));
        if let Err(error) = chain.rules.iter().try_for_each(|rule| rule::check(self, op, rule)) {
            self.swap_chain(name, old);
            return Err(error);
        }
        self.swap_chain(name, Some(Arc::new(chain)));
        Ok(Undo::Chain(name.clone(), old))
    }

    fn delete_chain(&mut self, op: &NftOp, name: &NftName) -> Result<Undo, OpError> {
        if !self.chains.contains_key(name) {
            return not_found(op, "no such chain");
        }
        // Rules of its own count too: the kernel has counted before it deletes them.
        if self.leads_to(name) {
            return busy(op, "a rule or an element leads to it");
        }
        Ok(Undo::Chain(name.clone(), self.swap_chain(name, None)))
    }

    fn leads_to(&self, chain: &NftName) -> bool {
        self.jumps.holds(chain) || self.sets.values().any(|set| set.targets.holds(chain))
    }

    fn add_element(
        &mut self,
        op: &NftOp,
        name: &NftName,
        (key, element): (&NftKey, &NftElement),
        now: Timestamp,
    ) -> Result<Option<Undo>, OpError> {
        let Some(set) = self.sets.get_mut(name) else { return not_found(op, "no such set") };
        set.check_form(key, element).or_else(|problem| invalid(op, problem))?;
        if let NftValue::Verdict(verdict) = &element.value
            && let Some(target) = verdict.chain()
        {
            check_target(&self.chains, op, target)?;
        }
        match set.check(key, element, now) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(problem) => return refuse(op, problem),
        }
        let expires = set.expiry(now, None);
        let new = HeldElement { element: element.clone(), expires, packets: 0 };
        let old = Arc::make_mut(set).swap(key, Some(new));
        Ok(Some(Undo::Element(name.clone(), key.clone(), old)))
    }

    fn delete_element(
        &mut self,
        op: &NftOp,
        name: &NftName,
        key: &NftKey,
        now: Timestamp,
    ) -> Result<Undo, OpError> {
        let Some(set) = self.sets.get_mut(name) else { return not_found(op, "no such set") };
        let key = set.deleted_by(key, now).or_else(|problem| refuse(op, problem))?;
        let old = Arc::make_mut(set).swap(&key, None);
        Ok(Undo::Element(name.clone(), key, old))
    }

    /// Puts a set in or takes it out; returns what was there.
    fn swap_set(&mut self, name: &NftName, new: Option<Arc<HeldSet>>) -> Option<Arc<HeldSet>> {
        match new {
            Some(new) => self.sets.insert(name.clone(), new),
            None => self.sets.remove(name),
        }
    }

    /// Puts a chain in or takes it out; returns what was there.
    fn swap_chain(&mut self, name: &NftName, new: Option<Arc<NftChain>>) -> Option<Arc<NftChain>> {
        if let Some(new) = &new {
            for rule in &new.rules {
                rule.chains().for_each(|chain| self.jumps.add(chain));
                rule.sets().for_each(|set| self.uses.add(set));
                self.tracking += usize::from(rule::needs_tracking(rule));
            }
        }
        if new.as_ref().is_some_and(|chain| chain.base.is_some()) {
            self.bases.insert(name.clone());
        } else {
            self.bases.remove(name);
        }
        let old = match new {
            Some(new) => self.chains.insert(name.clone(), new),
            None => self.chains.remove(name),
        };
        for rule in old.iter().flat_map(|chain| &chain.rules) {
            rule.chains().for_each(|chain| self.jumps.remove(chain));
            rule.sets().for_each(|set| self.uses.remove(set));
            self.tracking -= usize::from(rule::needs_tracking(rule));
        }
        old
    }
}

/// The policy of the attribute comes before any look-up, also of the table.
fn check_name(op: &NftOp) -> Result<(), OpError> {
    let name = match op {
        NftOp::CreateTable | NftOp::DeleteTable => return Ok(()),
        NftOp::CreateSet { name, .. }
        | NftOp::DeleteSet { name }
        | NftOp::PutChain { name, .. }
        | NftOp::DeleteChain { name } => name,
        NftOp::AddElement { set, .. } | NftOp::DeleteElement { set, .. } => set,
    };
    fits(op, name)
}

fn fits(op: &NftOp, name: &NftName) -> Result<(), OpError> {
    if name.as_str().len() > NftName::MAX_LEN {
        return invalid(op, "a name has at most 255 bytes");
    }
    Ok(())
}

/// `nft_verdict_init`: a verdict leads to a chain that is there and no base chain.
fn check_target(
    chains: &BTreeMap<NftName, Arc<NftChain>>,
    op: &NftOp,
    target: &NftName,
) -> Result<(), OpError> {
    fits(op, target)?;
    match chains.get(target) {
        None => not_found(op, format_args!("no chain {target}")),
        Some(chain) if chain.base.is_some() => {
            invalid(op, format_args!("{target} is a base chain"))
        }
        Some(_) => Ok(()),
    }
}

fn refuse<T>(op: &NftOp, problem: Problem) -> Result<T, OpError> {
    match problem {
        Problem::Exists(detail) => exists(op, detail),
        Problem::NotFound(detail) => not_found(op, detail),
        Problem::Invalid(detail) => invalid(op, detail),
    }
}
