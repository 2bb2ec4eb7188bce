//! Chains: names, places, references, loops.

use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
use NftChainKind::{Filter, Nat, Route};
use OpErrorClass::Busy;

use super::*;

#[test]
fn outcomes_of_transactions_on_chains() {
    // P jumps to C; the map leads to M.
    let setup = [
        put_rules("C", vec![]),
        put_rules("P", vec![jump_to("C")]),
        put_rules("M", vec![]),
        set("map", marks(NftData::Verdict)),
        add("map", number(1), goto("M")),
    ];
    let long = |length| put_rules(&"a".repeat(length), vec![]);
    outcomes(
        &setup,
        vec![
            ("a chain that P jumps to", vec![delete_chain("C")], Some(Busy)),
            ("child before parent", vec![delete_chain("C"), delete_chain("P")], Some(Busy)),
            ("parent before child", vec![delete_chain("P"), delete_chain("C")], None),
            ("P rewritten first", vec![put_rules("P", vec![]), delete_chain("C")], None),
            ("a chain that an element leads to", vec![delete_chain("M")], Some(Busy)),
            (
                "the element goes first",
                vec![delete_element("map", number(1)), delete_chain("M")],
                None,
            ),
            ("the map goes first", vec![delete_set("map"), delete_chain("M")], None),
            ("an absent chain", vec![delete_chain("X")], Some(NotFound)),
            (
                "a rule that leads to no chain",
                vec![put_rules("A", vec![jump_to("X")])],
                Some(NotFound),
            ),
            (
                "a rule that leads to a later chain",
                vec![put_rules("A", vec![jump_to("B")]), put_rules("B", vec![])],
                Some(NotFound),
            ),
            (
                "an element that leads to no chain",
                vec![add("map", number(2), goto("X"))],
                Some(NotFound),
            ),
            ("put twice", vec![put_rules("P", vec![jump_to("M")]), delete_chain("C")], None),
            ("itself, unreached", vec![put_rules("A", vec![jump_to("A")])], None),
            (
                "itself, then deleted",
                vec![put_rules("A", vec![jump_to("A")]), delete_chain("A")],
                Some(Busy),
            ),
            ("name of 255 bytes", vec![long(255)], None),
            ("name of 256 bytes", vec![long(256)], Some(Invalid)),
        ],
    );
}

#[test]
fn a_base_chain_has_a_place_that_the_kernel_knows() {
    let place = |kind, hook, priority| vec![put_chain("B", base(kind, hook, priority), vec![])];
    outcomes(
        &[],
        vec![
            ("filter", place(Filter, Forward, -150), None),
            ("translation", place(Nat, Prerouting, -101), None),
            ("translation at 100 as others have it", place(Nat, Postrouting, 100), None),
            ("translation of input", place(Nat, Input, 0), None),
            ("translation of what is forwarded", place(Nat, Forward, 0), Some(Invalid)),
            ("translation before tracking", place(Nat, Prerouting, -200), Some(Invalid)),
            ("translation just after tracking", place(Nat, Prerouting, -199), None),
            ("route in output", place(Route, Output, -150), None),
            ("route elsewhere", place(Route, Prerouting, -150), Some(Invalid)),
            ("beside tracking", place(Filter, Prerouting, -200), Some(Invalid)),
            ("beside translation", place(Filter, Postrouting, 100), Some(Invalid)),
        ],
    );
}

#[test]
fn the_place_of_a_chain_cannot_be_changed() {
    let held = Some(base(Filter, Input, 5));
    let setup = [put_chain("B", held, vec![]), put_rules("R", vec![])];
    let put = |name, base: Option<NftBase>| vec![put_chain(name, base, vec![])];
    outcomes(
        &setup,
        vec![
            ("the same", put("B", held), None),
            ("another priority", put("B", Some(base(Filter, Input, 6))), Some(Invalid)),
            ("another hook", put("B", Some(base(Filter, Forward, 5))), Some(Invalid)),
            ("another type", put("B", Some(base(Nat, Input, 5))), Some(Exists)),
            ("a place for a chain without", put("R", held), Some(Invalid)),
            ("a jump to a base chain", vec![put_rules("A", vec![jump_to("B")])], Some(Invalid)),
        ],
    );
    // Without a place in the message nothing about it changes.
    let mut kernel = with(setup.to_vec());
    run(&mut kernel, put("B", None)).expect("nothing is asked for");
    assert_eq!(observe(&mut kernel).nft.expect("it is there").chains["B"].base, held);
}

/// Base chain B leads to c1, and each chain to the next.
fn nested(depth: usize) -> Vec<NftOp> {
    let name = |n: usize| format!("c{n}");
    let chain = |n: usize| {
        let rules = if n == depth { vec![] } else { vec![jump_to(&name(n + 1))] };
        put_rules(&name(n), rules)
    };
    let base = put_chain("B", base(Filter, Input, 0), vec![jump_to(&name(1))]);
    (1..=depth).rev().map(chain).chain([base]).collect()
}

#[test]
fn what_a_base_chain_reaches_has_no_loop_and_limited_depth() {
    let in_base = |rules| put_chain("B", base(Filter, Input, 0), rules);
    let by_map = |chain| {
        let read = NftExpr::Meta { key: MetaKey::Mark, to: Register(0) };
        let result = LookupResult::Verdict;
        let found = NftExpr::Lookup { set: "map".into(), key: Register(0), result };
        put_rules(chain, vec![vec![read, found]])
    };
    let setup = [put_rules("A", vec![]), set("map", marks(NftData::Verdict))];
    let looping = vec![put_rules("A", vec![jump_to("A")]), in_base(vec![jump_to("A")])];
    let map_loop = vec![by_map("A"), in_base(vec![jump_to("A")]), add("map", number(1), goto("A"))];
    let mended = [map_loop.clone(), vec![delete_element("map", number(1))]].concat();
    outcomes(
        &setup,
        vec![
            ("a loop", looping, Some(Invalid)),
            ("a loop through a map", map_loop, Some(Invalid)),
            ("a loop that is gone by the end", mended, None),
            ("15 deep", nested(15), None),
            ("16 deep", nested(16), Some(Invalid)),
        ],
    );
}

#[test]
fn translation_and_refusal_have_their_hooks() {
    let read = NftExpr::Meta { key: MetaKey::Mark, to: Register(0) };
    let translate = |kind| {
        let family = Family::V4;
        let nat = NftExpr::Nat { kind, family, address: Register(0), port: None };
        vec![vec![read.clone(), nat]]
    };
    let reject = vec![vec![NftExpr::Reject(smartnat_core::objects::RejectWith::TcpReset)]];
    let masquerade = vec![vec![NftExpr::Masquerade]];
    let (source, destination) = (translate(NatKind::Source), translate(NatKind::Destination));
    for (kind, hook, rules, allowed) in [
        (Nat, Prerouting, &destination, true),
        (Nat, Output, &destination, true),
        (Nat, Postrouting, &destination, false),
        (Filter, Prerouting, &destination, false),
        (Nat, Postrouting, &source, true),
        (Nat, Input, &source, true),
        (Nat, Prerouting, &source, false),
        (Nat, Postrouting, &masquerade, true),
        (Nat, Input, &masquerade, false),
        (Nat, Prerouting, &reject, true),
        (Nat, Output, &reject, true),
        (Filter, Forward, &reject, true),
        (Filter, Postrouting, &reject, false),
    ] {
        let expected = (!allowed).then_some(Invalid);
        let direct = vec![put_chain("B", base(kind, hook, 5), rules.clone())];
        let below = vec![
            put_rules("A", rules.clone()),
            put_chain("B", base(kind, hook, 5), vec![jump_to("A")]),
        ];
        let unreached = vec![put_rules("A", rules.clone())];
        outcomes(
            &[],
            vec![("direct", direct, expected), ("below", below, expected), ("no", unreached, None)],
        );
    }
}
