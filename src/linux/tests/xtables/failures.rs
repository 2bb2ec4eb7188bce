//! What is refused: by class and name, with nothing changed.

use std::fs::File;
use std::time::Duration;

use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::{
    BuiltinHook, SetDirection, SetName, XtMatch, XtRule, XtTable, XtTarget,
};
use smartnat_core::ops::{NetworkOp, OpErrorClass};
use smartnat_linux::{Flavour, Xtables, XtablesSettings};

use super::common::{in_namespace, sh};
use super::{delete, for_each, jump, observe, program, put, saved, table};

const HOOK: BuiltinHook = BuiltinHook::Prerouting;

fn of_missing_set() -> XtRule {
    let name = SetName("smartnat-none".to_owned());
    let directions = vec![SetDirection::Source];
    XtRule::new(XtTarget::Return).with(XtMatch::Set { name, directions, negated: false })
}

#[test]
fn a_bad_operation_leaves_all_as_it_was_and_is_named() {
    for_each(|xtables, family| {
        let nat = table(family, XtTable::Nat);
        let ops = [
            put("SMARTNAT-A", vec![XtRule::new(XtTarget::Return)]),
            NetworkOp::InsertJump { hook: HOOK, rule: jump("SMARTNAT-A") },
        ];
        xtables.apply(nat, &ops).expect("applied");
        let before = saved(xtables.flavour(), family);
        let good = || put("SMARTNAT-G", vec![jump("SMARTNAT-A")]);
        let no_jump = || NetworkOp::DeleteJump { hook: HOOK, rule: jump("SMARTNAT-G") };
        let loose = |rule: XtRule| put("SMARTNAT-X", vec![XtRule::new(XtTarget::Return), rule]);
        let chain_x = format!("chain nat/SMARTNAT-X ({family})");
        let cases = [
            (loose(of_missing_set()), OpErrorClass::NotFound, chain_x.clone()),
            (loose(jump("SMARTNAT-NONE")), OpErrorClass::NotFound, chain_x.clone()),
            (loose(XtRule::new(XtTarget::Drop)), OpErrorClass::Invalid, chain_x.clone()),
            (
                loose(XtRule::new(XtTarget::Unknown("--bogus -j RETURN".to_owned()))),
                OpErrorClass::Invalid,
                chain_x,
            ),
            (
                put("SMARTNAT-0123456789012345678901234", vec![]),
                OpErrorClass::Invalid,
                format!("chain nat/SMARTNAT-0123456789012345678901234 ({family})"),
            ),
            (
                delete("SMARTNAT-X"),
                OpErrorClass::NotFound,
                format!("chain nat/SMARTNAT-X ({family})"),
            ),
            (delete("SMARTNAT-A"), OpErrorClass::Busy, format!("chain nat/SMARTNAT-A ({family})")),
            (
                no_jump(),
                OpErrorClass::NotFound,
                format!("jump nat/PREROUTING to SMARTNAT-G ({family})"),
            ),
        ];
        for (bad, class, object) in cases {
            let mut ops = vec![good(), bad];
            if class == OpErrorClass::Busy {
                ops.remove(0);
            }
            let error = xtables.apply(nat, &ops).expect_err("refused");
            assert_eq!((error.class, error.object.as_str()), (class, object.as_str()), "{error}");
            assert_eq!(saved(xtables.flavour(), family), before, "{error}");
        }
    });
}

#[test]
fn a_chain_that_others_jump_to_is_busy() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Filter);
        xtables.apply(id, &[put("SMARTNAT-A", vec![])]).expect("applied");
        let program = program(xtables.flavour(), family);
        sh(&format!("{program} -N OTHERS; {program} -A OTHERS -j SMARTNAT-A"));
        let error = xtables.apply(id, &[delete("SMARTNAT-A")]).expect_err("it is in use");
        assert_eq!(error.class, OpErrorClass::Busy, "{error}");
        assert_eq!(error.object, format!("chain filter/SMARTNAT-A ({family})"));
        assert_eq!(observe(xtables)[&id].chains.len(), 1);
    });
}

#[test]
fn the_lock_that_others_hold_is_waited_for_within_bounds() {
    in_namespace(|| {
        let settings =
            XtablesSettings { lock_wait: Duration::from_secs(1), ..XtablesSettings::default() };
        let mut xtables =
            Xtables::detect(Flavour::Legacy.into(), settings).expect("iptables is installed");
        let id = table(Family::V4, XtTable::Filter);
        let ops = [put("SMARTNAT-A", vec![])];
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open("/run/xtables.lock")
            .expect("the lock file");
        lock.lock().expect("locked");
        let error = xtables.apply(id, &ops).expect_err("the lock is held");
        assert_eq!(error.class, OpErrorClass::Transient, "{error}");
        assert_eq!(error.object, "chain filter/SMARTNAT-A (IPv4)");
        lock.unlock().expect("unlocked");
        assert!(observe(&mut xtables).is_empty());
        xtables.apply(id, &ops).expect("the lock is free");
        assert_eq!(observe(&mut xtables).len(), 1);
    });
}

#[test]
fn a_table_that_iptables_cannot_read_is_an_error_and_not_empty() {
    in_namespace(|| {
        sh("nft add table ip nat
            nft add map ip nat m '{ type ipv4_addr : ipv4_addr; }'
            nft add chain ip nat PREROUTING '{ type nat hook prerouting priority dstnat; }'
            nft add rule ip nat PREROUTING meta mark set numgen inc mod 2
            nft add rule ip nat PREROUTING dnat to ip daddr map @m");
        let mut xtables = super::open(Flavour::Nft);
        let error = xtables.observe().expect_err("it cannot be read");
        assert_eq!(error.class, OpErrorClass::Invalid);
        assert_eq!(error.object, "table nat (IPv4)");
        let detected = Xtables::detect(IptablesFlavour::Auto, XtablesSettings::default());
        assert_eq!(detected.expect("it is a foreign rule").flavour(), Flavour::Nft);
    });
}
