//! Chains, jumps, atomicity.

use smartnat_core::objects::{BuiltinHook, SetDirection, SetKind, SetName, XtMatch};
use smartnat_core::ops::OpErrorClass::{Busy, Invalid, NotFound};

use super::*;
use crate::kernel::Policy;

const HOOK: BuiltinHook = BuiltinHook::Prerouting;

fn insert(name: &str) -> NetworkOp {
    NetworkOp::InsertJump { hook: HOOK, rule: jump(name) }
}

fn delete_jump(name: &str) -> NetworkOp {
    NetworkOp::DeleteJump { hook: HOOK, rule: jump(name) }
}

#[test]
fn one_failing_operation_leaves_nothing_of_its_transaction() {
    for mut kernel in both_flavours() {
        let id = table(XtTable::Nat);
        apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[accept()])]).expect("valid");
        let before = (kernel.xtables().clone(), kernel.applied_ops());
        let ops = vec![
            put("SMARTNAT-A", &[]),
            put("SMARTNAT-B", &[]),
            insert("SMARTNAT-B"),
            delete_jump("SMARTNAT-A"),
        ];
        assert_eq!(class(apply_to(&mut kernel, id, ops)), Some(NotFound));
        assert_eq!((kernel.xtables().clone(), kernel.applied_ops()), before);
    }
}

#[test]
fn outcomes_of_transactions_on_chains() {
    // Table filter holds P, which jumps to C; C is empty.
    let cases: Vec<(&str, Vec<NetworkOp>, Option<OpErrorClass>)> = vec![
        ("a chain that P jumps to", vec![delete("SMARTNAT-C")], Some(Busy)),
        ("child before parent", vec![delete("SMARTNAT-C"), delete("SMARTNAT-P")], None),
        ("parent before child", vec![delete("SMARTNAT-P"), delete("SMARTNAT-C")], None),
        ("P rewritten first", vec![put("SMARTNAT-P", &[]), delete("SMARTNAT-C")], None),
        (
            "P rewritten in vain",
            vec![put("SMARTNAT-P", &[jump("SMARTNAT-C")]), delete("SMARTNAT-C")],
            Some(Busy),
        ),
        ("an absent chain", vec![delete("SMARTNAT-X")], Some(NotFound)),
        ("deleted twice", vec![delete("SMARTNAT-P"), delete("SMARTNAT-P")], Some(NotFound)),
        (
            "filled after its deletion",
            vec![delete("SMARTNAT-P"), put("SMARTNAT-P", &[])],
            Some(NotFound),
        ),
        (
            "deleted after it was filled",
            vec![put("SMARTNAT-P", &[accept()]), delete("SMARTNAT-P")],
            Some(Busy),
        ),
        ("a jump to nowhere", vec![put("SMARTNAT-A", &[jump("SMARTNAT-X")])], Some(NotFound)),
        (
            "a jump to a later chain",
            vec![put("SMARTNAT-A", &[jump("SMARTNAT-B")]), put("SMARTNAT-B", &[])],
            None,
        ),
        ("put twice", vec![put("SMARTNAT-A", &[jump("SMARTNAT-C")]), put("SMARTNAT-A", &[])], None),
        ("an unreached loop", vec![put("SMARTNAT-A", &[jump("SMARTNAT-A")])], None),
        ("name of 28 bytes", vec![put("SMARTNAT-1234567890123456789", &[])], None),
        ("name of 29 bytes", vec![put("SMARTNAT-12345678901234567890", &[])], Some(Invalid)),
        ("no name", vec![put("", &[])], Some(Invalid)),
        ("a name with a blank", vec![put("SMARTNAT A", &[])], Some(Invalid)),
        ("a name like an option", vec![put("-A", &[])], Some(Invalid)),
        ("a name like a target", vec![put("ACCEPT", &[])], Some(Invalid)),
        ("a name like a built-in chain", vec![put("INPUT", &[])], Some(Invalid)),
        ("nothing", vec![], Some(Invalid)),
        (
            "an operation of ipset",
            vec![create_set("smartnat-s", set_spec(SetKind::HashIp))],
            Some(Invalid),
        ),
    ];
    for (what, ops, expected) in cases {
        for mut kernel in both_flavours() {
            let id = table(XtTable::Filter);
            let setup = vec![put("SMARTNAT-P", &[jump("SMARTNAT-C")]), put("SMARTNAT-C", &[])];
            apply_to(&mut kernel, id, setup).expect("valid");
            assert_eq!(class(apply_to(&mut kernel, id, ops.clone())), expected, "{what}");
        }
    }
}

#[test]
fn jumps_pile_up_at_the_head_and_go_one_by_one() {
    let id = table(XtTable::Mangle);
    for mut kernel in both_flavours() {
        kernel.foreign_append(id, "PREROUTING", &accept());
        let setup = vec![
            put("SMARTNAT-A", &[]),
            put("SMARTNAT-B", &[]),
            insert("SMARTNAT-A"),
            insert("SMARTNAT-B"),
            insert("SMARTNAT-A"),
        ];
        apply_to(&mut kernel, id, setup).expect("valid");
        let (a, b) = (jump("SMARTNAT-A"), jump("SMARTNAT-B"));
        let held = |kernel: &SimKernel| {
            let rules = kernel.xtables().table(id).and_then(|t| t.builtin(HOOK).cloned());
            rules.expect("it exists").rules.to_vec()
        };
        assert_eq!(held(&kernel), [a.clone(), b.clone(), a.clone(), accept()]);
        assert_eq!(
            observe(&mut kernel).xtables[&id].jumps[&HOOK],
            [a.clone(), b.clone(), a.clone()]
        );
        apply_to(&mut kernel, id, vec![delete_jump("SMARTNAT-A")]).expect("the first goes");
        assert_eq!(held(&kernel), [b.clone(), a, accept()]);
        apply_to(&mut kernel, id, vec![delete_jump("SMARTNAT-A")]).expect("the second goes");
        let third = apply_to(&mut kernel, id, vec![delete_jump("SMARTNAT-A")]);
        assert_eq!(class(third), Some(NotFound));
        assert_eq!(class(apply_to(&mut kernel, id, vec![delete("SMARTNAT-B")])), Some(Busy));
        assert_eq!(held(&kernel), [b, accept()]);
    }
}

#[test]
fn a_built_in_chain_belongs_to_certain_tables() {
    for (id, hook) in [
        (table(XtTable::Nat), BuiltinHook::Forward),
        (table(XtTable::Filter), BuiltinHook::Prerouting),
    ] {
        let rule = jump("SMARTNAT-A");
        for op in [
            NetworkOp::InsertJump { hook, rule: rule.clone() },
            NetworkOp::DeleteJump { hook, rule },
        ] {
            let ops = vec![put("SMARTNAT-A", &[]), op];
            assert_eq!(class(apply_to(&mut kernel(), id, ops)), Some(NotFound));
        }
        // What is not there is gone already.
        let delete = NetworkOp::DeleteEmptyBuiltin { hook };
        assert_eq!(class(apply_to(&mut kernel(), id, vec![delete])), None);
    }
}

#[test]
fn built_in_chains_of_the_nft_flavour_come_and_go() {
    let id = table(XtTable::Nat);
    let remove = NetworkOp::DeleteEmptyBuiltin { hook: HOOK };
    let mut kernel = kernel();
    apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[])]).expect("valid");
    assert!(kernel.xtables().table(id).expect("in use").builtins().next().is_none());
    apply_to(&mut kernel, id, vec![insert("SMARTNAT-A")]).expect("valid");
    assert!(observe(&mut kernel).xtables[&id].created_builtins.contains(&HOOK));

    let ops = vec![delete_jump("SMARTNAT-A"), delete("SMARTNAT-A"), remove.clone()];
    let mut with_foreign_rule = kernel.clone();
    with_foreign_rule.foreign_append(id, "PREROUTING", &accept());
    let mut with_policy = kernel.clone();
    with_policy.foreign_policy(id, "PREROUTING", Policy::Drop);

    apply_to(&mut kernel, id, ops.clone()).expect("valid");
    assert!(kernel.xtables().table(id).expect("was in use").builtin(HOOK).is_none());
    assert_eq!(observe(&mut kernel), KernelState::default());
    for mut kernel in [with_foreign_rule, with_policy] {
        apply_to(&mut kernel, id, ops.clone()).expect("it does nothing");
        assert!(kernel.xtables().table(id).expect("in use").builtin(HOOK).is_some());
        assert_eq!(observe(&mut kernel), KernelState::default());
    }
}

#[test]
fn a_built_in_chain_that_was_there_before_is_not_ours() {
    let id = table(XtTable::Nat);
    for mut kernel in both_flavours() {
        kernel.foreign_append(id, "PREROUTING", &accept());
        apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[]), insert("SMARTNAT-A")])
            .expect("valid");
        assert!(observe(&mut kernel).xtables[&id].created_builtins.is_empty());
    }
    let mut legacy = SimKernel::new(XtFlavour::Legacy);
    let ops = vec![NetworkOp::DeleteEmptyBuiltin { hook: HOOK }];
    apply_to(&mut legacy, id, ops).expect("it does nothing");
    assert!(legacy.xtables().table(id).expect("in use").builtin(HOOK).is_some());
}

#[test]
fn rules_and_sets_hold_each_other() {
    let id = table(XtTable::Filter);
    let name = SetName("smartnat-s".into());
    let rule = accept().with(XtMatch::Set {
        name: name.clone(),
        directions: vec![SetDirection::Source],
        negated: false,
    });
    let rules = vec![put("SMARTNAT-A", &[rule])];
    let destroy = || vec![NetworkOp::DestroySet { name: name.clone() }];
    for mut kernel in both_flavours() {
        assert_eq!(class(apply_to(&mut kernel, id, rules.clone())), Some(NotFound));
        let create = vec![create_set(&name.0, set_spec(SetKind::HashIp))];
        apply(&mut kernel, Domain::Sets, create).expect("valid");
        apply_to(&mut kernel, id, rules.clone()).expect("the set is there");
        apply_to(&mut kernel, id, rules.clone()).expect("the set is still there");
        assert_eq!(class(apply(&mut kernel, Domain::Sets, destroy())), Some(Busy));
        apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[])]).expect("valid");
        apply(&mut kernel, Domain::Sets, destroy()).expect("nothing refers to it");
    }
}

#[test]
fn a_rule_reads_back_as_the_kernel_lists_it() {
    let id = table(XtTable::Filter);
    let mut kernel = kernel();
    let mut written = accept();
    written.source = Some("0.0.0.0/0".parse().expect("a network"));
    written.destination = Some("192.0.2.7/24".parse().expect("a network"));
    apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[written])]).expect("valid");
    let mut listed = accept();
    listed.destination = Some("192.0.2.0/24".parse().expect("a network"));
    assert_eq!(observe(&mut kernel).xtables[&id].chains[&chain("SMARTNAT-A")], [listed]);
}

#[test]
fn a_kernel_without_ipv6_refuses_its_tables() {
    let mut kernel = kernel();
    kernel.set_families([Family::V4]);
    let id = XtTableId { family: Family::V6, table: XtTable::Filter };
    let result = apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[])]);
    assert_eq!(class(result), Some(Invalid));
}
