//! From any state of the kernel to any desired one.

use std::collections::BTreeMap;

use smartnat_core::compile::{adopt_numbers, compile, sysctl_scope};
use smartnat_core::diff::diff as changes;
use smartnat_core::lower::{DesiredObjects, lower};
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{ClusterState, GatewayConfig};
use smartnat_core::objects::{KernelState, ObservationScope, XtTableState};
use smartnat_core::ops::{Kernel, OpError, Transaction};

use super::choices::Choices;
use super::{host, interference, objects};
use crate::SimKernel;

/// Rounds within which even a spoiled kernel holds what is wanted, as the gateway has them.
const ROUNDS: usize = 4;

/// Takes a kernel to one cluster's objects, or part of the way, lets others spoil it and takes it
/// to another cluster's. What nobody spoiled needs one diff and no operation fails; a second diff
/// is empty (P6), what is foreign stays (P11), and back to nothing leaves nothing (P10).
pub fn diff(data: &[u8]) {
    let c = &mut Choices::new(data);
    let config = host::config(c);
    let mut kernel = host::kernel(c);
    let mut cluster = objects::cluster(c, 8);
    converge(&mut kernel, &cluster, &config, 1);

    let mut rounds = 1;
    if c.flag() {
        cluster = ClusterState::default();
    }
    for _ in 0..c.below(4) {
        for object in objects::change(c) {
            cluster.update(object);
        }
    }
    if c.flag() {
        rounds = ROUNDS;
        let transactions =
            changes(&desired(&mut kernel, &cluster, &config), &observe(&mut kernel, &config));
        kernel.crash_after(c.below(64) as u64);
        let _ = apply(&mut kernel, &transactions);
        kernel.recover();
    }
    for _ in 0..c.below(4) {
        rounds = ROUNDS;
        match c.below(3) {
            0 => host::happens(c, &mut kernel),
            1 => interference::with_ours(c, &mut kernel),
            _ => interference::with_theirs(c, &mut kernel),
        };
    }
    converge(&mut kernel, &cluster, &config, rounds);
    assert_removable(&mut kernel, &config);
}

/// Diffs and applies until the diff is empty; then the kernel holds exactly what is wanted.
fn converge(kernel: &mut SimKernel, cluster: &ClusterState, config: &GatewayConfig, rounds: usize) {
    let foreign = kernel.foreign();
    for round in 0..=rounds {
        let desired = desired(kernel, cluster, config);
        let observed = observe(kernel, config);
        let transactions = changes(&desired, &observed);
        if transactions.is_empty() {
            assert_holds(&observed, &desired);
            assert_eq!(kernel.foreign(), foreign, "P11");
            assert_eq!(kernel.trespasses(), [] as [String; 0], "P11");
            return;
        }
        assert!(round < rounds, "P6: still {transactions:#?}");
        let outcome = apply(kernel, &transactions);
        assert!(rounds > 1 || outcome.is_ok(), "P13: {outcome:?} in {transactions:#?}");
    }
}

/// Everything of ours, and nothing else.
fn observe(kernel: &mut SimKernel, config: &GatewayConfig) -> KernelState {
    let scope = ObservationScope {
        table_base: config.table_base,
        table_count: MarkLayout::new(config.mark_mask).max_uplinks(),
        rule_priority: config.rule_priority,
        sysctls: sysctl_scope(&kernel.host(), config),
        netfilter: smartnat_core::objects::Netfilter::All,
    };
    kernel.observe(&scope).unwrap_or_else(|error| panic!("no fault is injected: {error}"))
}

/// What a cluster asks for on this host.
fn desired(
    kernel: &mut SimKernel,
    cluster: &ClusterState,
    config: &GatewayConfig,
) -> DesiredObjects {
    let observed = observe(kernel, config);
    let numbers = adopt_numbers(&observed, config);
    lower(&compile(cluster, &kernel.host(), config, &numbers, &observed).dataplane, config.backend)
}

/// All of them; the first failure ends it, as in the gateway.
fn apply(kernel: &mut SimKernel, transactions: &[Transaction]) -> Result<(), OpError> {
    transactions.iter().try_for_each(|transaction| kernel.apply(transaction))
}

/// An empty diff means equality, but for what only an observation knows.
fn assert_holds(observed: &KernelState, desired: &DesiredObjects) {
    let strip = |tables: &BTreeMap<_, XtTableState>| -> BTreeMap<_, _> {
        let tables = tables.iter().filter(|(_, table)| !table.is_empty());
        tables
            .map(|(id, table)| {
                let jumps: BTreeMap<_, _> = table
                    .jumps
                    .iter()
                    .filter(|(_, rules)| !rules.is_empty())
                    .map(|(hook, rules)| (*hook, rules.clone()))
                    .collect();
                (*id, (table.chains.clone(), jumps))
            })
            .collect()
    };
    assert_eq!(strip(&observed.xtables), strip(&desired.xtables));
    assert_eq!(observed.sets, desired.sets);
    assert_eq!(observed.nft, desired.nft);
    assert_eq!(observed.rules, desired.rules);
    assert_eq!(observed.routes, desired.routes);
    for (key, value) in &desired.sysctls {
        let held = observed.sysctls.get(key).map(|state| &state.value);
        assert_eq!(held, Some(value), "{key}");
    }
}

/// The way to nothing, without a failure.
fn assert_removable(kernel: &mut SimKernel, config: &GatewayConfig) {
    let foreign = kernel.foreign();
    let transactions = changes(&DesiredObjects::default(), &observe(kernel, config));
    if let Err(error) = apply(kernel, &transactions) {
        panic!("P10: {error} in {transactions:#?}");
    }
    let left = observe(kernel, config);
    assert_holds(&left, &DesiredObjects::default());
    assert!(left.sysctls.values().all(|state| state.original.is_none()), "P10: {left:#?}");
    assert_eq!(kernel.foreign(), foreign, "P11");
}
