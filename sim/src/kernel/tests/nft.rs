//! Our table of nftables.

mod chains;
mod elements;
mod rules;

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    LookupResult, MetaKey, NatKind, NftBase, NftChain, NftChainKind, NftData, NftElement, NftExpr,
    NftKey, NftRule, NftSetSpec, NftType, NftValue, NftVerdict, Register, fields,
};
use smartnat_core::ops::NftOp;
use smartnat_core::ops::OpErrorClass::{self, Exists, Invalid, NotFound};

use super::*;

fn run(kernel: &mut SimKernel, ops: Vec<NftOp>) -> Result<(), OpError> {
    apply(kernel, Domain::Nftables, ops.into_iter().map(NetworkOp::Nft).collect())
}

/// A kernel with our table, and `setup` in it.
fn with(setup: Vec<NftOp>) -> SimKernel {
    let mut kernel = kernel();
    run(&mut kernel, vec![NftOp::CreateTable]).expect("valid");
    if !setup.is_empty() {
        run(&mut kernel, setup).expect("valid");
    }
    kernel
}

fn set(name: &str, spec: NftSetSpec) -> NftOp {
    NftOp::CreateSet { name: name.into(), spec }
}

fn marks(data: NftData) -> NftSetSpec {
    NftSetSpec::exact([NftType::Mark], data)
}

fn put_rules(name: &str, rules: Vec<Vec<NftExpr>>) -> NftOp {
    put_chain(name, None, rules)
}

fn put_chain(name: &str, base: impl Into<Option<NftBase>>, rules: Vec<Vec<NftExpr>>) -> NftOp {
    let base = base.into();
    let rules = rules.into_iter().map(|expressions| NftRule { expressions, comment: None });
    NftOp::PutChain { name: name.into(), chain: NftChain { base, rules: rules.collect() } }
}

fn base(kind: NftChainKind, hook: BuiltinHook, priority: i32) -> NftBase {
    NftBase { kind, hook, priority, drops: false }
}

fn delete_chain(name: &str) -> NftOp {
    NftOp::DeleteChain { name: name.into() }
}

fn delete_set(name: &str) -> NftOp {
    NftOp::DeleteSet { name: name.into() }
}

fn jump_to(chain: &str) -> Vec<NftExpr> {
    vec![NftExpr::Verdict(NftVerdict::Jump(chain.into()))]
}

fn goto(chain: &str) -> NftValue {
    NftValue::Verdict(NftVerdict::Goto(chain.into()))
}

fn number(value: u32) -> NftKey {
    NftKey::exact(value.to_be_bytes())
}

fn numbers(first: u32, last: u32) -> NftKey {
    NftKey::interval(first.to_be_bytes(), last.to_be_bytes())
}

fn bytes(value: u32) -> NftValue {
    NftValue::Bytes(value.to_be_bytes().into())
}

fn add(set: &str, key: NftKey, value: NftValue) -> NftOp {
    NftOp::AddElement { set: set.into(), key, element: NftElement { value, comment: None } }
}

fn delete_element(set: &str, key: NftKey) -> NftOp {
    NftOp::DeleteElement { set: set.into(), key }
}

/// Every case by itself, on a kernel with `setup`.
fn outcomes(setup: &[NftOp], cases: Vec<(&str, Vec<NftOp>, Option<OpErrorClass>)>) {
    for (what, ops, expected) in cases {
        let mut kernel = with(setup.to_vec());
        assert_eq!(class(run(&mut kernel, ops)), expected, "{what}");
    }
}

#[test]
fn the_table_comes_and_goes_with_all_that_is_in_it() {
    let mut kernel = kernel();
    assert_eq!(class(run(&mut kernel, vec![NftOp::DeleteTable])), Some(NotFound));
    assert_eq!(class(run(&mut kernel, vec![put_rules("a", vec![])])), Some(NotFound));
    assert_eq!(observe(&mut kernel).nft, None);
    let ops = vec![NftOp::CreateTable, put_rules("a", vec![]), put_rules("b", vec![jump_to("a")])];
    run(&mut kernel, ops).expect("valid");
    run(&mut kernel, vec![NftOp::CreateTable]).expect("it is there");
    assert_eq!(observe(&mut kernel).nft.expect("it is there").chains.len(), 2);
    let anew = vec![NftOp::DeleteTable, NftOp::CreateTable, put_rules("c", vec![])];
    run(&mut kernel, anew).expect("valid");
    let chains: Vec<_> =
        observe(&mut kernel).nft.expect("it is there").chains.into_keys().collect();
    assert_eq!(chains, ["c".into()]);
    run(&mut kernel, vec![NftOp::DeleteTable]).expect("it is there");
    assert_eq!(observe(&mut kernel).nft, None);
}

#[test]
fn one_failing_operation_leaves_everything_as_it_was() {
    let setup = vec![
        put_rules("a", vec![]),
        put_rules("b", vec![jump_to("a")]),
        set("verdicts", marks(NftData::Verdict)),
        add("verdicts", number(1), goto("a")),
        set("values", marks(NftData::Values(vec![NftType::Mark]))),
        add("values", number(1), bytes(1)),
    ];
    let mut kernel = with(setup);
    let before = (kernel.nft().clone(), kernel.applied_ops());
    let changes = vec![
        add("verdicts", number(2), goto("b")),
        delete_element("verdicts", number(1)),
        put_rules("b", vec![]),
        delete_chain("a"),
        delete_element("values", number(1)),
        add("values", number(1), bytes(2)),
        delete_set("values"),
        put_rules("c", vec![jump_to("b")]),
        set("more", marks(NftData::Nothing)),
    ];
    let failing = [changes.clone(), vec![delete_chain("a")]].concat();
    assert_eq!(class(run(&mut kernel, failing)), Some(NotFound));
    assert_eq!((kernel.nft().clone(), kernel.applied_ops()), before);
    let in_a_table_that_goes = vec![NftOp::DeleteTable, NftOp::CreateTable, delete_chain("a")];
    assert_eq!(class(run(&mut kernel, in_a_table_that_goes)), Some(NotFound));
    assert_eq!(kernel.nft().clone(), before.0);
    run(&mut kernel, changes).expect("without the last one they are valid");
    assert_eq!(kernel.applied_ops(), before.1 + 9);
}

#[test]
fn an_operation_of_another_domain_is_refused() {
    let mut kernel = with(vec![]);
    let misplaced = apply(&mut kernel, Domain::Nftables, vec![put("A", &[])]);
    assert_eq!(class(misplaced), Some(Invalid));
    let misplaced = apply(&mut kernel, Domain::Sets, vec![NetworkOp::Nft(NftOp::CreateTable)]);
    assert_eq!(class(misplaced), Some(Invalid));
}

#[test]
fn an_observation_can_leave_netfilter_out() {
    let mut kernel = with(vec![put_rules("a", vec![])]);
    let scope =
        ObservationScope { netfilter: smartnat_core::objects::Netfilter::Untold, ..scope() };
    let state = kernel.observe(&scope).expect("no fault is injected");
    assert_eq!((state.nft, state.sets.len(), state.xtables.len()), (None, 0, 0));
    assert!(observe(&mut kernel).nft.is_some());
}

#[test]
fn tables_of_others_are_apart() {
    let mut kernel = with(vec![put_rules("a", vec![])]);
    kernel.foreign_nft("others", &[NftOp::CreateTable, put_rules("b", vec![])]);
    let foreign = kernel.foreign();
    assert_eq!(foreign.nft.keys().collect::<Vec<_>>(), ["others"]);
    assert_eq!(observe(&mut kernel).nft.expect("it is there").chains.len(), 1);
    run(&mut kernel, vec![NftOp::DeleteTable]).expect("it is there");
    assert_eq!(kernel.foreign(), foreign);
}

#[test]
fn a_crash_in_a_batch_leaves_nothing_of_it() {
    let mut kernel = with(vec![]);
    kernel.crash_after(1);
    let ops = vec![put_rules("a", vec![]), put_rules("b", vec![])];
    assert!(run(&mut kernel, ops.clone()).is_err());
    kernel.recover();
    assert_eq!(observe(&mut kernel).nft.expect("it is there").chains.len(), 0);
    kernel.fail_nth(2, OpErrorClass::Busy);
    assert_eq!(class(run(&mut kernel, ops)), Some(OpErrorClass::Busy));
    assert_eq!(observe(&mut kernel).nft.expect("it is there").chains.len(), 0);
}
