use super::*;
use crate::nft_text::{render_chain, render_table};
use crate::objects::BuiltinHook;
use crate::objects::nft::{NftBase, NftChain, NftChainKind, NftTable};

fn base(kind: NftChainKind, hook: BuiltinHook, priority: i32) -> NftChain {
    NftChain { base: Some(NftBase { kind, hook, priority, drops: false }), rules: Vec::new() }
}

#[test]
fn priorities_have_the_name_that_is_near() {
    use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
    for (hook, priority, text) in [
        (Prerouting, -150, "mangle"),
        (Prerouting, -101, "dstnat - 1"),
        (Output, -101, "-101"),
        (Postrouting, 99, "srcnat - 1"),
        (Postrouting, 110, "srcnat + 10"),
        (Postrouting, 111, "111"),
        (Forward, 50, "security"),
        (Input, -300, "raw"),
        (Output, 5, "filter + 5"),
        (Prerouting, -139, "-139"),
        (Prerouting, -140, "mangle + 10"),
        (Prerouting, -310, "raw - 10"),
        (Output, 100, "100"),
        (Output, i32::MIN, "-2147483648"),
    ] {
        let chain = base(NftChainKind::Filter, hook, priority);
        let text = format!(
            "chain c {{\n\ttype filter hook {} priority {text}; policy accept;\n}}\n",
            hook.name().to_ascii_lowercase(),
        );
        assert_eq!(render_chain(&sets(), &"c".into(), &chain), text);
    }
}

#[test]
fn a_table_has_sets_before_chains() {
    let mut table = NftTable::default();
    table.sets.insert("marks".into(), set(&[NftType::Mark], NftData::Verdict));
    let mut chain = base(NftChainKind::Nat, BuiltinHook::Prerouting, -100);
    chain.rules.push(rule(&[&[NftExpr::Verdict(NftVerdict::Jump("services".into()))]]));
    table.chains.insert("translate".into(), chain);
    table.chains.insert("services".into(), NftChain::default());
    assert_eq!(
        render_table(&table),
        "table inet smartnat {\n\
         \tcomment \"SmartNat: do not edit, changes are undone\"\n\n\
         \tmap marks {\n\t\ttype mark : verdict\n\t}\n\n\
         \tchain services {\n\t}\n\n\
         \tchain translate {\n\
         \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
         \t\tjump services\n\t}\n}\n"
    );
}
