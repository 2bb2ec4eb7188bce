//! What is checked of a whole table.

use smartnat_core::model::Protocol;
use smartnat_core::objects::{
    BuiltinHook, InterfaceMatch, L4Match, PortMapping, RejectWith, XtTarget,
};
use smartnat_core::ops::OpErrorClass::Invalid;

use super::*;
use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};

fn target(target: XtTarget) -> XtRule {
    XtRule { protocol: Some(L4Match::Transport(Protocol::Tcp)), ..XtRule::new(target) }
}

/// A chain with the rule, below another, below the hook.
fn below(hook: BuiltinHook, rule: &XtRule) -> Vec<NetworkOp> {
    vec![
        put("SMARTNAT-LOW", std::slice::from_ref(rule)),
        put("SMARTNAT-TOP", &[jump("SMARTNAT-LOW")]),
        NetworkOp::InsertJump { hook, rule: jump("SMARTNAT-TOP") },
    ]
}

#[test]
fn targets_work_in_their_table_at_their_hooks() {
    let address = "192.0.2.1".parse().expect("an address");
    let dnat = target(XtTarget::DestinationNat { address, ports: PortMapping::Keep });
    let snat = target(XtTarget::SourceNat { address });
    let masquerade = target(XtTarget::Masquerade);
    let reset = target(XtTarget::Reject(RejectWith::TcpReset));
    let drop = target(XtTarget::Drop);
    let mark = target(XtTarget::SetMark { value: 1, mask: 1 });
    let restore = target(XtTarget::RestoreMark { mask: 0xff });
    let (mangle, filter, nat) = (XtTable::Mangle, XtTable::Filter, XtTable::Nat);
    let cases: Vec<(&XtRule, XtTable, &[BuiltinHook])> = vec![
        (&dnat, nat, &[Prerouting, Output]),
        (&snat, nat, &[Input, Postrouting]),
        (&masquerade, nat, &[Postrouting]),
        (&reset, filter, &[Input, Forward, Output]),
        (&drop, filter, &[Input, Forward, Output]),
        (&drop, mangle, &[Prerouting, Input, Forward, Output, Postrouting]),
        (&mark, mangle, &[Prerouting, Input, Forward, Output, Postrouting]),
        (&mark, filter, &[Input, Forward, Output]),
        (&mark, nat, &[Prerouting, Input, Output, Postrouting]),
        (&restore, mangle, &[Prerouting, Input, Forward, Output, Postrouting]),
    ];
    for rule in [&dnat, &snat, &masquerade, &reset, &drop] {
        for at in XtTable::ALL {
            let allowed: Vec<BuiltinHook> = cases
                .iter()
                .filter(|(r, t, _)| r == &rule && *t == at)
                .flat_map(|(_, _, hooks)| hooks.iter().copied())
                .collect();
            for flavour in both_flavours() {
                let unreached = put("SMARTNAT-A", std::slice::from_ref(rule));
                let outcome = class(apply_to(&mut flavour.clone(), table(at), vec![unreached]));
                assert_eq!(outcome.is_none(), !allowed.is_empty(), "{rule:?} unreached in {at:?}");
                for hook in at.hooks() {
                    let outcome =
                        class(apply_to(&mut flavour.clone(), table(at), below(*hook, rule)));
                    let expected = (!allowed.contains(hook)).then_some(Invalid);
                    assert_eq!(outcome, expected, "{rule:?} in {at:?} below {hook:?}");
                }
            }
        }
    }
    for (rule, at, hooks) in cases {
        for hook in hooks {
            apply_to(&mut kernel(), table(at), below(*hook, rule)).expect("it works there");
        }
    }
}

#[test]
fn a_later_jump_makes_a_target_reachable() {
    let id = table(XtTable::Nat);
    for mut kernel in both_flavours() {
        let setup = vec![put("SMARTNAT-A", &[target(XtTarget::Masquerade)])];
        apply_to(&mut kernel, id, setup).expect("no hook reaches it");
        let wrong = vec![NetworkOp::InsertJump { hook: Output, rule: jump("SMARTNAT-A") }];
        assert_eq!(class(apply_to(&mut kernel, id, wrong)), Some(Invalid));
        let right = vec![NetworkOp::InsertJump { hook: Postrouting, rule: jump("SMARTNAT-A") }];
        apply_to(&mut kernel, id, right).expect("it works there");
    }
}

#[test]
fn a_loop_is_refused_once_a_hook_reaches_it() {
    let id = table(XtTable::Filter);
    for mut kernel in both_flavours() {
        let setup = vec![
            put("SMARTNAT-A", &[jump("SMARTNAT-B")]),
            put("SMARTNAT-B", &[jump("SMARTNAT-A")]),
        ];
        apply_to(&mut kernel, id, setup).expect("no hook reaches it");
        let reach = vec![NetworkOp::InsertJump { hook: Input, rule: jump("SMARTNAT-A") }];
        assert_eq!(class(apply_to(&mut kernel, id, reach.clone())), Some(Invalid));
        apply_to(&mut kernel, id, vec![put("SMARTNAT-B", &[])]).expect("valid");
        apply_to(&mut kernel, id, reach).expect("the loop is gone");
        let itself = vec![put("SMARTNAT-A", &[jump("SMARTNAT-A")])];
        assert_eq!(class(apply_to(&mut kernel, id, itself)), Some(Invalid));
    }
}

#[test]
fn the_nft_flavour_limits_the_depth() {
    let nested = |depth: usize| -> Vec<NetworkOp> {
        let name = |n: usize| format!("SMARTNAT-{n}");
        let mut ops: Vec<_> =
            (1..depth).map(|n| put(&name(n), &[accept(), jump(&name(n + 1))])).collect();
        ops.push(put(&name(depth), &[]));
        ops.push(NetworkOp::InsertJump { hook: Input, rule: jump(&name(1)) });
        ops
    };
    for (flavour, depth, expected) in [
        (XtFlavour::Nft, 15, None),
        (XtFlavour::Nft, 16, Some(Invalid)),
        (XtFlavour::Legacy, 30, None),
    ] {
        let mut kernel = SimKernel::new(flavour);
        let outcome = class(apply_to(&mut kernel, table(XtTable::Filter), nested(depth)));
        assert_eq!(outcome, expected, "{flavour:?}, {depth}");
    }
}

#[test]
fn interfaces_are_refused_where_the_packet_has_none() {
    let name = |name: &str| Some(InterfaceMatch { name: name.into(), negated: false });
    let cases = [
        (XtTable::Mangle, Prerouting, None, name("eth0"), Some(Invalid)),
        (XtTable::Mangle, Input, None, name("eth0"), Some(Invalid)),
        (XtTable::Mangle, Output, name("eth0"), None, Some(Invalid)),
        (XtTable::Mangle, Postrouting, name("eth0"), None, Some(Invalid)),
        (XtTable::Mangle, Prerouting, name("eth0"), None, None),
        (XtTable::Mangle, Postrouting, None, name("eth0"), None),
        (XtTable::Mangle, Forward, name("eth0"), name("eth1"), None),
        (XtTable::Mangle, Forward, name("abcdefghijklmno"), None, None),
        (XtTable::Mangle, Forward, name("abcdefghijklmnop"), None, Some(Invalid)),
        (XtTable::Mangle, Forward, name("eth+"), None, Some(Invalid)),
        (XtTable::Mangle, Forward, name(""), None, Some(Invalid)),
    ];
    for (at, hook, in_interface, out_interface, expected) in cases {
        let rule = XtRule { in_interface, out_interface, ..jump("SMARTNAT-A") };
        let below =
            vec![put("SMARTNAT-A", &[]), NetworkOp::InsertJump { hook, rule: rule.clone() }];
        assert_eq!(class(apply_to(&mut kernel(), table(at), below)), expected, "{hook:?} {rule:?}");
    }
    // In a chain of its own the rule is accepted and never matches.
    let rule = XtRule { out_interface: name("eth0"), ..accept() };
    let ops = below(Prerouting, &rule);
    apply_to(&mut kernel(), table(XtTable::Mangle), ops).expect("accepted");
}
