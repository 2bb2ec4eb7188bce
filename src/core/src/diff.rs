//! From what the kernel holds to what it should: ordered transactions.
//!
//! Make before break (T18): what new rules need comes first, what old rules needed goes last.
//! Guard and marks (mangle, filter) precede translation (nat), forwarding is switched on last,
//! so every prefix keeps the isolation (P12). What another backend left goes when all that is new
//! stands, and before what both share. The external addresses of pods alone come before
//! mangle, which lets pods out: without, they would leave with their own (T4).

mod nft;
mod sysctls;
mod xtables;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::lower::DesiredObjects;
use crate::model::Family;
use crate::objects::{IpSet, KernelState, SetName, SysctlKey, XtTable, XtTableId};
use crate::ops::{Domain, NetworkOp, NftOp, Transaction};

/// The transactions that turn `observed` into `desired`; empty when they agree (P6).
pub fn diff(desired: &DesiredObjects, observed: &KernelState) -> Vec<Transaction> {
    let mut plan = Plan::default();
    let (forwarding, other) = sysctls::changes(desired, observed);
    let tables = xtables::changes(&desired.xtables, &observed.xtables);
    let others = xtables::changes(&desired.other_xtables, &observed.other_xtables);

    plan.add(Domain::Sysctls, sysctls::restored(&forwarding));
    plan.add(Domain::Sysctls, sysctls::set(&other));
    plan.add(Domain::Sets, make_sets(desired, observed));
    plan.add(Domain::Routing, make_routing(desired, observed));
    if let Some(table) = &desired.nft {
        plan.0.extend(nft::changes(table, observed.nft.as_ref()));
    }
    for (id, ops) in tables.addresses_of_pods {
        plan.add(Domain::Xtables(id), ops);
    }
    for id in [XtTable::Mangle, XtTable::Filter, XtTable::Nat].into_iter().flat_map(both_families) {
        plan.add(Domain::Xtables(id), tables.fill.get(&id).cloned().unwrap_or_default());
        plan.add(Domain::OtherXtables(id), others.fill.get(&id).cloned().unwrap_or_default());
    }
    plan.add(Domain::Sysctls, sysctls::set(&forwarding));

    for id in [XtTable::Nat, XtTable::Filter, XtTable::Mangle].into_iter().flat_map(both_families) {
        plan.add(Domain::Xtables(id), tables.clear.get(&id).cloned().unwrap_or_default());
        plan.add(Domain::OtherXtables(id), others.clear.get(&id).cloned().unwrap_or_default());
    }
    if desired.nft.is_none() && observed.nft.is_some() {
        plan.add(Domain::Nftables, vec![NetworkOp::Nft(NftOp::DeleteTable)]);
    }
    plan.add(Domain::Routing, break_routing(desired, observed));
    plan.add(Domain::Sets, break_sets(desired, observed));
    plan.add(Domain::Sysctls, sysctls::restored(&other));
    plan.0
}

#[derive(Default)]
struct Plan(Vec<Transaction>);

impl Plan {
    fn add(&mut self, domain: Domain, ops: Vec<NetworkOp>) {
        if !ops.is_empty() {
            self.0.push(Transaction { domain, ops });
        }
    }
}

fn both_families(table: XtTable) -> [XtTableId; 2] {
    Family::ALL.map(|family| XtTableId { family, table })
}

/// A set of the right name with the wrong type was put there by somebody else.
fn usable<'a>(name: &SetName, wanted: &IpSet, observed: &'a KernelState) -> Option<&'a IpSet> {
    observed.sets.get(name).filter(|held| held.spec == wanted.spec)
}

fn make_sets(desired: &DesiredObjects, observed: &KernelState) -> Vec<NetworkOp> {
    let mut ops = Vec::new();
    for (name, wanted) in &desired.sets {
        let held = usable(name, wanted, observed);
        if held.is_none() {
            if observed.sets.contains_key(name) {
                ops.push(NetworkOp::DestroySet { name: name.clone() });
            }
            ops.push(NetworkOp::CreateSet { name: name.clone(), spec: wanted.spec });
        }
        let missing =
            wanted.elements.iter().filter(|e| held.is_none_or(|h| !h.elements.contains(e)));
        ops.extend(missing.map(|e| NetworkOp::AddElement { set: name.clone(), element: *e }));
    }
    ops
}

fn break_sets(desired: &DesiredObjects, observed: &KernelState) -> Vec<NetworkOp> {
    let mut ops = Vec::new();
    for (name, held) in &observed.sets {
        match desired.sets.get(name) {
            None => ops.push(NetworkOp::DestroySet { name: name.clone() }),
            Some(wanted) if wanted.spec == held.spec => {
                let surplus = held.elements.difference(&wanted.elements);
                ops.extend(
                    surplus.map(|e| NetworkOp::DeleteElement { set: name.clone(), element: *e }),
                );
            }
            Some(_) => {}
        }
    }
    ops
}

/// Routes first, so that no rule leads to an empty table. A default route needs its subnet first.
fn make_routing(desired: &DesiredObjects, observed: &KernelState) -> Vec<NetworkOp> {
    let mut routes: Vec<_> = desired.routes.difference(&observed.routes).collect();
    routes.sort_by_key(|r| r.gateway.is_some());
    let rules = desired.rules.difference(&observed.rules);
    routes
        .into_iter()
        .map(|r| NetworkOp::PutRoute(r.clone()))
        .chain(rules.map(|r| NetworkOp::AddRule(r.clone())))
        .collect()
}

fn break_routing(desired: &DesiredObjects, observed: &KernelState) -> Vec<NetworkOp> {
    let rules = observed.rules.difference(&desired.rules);
    // PutRoute has replaced a route to a destination that is still wanted.
    let mut routes: Vec<_> = observed
        .routes
        .difference(&desired.routes)
        .filter(|old| {
            !desired.routes.iter().any(|r| r.table == old.table && r.destination == old.destination)
        })
        .collect();
    routes.sort_by_key(|r| r.gateway.is_none());
    rules
        .map(|r| NetworkOp::DeleteRule(r.clone()))
        .chain(routes.into_iter().map(|r| NetworkOp::DeleteRoute(r.clone())))
        .collect()
}

/// All keys of two maps in order, with what each has. A read-back compares every chain there is,
/// so it goes along both instead of looking each up.
fn side_by_side<'a, K: Ord, V>(
    left: &'a BTreeMap<K, V>,
    right: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some((one, _)), Some((other, _))) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let one = if order.is_le() { left.next() } else { None };
        let other = if order.is_ge() { right.next() } else { None };
        let (key, _) = one.or(other)?;
        Some((key, one.map(|(_, value)| value), other.map(|(_, value)| value)))
    })
}

/// Whether a sysctl opens forwarding, which is switched on last and off first.
fn is_forwarding(key: &SysctlKey) -> bool {
    matches!(key, SysctlKey::Forwarding(_))
}
