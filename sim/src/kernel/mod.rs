//! A kernel in memory. It refuses what a kernel refuses, and what it does not understand
//! it refuses too: it never assumes.
//!
//! One module per domain holds the objects and the kernel's rules for them; [`SimKernel`]
//! ties them together, injects faults and keeps a log of what it was asked to do.

mod conntrack;
mod error;
mod faults;
mod foreign;
mod hooks;
mod ipset;
mod links;
mod log;
mod nft;
mod references;
mod routing;
mod sysctl;
mod world;
mod xtables;

pub(crate) use conntrack::inverse;
pub use conntrack::{
    Conntrack, Direction, Entry, Progress, SctpState, TcpKind, TcpProgress, TcpState,
};
pub use faults::{Fault, OpKind, OpMatcher};
pub use foreign::{ForeignChain, ForeignObjects};
pub(crate) use hooks::{CONNTRACK, HookChain, Hooked, Hooks, translation_priority};
pub use ipset::{Set, Sets};
pub use links::{Links, SimLink};
pub use log::TransactionRecord;
pub use nft::{HeldElement, HeldSet, HeldTable, Nftables};
pub(crate) use nft::{PartialKey, Sought};
pub use routing::{HeldRoute, HeldRule, RULE_TABLES, Routing, RuleBody};
pub(crate) use routing::{TABLE_LOCAL, TABLE_MAIN};
pub use sysctl::Sysctls;
pub use xtables::{BuiltinRules, Policy, XtFlavour, XtTableRules, Xtables};

use smartnat_core::model::Timestamp;
use smartnat_core::objects::{
    Flow, FlowFilter, KernelState, Netfilter, ObservationScope, XtTableId,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, OpError, OpErrorClass, Transaction};

use faults::Faults;
use log::Log;
pub(crate) use log::describe;
use nft::Batch;
use xtables::Staged;

/// Simulated time starts here: late enough that a subtraction never meets zero.
const START: Timestamp = Timestamp(1_000_000_000);

/// A kernel in memory. Equal kernels hold equal objects, faults, logs and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimKernel {
    now: Timestamp,
    xtables: Xtables,
    sets: Sets,
    nft: Nftables,
    hooks: Hooks,
    links: Links,
    routing: Routing,
    sysctls: Sysctls,
    conntrack: Conntrack,
    faults: Faults,
    log: Log,
}

impl SimKernel {
    /// A kernel of one network namespace as it begins: a loopback link, the three
    /// rules of policy routing per family, no netfilter objects, both families.
    pub fn new(flavour: XtFlavour) -> Self {
        Self {
            now: START,
            xtables: Xtables::new(flavour),
            sets: Sets::default(),
            nft: Nftables::default(),
            hooks: Hooks::default(),
            links: Links::new(),
            routing: Routing::new(),
            sysctls: Sysctls::default(),
            conntrack: Conntrack::default(),
            faults: Faults::default(),
            log: Log::default(),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Moves virtual time on; elements of sets and conntrack entries expire.
    pub fn advance(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.sets.expire(self.now);
        self.nft.expire(self.now);
        self.conntrack.expire(self.now);
    }

    /// iptables as traversed by packets: ours and others' in true order.
    pub fn xtables(&self) -> &Xtables {
        &self.xtables
    }

    /// ipset, with the elements that were added at run time.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// nftables, with the elements that were added at run time.
    pub fn nft(&self) -> &Nftables {
        &self.nft
    }

    /// Rules and routes in the order of lookup.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// Links and addresses.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Sysctls and the values recorded before the first change.
    pub fn sysctls(&self) -> &Sysctls {
        &self.sysctls
    }

    /// Conntrack entries.
    pub fn conntrack(&self) -> &Conntrack {
        &self.conntrack
    }

    /// What a packet meets on its way, and what it changes.
    pub(crate) fn parts(&mut self) -> Parts<'_> {
        Parts {
            now: self.now,
            xtables: &self.xtables,
            sets: &mut self.sets,
            nft: &mut self.nft,
            hooks: &self.hooks,
            links: &self.links,
            routing: &self.routing,
            sysctls: &self.sysctls,
            conntrack: &mut self.conntrack,
        }
    }

    /// One operation that is not part of an atomic transaction.
    fn apply_single(&mut self, domain: Domain, op: &NetworkOp) -> Result<(), OpError> {
        match (domain, op) {
            (Domain::Sets, NetworkOp::CreateSet { name, spec }) => self.sets.create(name, spec),
            (Domain::Sets, NetworkOp::AddElement { set, element }) => {
                self.sets.add(set, *element, self.now)
            }
            (Domain::Sets, NetworkOp::DeleteElement { set, element }) => {
                self.sets.delete(set, element)
            }
            (Domain::Sets, NetworkOp::DestroySet { name }) => {
                self.sets.destroy(name, self.xtables.refers_to_set(name))
            }
            (Domain::Routing, NetworkOp::AddRule(rule)) => self.routing.add_rule(&self.links, rule),
            (Domain::Routing, NetworkOp::DeleteRule(rule)) => self.routing.delete_rule(rule),
            (Domain::Routing, NetworkOp::PutRoute(route)) => {
                self.routing.put_route(&self.links, route)
            }
            (Domain::Routing, NetworkOp::DeleteRoute(route)) => {
                self.routing.delete_route(&self.links, route)
            }
            (Domain::Sysctls, NetworkOp::SetSysctl { key, value }) => {
                self.sysctls.record(&self.links, key)?;
                self.write_sysctl(key, value)
            }
            (Domain::Sysctls, NetworkOp::ForgetSysctl { key, value }) => {
                // A setting that went with its interface has a record only.
                if let Some(value) = value.as_ref().filter(|_| self.sysctl(key).is_some()) {
                    self.write_sysctl(key, value)?;
                }
                self.sysctls.forget(key);
                Ok(())
            }
            (Domain::Flows, NetworkOp::DeleteFlow(key)) => {
                self.conntrack.delete(key);
                Ok(())
            }
            _ => no_operation_of(domain, op),
        }
    }

    /// The operations in order, by the rules of their domain. Calls `before` ahead of each.
    fn execute(
        &mut self,
        transaction: &Transaction,
        by: Actor,
        before: impl FnMut(&mut Self, &NetworkOp) -> Result<(), OpError>,
    ) -> (u64, Result<(), OpError>) {
        if transaction.ops.is_empty() {
            let error = OpError::new(OpErrorClass::Invalid, "transaction", "has no operation");
            return (0, Err(error));
        }
        let outcome = match transaction.domain {
            Domain::Xtables(id) => self.execute_xtables(id, &transaction.ops, by, before),
            Domain::Nftables => self.execute_nft(&transaction.ops, before),
            domain => return self.execute_in_order(domain, &transaction.ops, before),
        };
        let applied = if outcome.is_ok() { transaction.ops.len() as u64 } else { 0 };
        (applied, outcome)
    }

    fn execute_xtables(
        &mut self,
        id: XtTableId,
        ops: &[NetworkOp],
        by: Actor,
        mut before: impl FnMut(&mut Self, &NetworkOp) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let mut staged = self.xtables.stage(id, by);
        staged.declare(ops, &self.links)?;
        for op in ops {
            before(self, op)?;
            staged.apply(op, &self.sets)?;
        }
        self.commit(staged)
    }

    fn commit(&mut self, staged: Staged) -> Result<(), OpError> {
        self.xtables.commit(staged)?;
        self.hooks.follow(&self.xtables, &self.nft);
        Ok(())
    }

    fn execute_nft(
        &mut self,
        ops: &[NetworkOp],
        mut before: impl FnMut(&mut Self, &NetworkOp) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let mut batch = Batch::ours();
        let outcome = ops.iter().try_for_each(|op| {
            before(self, op)?;
            self.apply_nft(op, &mut batch)
        });
        self.commit_nft(batch, outcome)
    }

    fn apply_nft(&mut self, op: &NetworkOp, batch: &mut Batch) -> Result<(), OpError> {
        match op {
            NetworkOp::Nft(op) => self.nft.apply(op, self.now, batch),
            other => no_operation_of(Domain::Nftables, other),
        }
    }

    /// The end of a batch of which the operations came to `outcome`.
    fn commit_nft(&mut self, batch: Batch, outcome: Result<(), OpError>) -> Result<(), OpError> {
        if let Err(error) = outcome.and_then(|()| self.nft.check(&batch)) {
            self.nft.undo(batch);
            return Err(error);
        }
        self.hooks.follow(&self.xtables, &self.nft);
        Ok(())
    }

    fn execute_in_order(
        &mut self,
        domain: Domain,
        ops: &[NetworkOp],
        mut before: impl FnMut(&mut Self, &NetworkOp) -> Result<(), OpError>,
    ) -> (u64, Result<(), OpError>) {
        let (mut applied, mut first_error) = (0, None);
        for op in ops {
            match before(self, op).and_then(|()| self.apply_single(domain, op)) {
                Ok(()) => applied += 1,
                Err(error) => {
                    first_error.get_or_insert(error);
                    if domain != Domain::Flows {
                        break;
                    }
                }
            }
        }
        (applied, first_error.map_or(Ok(()), Err))
    }
}

fn no_operation_of<T>(domain: Domain, op: &NetworkOp) -> Result<T, OpError> {
    error::invalid(describe(domain, op), format_args!("is no operation of {domain:?}"))
}

/// The kernel as a packet meets it.
pub(crate) struct Parts<'k> {
    pub(crate) now: Timestamp,
    pub(crate) xtables: &'k Xtables,
    pub(crate) sets: &'k mut Sets,
    pub(crate) nft: &'k mut Nftables,
    pub(crate) hooks: &'k Hooks,
    pub(crate) links: &'k Links,
    pub(crate) routing: &'k Routing,
    pub(crate) sysctls: &'k Sysctls,
    pub(crate) conntrack: &'k mut Conntrack,
}

/// On whose behalf objects are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    /// The program under test: only what it can express.
    Us,
    /// Anybody else on the host.
    Others,
}

impl Kernel for SimKernel {
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError> {
        self.faults.check_read("kernel state")?;
        let netfilter = match scope.netfilter {
            Netfilter::All | Netfilter::InUse => KernelState {
                xtables: self.xtables.observe(),
                contested: self.contested(),
                sets: self.sets.observe(),
                nft: self.nft.observe(),
                ..KernelState::default()
            },
            // One flavour is all that there is.
            Netfilter::Untold => KernelState::default(),
        };
        Ok(KernelState {
            rules: self.routing.observe_rules(scope),
            routes: self.routing.observe_routes(scope),
            sysctls: self.sysctls.observe(&self.links, scope),
            ..netfilter
        })
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        let domain = transaction.domain;
        let (applied, outcome) = self.execute(transaction, Actor::Us, |kernel, op| {
            kernel.faults.check_op(domain, op)?;
            kernel.note_trespass(domain, op);
            Ok(())
        });
        self.log.push(self.now, transaction, applied, &outcome);
        outcome
    }

    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        self.faults.check_read("conntrack entries")?;
        Ok(self.conntrack.select(*filter))
    }
}

#[cfg(test)]
mod tests;
