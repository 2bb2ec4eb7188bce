//! What the kernel does with objects of nftables that one might expect otherwise, shown on both.

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    LookupResult, MetaKey, NftBase, NftChain, NftChainKind, NftData, NftElement, NftExpr, NftKey,
    NftName, NftRule, NftSetSpec, NftType, NftValue, NftVerdict, Register, fields,
};
use smartnat_core::ops::OpErrorClass::{self, Busy, Exists, Invalid, NotFound};
use smartnat_core::ops::{Domain, NetworkOp, NftOp};
use smartnat_tests::Ruleset;

use crate::arms::{self, Arms};

/// Batches one after the other, with what each comes to.
fn comes_to(name: &str, batches: Vec<(Vec<NftOp>, Result<(), OpErrorClass>)>) {
    if !smartnat::lab::available() {
        return;
    }
    arms::in_lab(Ruleset::Nftables, name, |arms: &mut Arms<'_>| {
        for (batch, expected) in batches {
            let told = format!("{name}: {batch:?}");
            let ops = batch.into_iter().map(NetworkOp::Nft).collect();
            assert_eq!(arms.apply(Domain::Nftables, ops), expected, "{told}");
        }
    });
}

fn put(name: &str, rules: Vec<Vec<NftExpr>>) -> NftOp {
    put_based(name, None, rules)
}

fn put_based(name: &str, base: Option<NftBase>, rules: Vec<Vec<NftExpr>>) -> NftOp {
    let rules = rules.into_iter().map(|expressions| NftRule { expressions, comment: None });
    NftOp::PutChain { name: name.into(), chain: NftChain { base, rules: rules.collect() } }
}

fn delete(chain: &str) -> NftOp {
    NftOp::DeleteChain { name: chain.into() }
}

fn create(name: &str, spec: NftSetSpec) -> NftOp {
    NftOp::CreateSet { name: name.into(), spec }
}

fn add(set: &str, key: NftKey, value: NftValue) -> NftOp {
    NftOp::AddElement { set: set.into(), key, element: NftElement { value, comment: None } }
}

fn jump(chain: &str) -> NftExpr {
    NftExpr::Verdict(NftVerdict::Jump(chain.into()))
}

fn ports(first: u16, last: u16) -> NftKey {
    let key = |port: u16| fields::join([&[6], &port.to_be_bytes()]);
    NftKey::interval(key(first), key(last))
}

const INPUT: NftBase =
    NftBase { kind: NftChainKind::Filter, hook: BuiltinHook::Input, priority: 5, drops: false };

#[test]
fn a_chain_that_leads_to_itself_is_emptied_before_it_goes() {
    comes_to(
        "itself",
        vec![
            (vec![NftOp::CreateTable, put("a", vec![vec![jump("a")]])], Ok(())),
            (vec![delete("a")], Err(Busy)),
            (vec![put("b", vec![vec![jump("b")]]), delete("b")], Err(Busy)),
            (vec![put("a", vec![]), delete("a")], Ok(())),
        ],
    );
}

/// Where no packet comes, a loop does no harm.
#[test]
fn a_loop_is_refused_once_packets_reach_it() {
    let into = |chain: &str| put_based("in", Some(INPUT), vec![vec![jump(chain)]]);
    comes_to(
        "loop",
        vec![
            (vec![NftOp::CreateTable, put("a", vec![]), put("b", vec![vec![jump("a")]])], Ok(())),
            (vec![put("a", vec![vec![jump("b")]])], Ok(())),
            (vec![into("b")], Err(Invalid)),
            (vec![put("a", vec![]), into("b")], Ok(())),
            (vec![put("a", vec![vec![jump("b")]])], Err(Invalid)),
        ],
    );
}

/// Also by way of a verdict map.
#[test]
fn a_loop_by_way_of_an_element_is_refused() {
    let read = NftExpr::Meta { key: MetaKey::Mark, to: Register(0) };
    let lookup = |set: &str| NftExpr::Lookup {
        set: set.into(),
        key: Register(0),
        result: LookupResult::Verdict,
    };
    let goto = |chain: &str| NftValue::Verdict(NftVerdict::Goto(chain.into()));
    let key = |mark: u32| NftKey::exact(mark.to_ne_bytes());
    comes_to(
        "verdict map",
        vec![
            (
                vec![
                    NftOp::CreateTable,
                    create("m", NftSetSpec::exact([NftType::Mark], NftData::Verdict)),
                    put("a", vec![vec![read, lookup("m")]]),
                    put_based("in", Some(INPUT), vec![vec![jump("a")]]),
                ],
                Ok(()),
            ),
            (vec![add("m", key(1), goto("a"))], Err(Invalid)),
            (vec![put("b", vec![]), add("m", key(1), goto("b"))], Ok(())),
            (vec![delete("b")], Err(Busy)),
        ],
    );
}

/// Its policy would be changed, and it has none.
#[test]
fn a_chain_becomes_no_base_chain() {
    comes_to(
        "base",
        vec![
            (vec![NftOp::CreateTable, put("a", vec![])], Ok(())),
            (vec![put_based("a", Some(INPUT), vec![])], Err(Invalid)),
            (vec![put_based("b", Some(INPUT), vec![]), put("b", vec![])], Ok(())),
        ],
    );
}

/// Names are measured before the table, a set or a register is looked for.
#[test]
fn a_name_that_is_too_long_is_refused_before_anything_is_looked_for() {
    let long: NftName = "n".repeat(NftName::MAX_LEN + 1).into();
    let membership = LookupResult::Membership { negated: false };
    let unread = NftExpr::Lookup { set: "none".into(), key: Register(9), result: membership };
    let named = NftExpr::Lookup { set: long.clone(), key: Register(0), result: membership };
    comes_to(
        "long",
        vec![
            (vec![NftOp::DeleteSet { name: long }], Err(Invalid)),
            (vec![delete("c")], Err(NotFound)),
            (vec![NftOp::CreateTable, put("a", vec![])], Ok(())),
            (vec![put("a", vec![vec![unread.clone()]])], Err(NotFound)),
            (vec![put("a", vec![vec![unread, named]])], Err(Invalid)),
        ],
    );
}

#[test]
fn an_element_is_measured_before_its_chain_is_looked_for() {
    let goto = || NftValue::Verdict(NftVerdict::Goto("none".into()));
    comes_to(
        "element",
        vec![
            (
                vec![
                    NftOp::CreateTable,
                    create("m", NftSetSpec::exact([NftType::Mark], NftData::Verdict)),
                ],
                Ok(()),
            ),
            (vec![add("m", NftKey::exact([0; 4]), goto())], Err(NotFound)),
            (vec![add("m", NftKey::exact([0; 8]), goto())], Err(Invalid)),
        ],
    );
}

#[test]
fn an_interval_is_compared_with_others_before_it_is_with_itself() {
    let key = [NftType::Protocol, NftType::Port];
    let spec = NftSetSpec { interval: true, ..NftSetSpec::exact(key, NftData::Nothing) };
    let gone = |key| NftOp::DeleteElement { set: "s".into(), key };
    comes_to(
        "intervals",
        vec![
            (vec![NftOp::CreateTable, create("s", spec)], Ok(())),
            (vec![add("s", ports(80, 90), NftValue::Nothing)], Ok(())),
            (vec![add("s", ports(85, 100), NftValue::Nothing)], Err(Exists)),
            (vec![add("s", ports(91, 100), NftValue::Nothing)], Ok(())),
            (vec![add("s", ports(90, 80), NftValue::Nothing)], Err(Exists)),
            (vec![add("s", ports(300, 200), NftValue::Nothing)], Err(Invalid)),
            (vec![gone(ports(300, 200))], Err(NotFound)),
            // A deletion goes by the first key.
            (vec![gone(ports(85, 100))], Ok(())),
            (vec![add("s", ports(70, 90), NftValue::Nothing)], Ok(())),
        ],
    );
}
