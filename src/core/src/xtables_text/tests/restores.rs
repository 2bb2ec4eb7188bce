//! Transactions as restore input.

use crate::model::Family;
use crate::objects::{BuiltinHook, ChainName, XtRule, XtTable, XtTableId, XtTarget};
use crate::ops::NetworkOp;
use crate::xtables_text::{LineKind, render_transaction};

const NAT: XtTableId = XtTableId { family: Family::V4, table: XtTable::Nat };

fn chain(name: &str) -> ChainName {
    ChainName(name.to_owned())
}

fn jump(name: &str) -> XtRule {
    XtRule::new(XtTarget::Jump(chain(name)))
}

fn put(name: &str, rules: Vec<XtRule>) -> NetworkOp {
    NetworkOp::PutChain { chain: chain(name), rules }
}

#[test]
fn chains_are_declared_before_the_rules_that_jump_to_them() {
    let hook = BuiltinHook::Prerouting;
    let ops = [
        put("SMARTNAT-A", vec![jump("SMARTNAT-B"), XtRule::new(XtTarget::Return)]),
        NetworkOp::InsertJump { hook, rule: jump("SMARTNAT-A") },
        put("SMARTNAT-B", vec![]),
        NetworkOp::DeleteJump { hook, rule: jump("SMARTNAT-C") },
        NetworkOp::DeleteChain { chain: chain("SMARTNAT-C") },
    ];
    let input = render_transaction(NAT, &ops);
    let expected = [
        ("*nat", LineKind::Table, None),
        (":SMARTNAT-A - [0:0]", LineKind::DeclareChain, Some(0)),
        (":SMARTNAT-B - [0:0]", LineKind::DeclareChain, Some(2)),
        ("-F SMARTNAT-C", LineKind::FlushChain, Some(4)),
        ("-A SMARTNAT-A -j SMARTNAT-B", LineKind::AddRule, Some(0)),
        ("-A SMARTNAT-A -j RETURN", LineKind::AddRule, Some(0)),
        ("-I PREROUTING 1 -j SMARTNAT-A", LineKind::AddRule, Some(1)),
        ("-D PREROUTING -j SMARTNAT-C", LineKind::DeleteRule, Some(3)),
        ("-X SMARTNAT-C", LineKind::DeleteChain, Some(4)),
        ("COMMIT", LineKind::Commit, None),
    ];
    assert_eq!(input.text.lines().count(), expected.len());
    for (index, (line, (text, kind, op))) in input.text.lines().zip(expected).enumerate() {
        let origin = input.line(index + 1).expect("a line of ours");
        assert_eq!((line, origin.kind, origin.op), (text, kind, op));
    }
    assert_eq!(input.line(0), None);
    assert_eq!(input.line(expected.len() + 1), None);
}

#[test]
fn the_last_replacement_of_a_chain_counts() {
    let ops = [put("SMARTNAT-A", vec![jump("SMARTNAT-B")]), put("SMARTNAT-A", vec![])];
    assert_eq!(render_transaction(NAT, &ops).text, "*nat\n:SMARTNAT-A - [0:0]\nCOMMIT\n");
}

#[test]
fn what_has_no_text_leaves_nothing_to_do() {
    let ops = [NetworkOp::DeleteEmptyBuiltin { hook: BuiltinHook::Prerouting }];
    assert!(render_transaction(NAT, &ops).is_empty());
    assert!(!render_transaction(NAT, &[put("SMARTNAT-A", vec![])]).is_empty());
}

#[test]
fn a_chain_name_cannot_add_a_line() {
    let ops = [put("A\nCOMMIT\n*filter", vec![]), NetworkOp::DeleteChain { chain: chain("B C") }];
    let text = render_transaction(NAT, &ops).text;
    assert_eq!(text, "*nat\n:A?COMMIT?*filter - [0:0]\n-F B?C\n-X B?C\nCOMMIT\n");
}
