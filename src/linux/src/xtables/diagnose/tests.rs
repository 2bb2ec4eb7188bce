//! What both flavours of 1.8.9 say.

use smartnat_core::objects::{BuiltinHook, ChainName, XtRule, XtTable};
use smartnat_core::xtables_text::render_transaction;

use super::*;

const NAT: XtTableId = XtTableId { family: Family::V4, table: XtTable::Nat };

fn chain(name: &str) -> ChainName {
    ChainName(name.to_owned())
}

/// Text: 1 `*nat`, 2 `:SMARTNAT-A`, 3 `-F`, 4 `-A SMARTNAT-A`, 5 `-I`, 6 `-D`, 7 `-X`, 8 `COMMIT`.
fn ops() -> Vec<NetworkOp> {
    let jump = |name| XtRule::new(XtTarget::Jump(chain(name)));
    let hook = BuiltinHook::Prerouting;
    vec![
        NetworkOp::PutChain { chain: chain("SMARTNAT-A"), rules: vec![jump("SMARTNAT-N")] },
        NetworkOp::InsertJump { hook, rule: jump("SMARTNAT-A") },
        NetworkOp::DeleteJump { hook, rule: jump("SMARTNAT-B") },
        NetworkOp::DeleteChain { chain: chain("SMARTNAT-B") },
    ]
}

fn diagnosed(code: Option<i32>, stderr: &str) -> OpError {
    let ops = ops();
    failed_restore(NAT, &ops, &render_transaction(NAT, &ops), code, stderr)
}

#[test]
fn a_failing_line_names_its_object_and_class() {
    const A: &str = "chain nat/SMARTNAT-A (IPv4)";
    const B: &str = "chain nat/SMARTNAT-B (IPv4)";
    const TO_A: &str = "jump nat/PREROUTING to SMARTNAT-A (IPv4)";
    const TO_B: &str = "jump nat/PREROUTING to SMARTNAT-B (IPv4)";
    const TABLE: &str = "table nat (IPv4)";
    let cases = [
        (4, "line 7: CHAIN_DEL failed (Device or resource busy): chain SMARTNAT-B", "Busy", B),
        (4, "line 5: RULE_INSERT failed (Invalid argument): rule in chain X", "Invalid", TO_A),
        (4, "line 5: RULE_INSERT failed (Too many links): rule in chain X", "Invalid", TO_A),
        (
            1,
            "iptables-nft-restore: line 6 failed: Bad rule (does a matching rule exist in that chain?).",
            "NotFound",
            TO_B,
        ),
        (
            1,
            "iptables-nft-restore: line 3 failed: No chain/target/match by that name.",
            "NotFound",
            B,
        ),
        (1, "iptables-restore: line 6 failed", "NotFound", TO_B),
        (1, "iptables-restore: line 3 failed", "NotFound", B),
        (1, "iptables-restore: line 7 failed", "Busy", B),
        (1, "iptables-restore: line 8 failed", "Invalid", TABLE),
        (
            2,
            "iptables-restore v1.8.9 (legacy): Couldn't load target `SMARTNAT-N':No such file or directory\n\nError occurred at line: 4\nTry `iptables-restore -h' for more.",
            "NotFound",
            A,
        ),
        (
            2,
            "iptables-nft-restore v1.8.9 (nf_tables): Chain 'SMARTNAT-N' does not exist\nError occurred at line: 8\n",
            "NotFound",
            A,
        ),
        (
            2,
            "iptables-nft-restore v1.8.9 (nf_tables): Set smartnat-none doesn't exist.\n\nError occurred at line: 4\n",
            "NotFound",
            A,
        ),
        (
            2,
            "v1.8.9 (legacy): unknown option \"--bogus\"\nError occurred at line: 4\n",
            "Invalid",
            A,
        ),
        (
            4,
            "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 1s.",
            "Transient",
            TABLE,
        ),
        (
            4,
            "Could not fetch rule set generation id: Permission denied (you must be root)",
            "Denied",
            TABLE,
        ),
        (4, "Fatal: can't open lock file /run/xtables.lock: Permission denied", "Denied", TABLE),
    ];
    for (code, stderr, class, object) in cases {
        let error = diagnosed(Some(code), stderr);
        assert_eq!(
            (format!("{:?}", error.class).as_str(), error.object.as_str()),
            (class, object),
            "{stderr}"
        );
    }
}

#[test]
fn one_operation_alone_is_named_also_when_the_kernel_gives_no_line() {
    let ops = [ops().swap_remove(0)];
    let input = render_transaction(NAT, &ops);
    let error = failed_restore(NAT, &ops, &input, Some(1), "iptables-restore: line 4 failed");
    assert_eq!(error.object, "chain nat/SMARTNAT-A (IPv4)");
}

#[test]
fn the_detail_is_one_bounded_line_with_what_was_tried() {
    let error = diagnosed(Some(2), "what\n\nError occurred at line: 4\nTry `x -h'\n");
    assert_eq!(
        error.detail,
        "what; Error occurred at line: 4 [exit code 2] (`-A SMARTNAT-A -j SMARTNAT-N`)"
    );
    assert!(diagnosed(Some(1), &"x".repeat(100_000)).detail.len() < 1000);
    assert_eq!(diagnosed(None, "").class, OpErrorClass::Transient);
}

#[test]
fn odd_words_about_lines_do_no_harm() {
    for stderr in
        ["line", "line:", "line 0 failed", "line 99999999999999999999999", "`'", "'", "line 4"]
    {
        let _ = diagnosed(Some(1), stderr);
    }
}
