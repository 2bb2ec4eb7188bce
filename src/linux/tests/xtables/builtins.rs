//! T16: built-in chains of the nft flavour that came with us go with us.

use std::collections::BTreeSet;

use smartnat_core::model::Family;
use smartnat_core::objects::{BuiltinHook, XtTable};
use smartnat_core::ops::{NetworkOp, OpErrorClass};
use smartnat_linux::Flavour;
use smartnat_linux::netlink::{MessageBuilder, NetfilterSocket, Subsystem};

use super::common::{in_namespace, sh};
use super::{delete, jump, observe, open, put, saved, table};

const HOOK: BuiltinHook = BuiltinHook::Prerouting;

fn delete_builtin(hook: BuiltinHook) -> NetworkOp {
    NetworkOp::DeleteEmptyBuiltin { hook }
}

fn insert_jump() -> [NetworkOp; 2] {
    [put("SMARTNAT-A", vec![]), NetworkOp::InsertJump { hook: HOOK, rule: jump("SMARTNAT-A") }]
}

/// Removal of [`insert_jump`]'s objects and of the built-in chain.
fn remove_all() -> [NetworkOp; 3] {
    let rule = jump("SMARTNAT-A");
    [NetworkOp::DeleteJump { hook: HOOK, rule }, delete("SMARTNAT-A"), delete_builtin(HOOK)]
}

fn nft_state() -> String {
    sh("nft list ruleset")
}

#[test]
fn t16_reading_makes_nothing() {
    for flavour in Flavour::ALL {
        in_namespace(|| {
            let mut xtables = open(flavour);
            assert!(observe(&mut xtables).is_empty());
            assert!(xtables.foreign().expect("read").is_empty());
            assert!(xtables.builtins().expect("read").is_empty());
            assert_eq!(xtables.detect_other_ours().expect("read"), None);
            assert!(xtables.rule_counters(XtTable::Nat, "SMARTNAT-").expect("read").is_empty());
            assert_eq!(nft_state(), "");
            let legacy = sh(
                "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names",
            );
            assert_eq!(legacy, "");
        });
    }
}

#[test]
fn t16_built_in_chains_that_came_with_us_go_with_us() {
    for family in Family::ALL {
        in_namespace(|| {
            let mut xtables = open(Flavour::Nft);
            for name in XtTable::ALL.into_iter().filter(|t| t.hooks().contains(&HOOK)) {
                let id = table(family, name);
                xtables.apply(id, &insert_jump()).expect("applied");
                let builtins = xtables.builtins().expect("read");
                assert_eq!(builtins.get(&id), Some(&BTreeSet::from([HOOK])));
                xtables.apply(id, &remove_all()).expect("removed");
            }
            assert_eq!(nft_state(), "");
        });
    }
}

#[test]
fn t16_built_in_chains_that_others_use_stay() {
    for family in Family::ALL {
        in_namespace(|| {
            let mut xtables = open(Flavour::Nft);
            let program = super::program(Flavour::Nft, family);
            sh(&format!(
                "{program} -t mangle -A PREROUTING -i lo -j ACCEPT
                 {program} -t mangle -A INPUT -i lo -j ACCEPT; {program} -t mangle -F INPUT
                 {program} -P FORWARD DROP
                 {program} -t nat -N OTHERS"
            ));
            let before = (saved(Flavour::Nft, family), nft_state());
            let mangle = table(family, XtTable::Mangle);
            let filter = table(family, XtTable::Filter);
            let nat = table(family, XtTable::Nat);
            xtables.apply(mangle, &insert_jump()).expect("applied");
            xtables.apply(nat, &insert_jump()).expect("applied");
            xtables.apply(mangle, &remove_all()).expect("removed");
            xtables.apply(nat, &remove_all()).expect("removed");
            xtables.apply(filter, &[delete_builtin(BuiltinHook::Forward)]).expect("nothing done");
            xtables.apply(filter, &[delete_builtin(BuiltinHook::Output)]).expect("not there");
            // Counters of the rule that was there moved on at most.
            assert_eq!((saved(Flavour::Nft, family), nft_state()), before);
            xtables.apply(mangle, &[delete_builtin(BuiltinHook::Input)]).expect("empty");
            let builtins = xtables.builtins().expect("read");
            assert_eq!(builtins[&mangle], BTreeSet::from([HOOK]));
            assert_eq!(builtins[&filter], BTreeSet::from([BuiltinHook::Forward]));
        });
    }
}

#[test]
fn a_change_of_nftables_that_was_overtaken_is_refused_for_now() {
    in_namespace(|| {
        let mut socket = NetfilterSocket::open().expect("a socket");
        // DELETE_TABLE of a table that is not there.
        let mut message = MessageBuilder::new(Subsystem::NfTables, 2, 0, 2);
        let message = message.string(1, "nat").clone().finish().expect("a message");
        let error = socket
            .transact(Subsystem::NfTables, 4_000_000, std::slice::from_ref(&message))
            .expect_err("there were not that many generations");
        assert_eq!(error.class(), OpErrorClass::Transient, "{error}");
        // Generation 0 is any. The socket is none the worse for the refusal.
        let error = socket
            .transact(Subsystem::NfTables, 0, &[message])
            .expect_err("there is no such table");
        assert_eq!(error.class(), OpErrorClass::NotFound, "{error}");
    });
}

#[test]
fn t16_the_legacy_flavour_keeps_its_built_in_chains() {
    in_namespace(|| {
        let mut xtables = open(Flavour::Legacy);
        let id = table(Family::V4, XtTable::Nat);
        xtables.apply(id, &insert_jump()).expect("applied");
        assert!(xtables.builtins().expect("read").is_empty());
        xtables.apply(id, &remove_all()).expect("removed");
        assert!(observe(&mut xtables).is_empty());
        assert_eq!(nft_state(), "");
    });
}
