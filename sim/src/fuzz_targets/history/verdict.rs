//! What must hold once nothing disturbs the gateway any more.

use std::collections::BTreeMap;

use smartnat_core::compile::{adopt_numbers, compile, sysctl_scope};
use smartnat_core::diff::diff;
use smartnat_core::flows::Permissions;
use smartnat_core::gateway::{EventKind, Input};
use smartnat_core::lower::lower;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Backend, GatewayConfig};
use smartnat_core::objects::{KernelState, ObservationScope};
use smartnat_core::ops::Kernel;

use super::super::objects;
use super::run::Run;
use crate::{Driver, SimKernel};

/// Longer than the longest pause and the read-back after it.
const UNTIL_CALM: u64 = 60_000;
/// Several read-backs.
const CALM: u64 = 20_000;

/// Faults stop, the host's changes are told, time passes: then everything is as it should be.
pub(super) fn judge(mut run: Run) {
    run.tell("nothing disturbs any more");
    run.proceed(None);
    let crashed = run.driver.kernel.is_crashed();
    run.driver.kernel.clear_faults();
    run.driver.kernel.recover();
    if crashed || run.cleaning {
        if run.cleaning {
            assert_clean_up_ends(&run);
        }
        run.restart();
    }
    run.host_changed(None);
    if run.config.backend == Backend::Nftables {
        // The kernel tells of every change of a table, if late.
        run.give(Input::KernelChanged, None);
    }
    run.pass(UNTIL_CALM);
    assert_converged(&run);
    assert_quiet(&mut run);
    assert_connections(&run);
    assert_like_fresh(&run);
}

fn held(kernel: &SimKernel, config: &GatewayConfig) -> KernelState {
    let scope = ObservationScope {
        table_base: config.table_base,
        table_count: MarkLayout::new(config.mark_mask).max_uplinks(),
        rule_priority: config.rule_priority,
        sysctls: sysctl_scope(&kernel.host(), config),
        netfilter: smartnat_core::objects::Netfilter::All,
    };
    let observed = kernel.clone().observe(&scope);
    observed.unwrap_or_else(|error| panic!("no fault is left: {error}"))
}

/// P14: the kernel holds what the cluster asks for, and the status says so.
fn assert_converged(run: &Run) {
    let kernel = &run.driver.kernel;
    let held = held(kernel, &run.config);
    let numbers = adopt_numbers(&held, &run.config);
    let compiled = compile(&run.cluster, &kernel.host(), &run.config, &numbers, &held);
    // A host without uplinks is degraded for as long as it has none.
    let status = run.driver.gateway.status();
    let as_well_as_can_be = status.is_some_and(|s| s.in_sync || s.degraded == compiled.warnings);
    assert!(as_well_as_can_be, "P14: it is not in sync:\n{}", run.report());
    let transactions = diff(&lower(&compiled.dataplane, run.config.backend), &held);
    assert!(transactions.is_empty(), "P14: {transactions:#?}\n{}", run.report());
}

/// P14: then zero operations, and no word.
fn assert_quiet(run: &mut Run) {
    let before = run.driver.kernel.applied_ops();
    run.driver.take_events();
    run.pass(CALM);
    assert_eq!(run.driver.kernel.applied_ops(), before, "P14:\n{}", run.report());
    assert_eq!(run.driver.events(), [], "P14:\n{}", run.report());
}

/// T10: no connection lives on that nothing permits.
fn assert_connections(run: &Run) {
    let Some(dataplane) = run.driver.gateway.dataplane() else { return };
    let permissions = Permissions::new(dataplane);
    let filter = dataplane.marks.flow_filter();
    for flow in run.driver.kernel.conntrack().iter() {
        let ours = flow.mark & filter.mask == filter.mark;
        assert!(!ours || permissions.permits(flow), "T10: {flow:?} lives on:\n{}", run.report());
    }
}

/// P9 and P10: clean-up leaves nothing, and a fresh start comes to the same.
fn assert_like_fresh(run: &Run) {
    let wanted = held(&run.driver.kernel, &run.config);
    let kernel = cleaned(run);
    let mut fresh = Driver::new(run.config.clone(), kernel);
    fresh.start(objects::all(&run.cluster));
    let built = held(&fresh.kernel, &run.config);
    if adopt_numbers(&built, &run.config) != adopt_numbers(&wanted, &run.config) {
        return;
    }
    let plain = |mut state: KernelState| {
        // Others may have taken to a built-in chain that we created.
        state.xtables.values_mut().for_each(|table| table.created_builtins.clear());
        let sysctls: BTreeMap<_, _> =
            state.sysctls.iter().map(|(key, s)| (key.clone(), s.value.clone())).collect();
        ((state.xtables, state.nft), state.sets, state.rules, state.routes, sysctls)
    };
    let (built, wanted) = (plain(built), plain(wanted));
    assert_eq!(built.0, wanted.0, "P9:\n{}", run.report());
    assert_eq!(built.1, wanted.1, "P9:\n{}", run.report());
    assert_eq!(built.2, wanted.2, "P9:\n{}", run.report());
    assert_eq!(built.3, wanted.3, "P9:\n{}", run.report());
    assert_eq!(built.4, wanted.4, "P9:\n{}", run.report());
}

/// The kernel after a clean-up by a new program.
fn cleaned(run: &Run) -> SimKernel {
    let foreign = run.driver.kernel.foreign();
    let mut cleaner = Driver::new(run.config.clone(), run.driver.kernel.clone());
    cleaner.clean_up();
    let done = cleaner.events().iter().any(|e| e.kind == EventKind::CleanedUp);
    assert!(done, "T16: {:?}\n{}", cleaner.events(), run.report());
    assert_nothing_left(&cleaner.kernel, run);
    assert_eq!(cleaner.kernel.foreign(), foreign, "P11:\n{}", run.report());
    cleaner.kernel
}

/// A clean-up that met failures ends when it is told again.
fn assert_clean_up_ends(run: &Run) {
    let mut driver = run.driver.clone();
    driver.clean_up();
    assert_nothing_left(&driver.kernel, run);
}

fn assert_nothing_left(kernel: &SimKernel, run: &Run) {
    let left = held(kernel, &run.config);
    let recorded = left.sysctls.values().any(|state| state.original.is_some());
    let (sysctls, contested) = Default::default();
    let ours = KernelState { sysctls, contested, ..left.clone() };
    let nothing = ours == KernelState::default() && !recorded;
    assert!(nothing, "P10: {left:#?}\n{}", run.report());
}
