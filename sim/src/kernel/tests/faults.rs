//! Injected failures.

use smartnat_core::objects::{FlowFilter, SysctlKey};
use smartnat_core::ops::OpErrorClass::{Busy, Denied, Transient};

use super::*;
use crate::kernel::{Fault, OpKind, OpMatcher};

fn set(name: &str) -> NetworkOp {
    create_set(name, set_spec(SetKind::HashIp))
}

fn sets(kernel: &SimKernel) -> Vec<&str> {
    kernel.sets().iter().map(|(name, _)| name.0.as_str()).collect()
}

#[test]
fn the_nth_operation_fails_once() {
    let mut kernel = kernel();
    kernel.fail_nth(3, Busy);
    apply(&mut kernel, Domain::Sets, vec![set("a")]).expect("the first");
    let outcome = apply(&mut kernel, Domain::Sets, vec![set("b"), set("c"), set("d")]);
    assert_eq!(class(outcome), Some(Busy));
    assert_eq!(sets(&kernel), ["a", "b"]);
    apply(&mut kernel, Domain::Sets, vec![set("c"), set("d")]).expect("it failed once");
}

#[test]
fn a_failure_within_an_atomic_transaction_undoes_it() {
    let mut kernel = kernel();
    let id = table(XtTable::Nat);
    kernel.fail_nth(2, Transient);
    let ops = vec![put("SMARTNAT-A", &[]), put("SMARTNAT-B", &[])];
    assert_eq!(class(apply_to(&mut kernel, id, ops.clone())), Some(Transient));
    assert_eq!(observe(&mut kernel), KernelState::default());
    apply_to(&mut kernel, id, ops).expect("it failed once");
}

#[test]
fn matchers_select_by_kind_domain_and_name() {
    let cases = [
        (OpMatcher::any(), [true, true, true]),
        (OpMatcher::kind(OpKind::CreateSet), [true, true, false]),
        (OpMatcher::domain(Domain::Sysctls), [false, false, true]),
        (OpMatcher::named("smartnat-b"), [false, true, false]),
        (
            OpMatcher { kind: Some(OpKind::SetSysctl), ..OpMatcher::named("smartnat-b") },
            [false, false, false],
        ),
    ];
    let key = SysctlKey::Forwarding(Family::V4);
    for (matcher, expected) in cases {
        let mut kernel = kernel();
        kernel.fail_every(matcher.clone(), Denied);
        let forwarding = NetworkOp::SetSysctl { key: key.clone(), value: "1".into() };
        let failed = [
            apply(&mut kernel, Domain::Sets, vec![set("smartnat-a")]),
            apply(&mut kernel, Domain::Sets, vec![set("smartnat-b")]),
            apply(&mut kernel, Domain::Sysctls, vec![forwarding]),
        ]
        .map(|outcome| class(outcome) == Some(Denied));
        assert_eq!(failed, expected, "{matcher:?}");
        kernel.clear_faults();
        apply(&mut kernel, Domain::Sets, vec![set("c")]).expect("nothing fails any more");
    }
}

#[test]
fn a_fault_can_wait_and_repeat() {
    let mut kernel = kernel();
    let matcher = OpMatcher::kind(OpKind::CreateSet);
    kernel.inject(Fault { matcher, skip: 1, times: Some(2), class: Busy });
    let outcomes =
        ["a", "b", "c", "d"].map(|name| apply(&mut kernel, Domain::Sets, vec![set(name)]).is_ok());
    assert_eq!(outcomes, [true, false, false, true]);
}

#[test]
fn reads_fail_as_often_as_told() {
    let mut kernel = kernel();
    kernel.fail_reads(2, Transient);
    assert_eq!(class(kernel.observe(&scope())), Some(Transient));
    let filter = FlowFilter { mark: 0, mask: 0 };
    assert_eq!(class(kernel.flows(&filter)), Some(Transient));
    assert_eq!(class(kernel.observe(&scope())), None);
}

#[test]
fn after_a_crash_nothing_is_applied_until_recovery() {
    let mut kernel = kernel();
    kernel.crash_after(2);
    assert_eq!(
        class(apply(&mut kernel, Domain::Sets, vec![set("a"), set("b"), set("c")])),
        Some(Transient)
    );
    assert!(kernel.is_crashed());
    assert_eq!(class(kernel.observe(&scope())), Some(Transient));
    assert_eq!(class(apply(&mut kernel, Domain::Sets, vec![set("d")])), Some(Transient));
    assert_eq!(sets(&kernel), ["a", "b"]);
    kernel.recover();
    apply(&mut kernel, Domain::Sets, vec![set("c")]).expect("recovered");
    assert_eq!(class(kernel.observe(&scope())), None);
}

#[test]
fn a_crash_within_an_atomic_transaction_undoes_it() {
    let id = table(XtTable::Nat);
    let ops = vec![put("SMARTNAT-A", &[]), put("SMARTNAT-B", &[])];
    for (after, applied) in [(1, false), (2, true)] {
        let mut kernel = kernel();
        kernel.crash_after(after);
        assert_eq!(apply_to(&mut kernel, id, ops.clone()).is_ok(), applied);
        assert!(kernel.is_crashed());
        kernel.recover();
        assert_eq!(observe(&mut kernel) != KernelState::default(), applied);
    }
}
