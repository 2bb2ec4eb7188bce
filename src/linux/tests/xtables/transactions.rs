//! Replacing, deleting, jumps among foreign rules, and how many processes it takes.

use smartnat_core::objects::{BuiltinHook, InterfaceMatch, XtMatch, XtRule, XtTable, XtTarget};
use smartnat_core::ops::NetworkOp;

use super::common::sh;
use super::{chain, delete, for_each, jump, observe, program, put, saved, table};

const HOOK: BuiltinHook = BuiltinHook::Prerouting;

fn from_uplink(name: &str) -> XtRule {
    let uplink = InterfaceMatch { name: "eth1".to_owned(), negated: false };
    XtRule { in_interface: Some(uplink), ..jump(name) }
}

#[test]
fn a_chain_is_replaced_whole_and_others_stay() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Mangle);
        let old = vec![XtRule::new(XtTarget::Accept), XtRule::new(XtTarget::Drop)];
        let ops = [put("SMARTNAT-A", old.clone()), put("SMARTNAT-B", old.clone())];
        xtables.apply(id, &ops).expect("created");
        let new = vec![jump("SMARTNAT-C")];
        let ops = [put("SMARTNAT-A", new.clone()), put("SMARTNAT-C", vec![])];
        xtables.apply(id, &ops).expect("replaced, with a jump to a chain that comes later");
        let chains = &observe(xtables)[&id].chains;
        assert_eq!(chains[&chain("SMARTNAT-A")], new);
        assert_eq!(chains[&chain("SMARTNAT-B")], old);
        assert_eq!(chains[&chain("SMARTNAT-C")], []);
    });
}

#[test]
fn chains_that_refer_to_each_other_go_together_in_any_order() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Nat);
        let ops = [put("SMARTNAT-A", vec![jump("SMARTNAT-B")]), put("SMARTNAT-B", vec![])];
        for order in [["SMARTNAT-A", "SMARTNAT-B"], ["SMARTNAT-B", "SMARTNAT-A"]] {
            xtables.apply(id, &ops).expect("created");
            xtables.apply(id, &order.map(delete)).expect("deleted");
            assert!(observe(xtables).is_empty());
        }
    });
}

#[test]
fn jumps_stand_at_the_head_and_foreign_rules_are_untouched() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Mangle);
        let program = program(xtables.flavour(), family);
        sh(&format!(
            "{program} -t mangle -N OTHERS
             {program} -t mangle -A PREROUTING -i lo -j ACCEPT
             {program} -t mangle -A PREROUTING -m comment --comment 'about SMARTNAT-A' -j OTHERS
             {program} -t mangle -P FORWARD DROP"
        ));
        let before = saved(xtables.flavour(), family);
        let rule = from_uplink("SMARTNAT-A");
        let insert = || NetworkOp::InsertJump { hook: HOOK, rule: rule.clone() };
        let remove = || NetworkOp::DeleteJump { hook: HOOK, rule: rule.clone() };
        xtables.apply(id, &[put("SMARTNAT-A", vec![]), insert(), insert()]).expect("applied");
        assert_eq!(observe(xtables)[&id].jumps[&HOOK], [rule.clone(), rule.clone()]);
        let all = saved(xtables.flavour(), family);
        let first = all.lines().find(|line| line.starts_with("-A PREROUTING"));
        assert_eq!(first, Some("-A PREROUTING -i eth1 -j SMARTNAT-A"));

        xtables.apply(id, &[remove()]).expect("the first of both goes");
        assert_eq!(observe(xtables)[&id].jumps[&HOOK], std::slice::from_ref(&rule));
        xtables.apply(id, &[remove(), delete("SMARTNAT-A")]).expect("all of ours goes");
        assert!(observe(xtables).is_empty());
        assert_eq!(saved(xtables.flavour(), family), before);
        let foreign = xtables.foreign().expect("read");
        let mangle = &foreign[&(family, "mangle".to_owned())];
        assert_eq!(mangle.policies["FORWARD"], "DROP");
        assert_eq!(mangle.builtin_rules["PREROUTING"].len(), 2);
        assert!(mangle.chains.contains_key("OTHERS"));
    });
}

#[test]
fn what_the_predecessor_left_can_be_removed_by_what_was_read() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Nat);
        let program = program(xtables.flavour(), family);
        let before = saved(xtables.flavour(), family);
        sh(&format!(
            "{program} -t nat -N SNM-PREROUTING
             {program} -t nat -N MAP-echo
             {program} -t nat -A SNM-PREROUTING -m comment --comment 'a b' -j MAP-echo
             {program} -t nat -A PREROUTING -m comment --comment 'for SNM' -j SNM-PREROUTING"
        ));
        let theirs = |name: &str| name.starts_with("SNM-") || name.starts_with("MAP-");
        let foreign = xtables.foreign().expect("read");
        let nat = &foreign[&(family, "nat".to_owned())];
        let jumps = nat.jumps_to(HOOK, theirs);
        let chains = nat.chains.keys().filter(|name| theirs(name));
        let ops: Vec<NetworkOp> = jumps
            .into_iter()
            .map(|rule| NetworkOp::DeleteJump { hook: HOOK, rule })
            .chain(chains.map(|name| delete(name)))
            .collect();
        assert_eq!(ops.len(), 3);
        xtables.apply(id, &ops).expect("removed");
        let after = saved(xtables.flavour(), family);
        assert!(!after.contains("SNM-") && !after.contains("MAP-"), "{after} {before}");
    });
}

#[test]
fn the_number_of_processes_does_not_grow_with_the_number_of_rules() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Mangle);
        for rules in [1, 3000] {
            let rule =
                |n: u32| XtRule::new(XtTarget::Return).with(XtMatch::Random { threshold: n });
            let ops: Vec<NetworkOp> = (0..10)
                .map(|n| put(&format!("SMARTNAT-{n}"), (0..=rules / 10).map(rule).collect()))
                .collect();
            let before = xtables.processes_started();
            xtables.apply(id, &ops).expect("applied");
            let applied = xtables.processes_started();
            assert_eq!((applied.reads, applied.writes), (before.reads, before.writes + 1));
            observe(xtables);
            let observed = xtables.processes_started();
            assert!(observed.reads <= applied.reads + 2);
            assert_eq!(observed.writes, applied.writes);
        }
        let before = xtables.processes_started();
        xtables.apply(id, &[]).expect("nothing to do");
        assert_eq!(xtables.processes_started(), before);
    });
}
