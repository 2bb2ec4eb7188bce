//! Sets and their elements.

use OpErrorClass::Busy;

use super::*;

fn values() -> NftSetSpec {
    marks(NftData::Values(vec![NftType::Mark]))
}

fn two_fields() -> NftSetSpec {
    let data = NftData::Values(vec![NftType::Mark]);
    NftSetSpec { interval: true, ..NftSetSpec::exact([NftType::Ipv4, NftType::Port], data) }
}

/// Addresses by their last byte, ports.
fn block((from, to): (u8, u8), (first, last): (u16, u16)) -> NftKey {
    let corner = |a: u8, p: u16| fields::join([&[192, 0, 2, a][..], &p.to_be_bytes()]);
    NftKey::interval(corner(from, first), corner(to, last))
}

#[test]
fn sets_come_and_go() {
    let used = {
        let read = NftExpr::Meta { key: MetaKey::Mark, to: Register(0) };
        let result = LookupResult::Membership { negated: false };
        vec![vec![read, NftExpr::Lookup { set: "taken".into(), key: Register(0), result }]]
    };
    let spec = || marks(NftData::Nothing);
    let create = |spec| vec![set("s", spec)];
    let wide = |fields| NftSetSpec::exact(vec![NftType::Ipv6; fields], NftData::Nothing);
    let unknown = NftSetSpec::exact([NftType::Unknown(99)], NftData::Nothing);
    outcomes(
        &[set("taken", spec()), put_rules("user", used)],
        vec![
            ("a new one", create(spec()), None),
            ("the same again", vec![set("taken", spec())], Some(Exists)),
            ("another of the name", vec![set("taken", values())], Some(Exists)),
            ("name of 255 bytes", vec![set(&"s".repeat(255), spec())], None),
            ("name of 256 bytes", vec![set(&"s".repeat(256), spec())], Some(Invalid)),
            ("keys of 64 bytes", create(wide(4)), None),
            ("keys of 80 bytes", create(wide(5)), Some(Invalid)),
            ("no key", create(wide(0)), Some(Invalid)),
            ("a type of unknown size", create(unknown), Some(Invalid)),
            (
                "intervals that rules add",
                create(NftSetSpec { interval: true, dynamic: true, ..spec() }),
                Some(Invalid),
            ),
            ("one that is in use", vec![delete_set("taken")], Some(Busy)),
            ("its rule goes first", vec![delete_chain("user"), delete_set("taken")], None),
            ("none", vec![delete_set("none")], Some(NotFound)),
        ],
    );
}

#[test]
fn elements_fit_their_set_and_have_keys_of_their_own() {
    let setup = [
        put_rules("C", vec![]),
        set("set", marks(NftData::Nothing)),
        set("values", values()),
        set("verdicts", marks(NftData::Verdict)),
        set("intervals", NftSetSpec { interval: true, ..marks(NftData::Nothing) }),
        add("values", number(1), bytes(1)),
    ];
    let nothing = || NftValue::Nothing;
    outcomes(
        &setup,
        vec![
            ("a member", vec![add("set", number(1), nothing())], None),
            ("a value in a set", vec![add("set", number(1), bytes(1))], Some(Invalid)),
            ("no value in a map", vec![add("values", number(2), nothing())], Some(Invalid)),
            ("a verdict in a map", vec![add("values", number(2), goto("C"))], Some(Invalid)),
            ("a value as a verdict", vec![add("verdicts", number(2), bytes(1))], Some(Invalid)),
            ("a short key", vec![add("set", NftKey::exact([1, 2]), nothing())], Some(Invalid)),
            (
                "a short value",
                vec![add("values", number(2), NftValue::Bytes([1].into()))],
                Some(Invalid),
            ),
            ("an interval elsewhere", vec![add("set", numbers(1, 2), nothing())], Some(Invalid)),
            ("no interval", vec![add("intervals", number(1), nothing())], Some(Invalid)),
            ("a reversed one", vec![add("intervals", numbers(2, 1), nothing())], Some(Invalid)),
            ("an equal one", vec![add("values", number(1), bytes(1))], None),
            ("another value", vec![add("values", number(1), bytes(2))], Some(Exists)),
            (
                "another value in place of the old",
                vec![delete_element("values", number(1)), add("values", number(1), bytes(2))],
                None,
            ),
            ("to no set", vec![add("none", number(1), nothing())], Some(NotFound)),
            ("deletion from no set", vec![delete_element("none", number(1))], Some(NotFound)),
            ("deletion of none", vec![delete_element("values", number(2))], Some(NotFound)),
            (
                "deletion by a short key",
                vec![delete_element("set", NftKey::exact([1]))],
                Some(Invalid),
            ),
        ],
    );
}

#[test]
fn a_full_set_takes_what_it_holds() {
    let spec = NftSetSpec { size: Some(2), ..values() };
    let setup = [set("s", spec), add("s", number(1), bytes(1)), add("s", number(2), bytes(2))];
    let third = || add("s", number(3), bytes(3));
    outcomes(
        &setup,
        vec![
            ("a third", vec![third()], Some(Invalid)),
            ("one that is there", vec![add("s", number(1), bytes(1))], None),
            ("in place of another", vec![delete_element("s", number(1)), third()], None),
            ("before another goes", vec![third(), delete_element("s", number(1))], Some(Invalid)),
        ],
    );
}

#[test]
fn intervals_do_not_overlap() {
    let spec = NftSetSpec { interval: true, ..values() };
    let setup = [set("s", spec), add("s", numbers(10, 20), bytes(1))];
    for ((first, last), value, expected) in [
        ((10, 20), 1, None),
        ((10, 20), 2, Some(Exists)),
        ((5, 12), 1, Some(Exists)),
        ((15, 25), 1, Some(Exists)),
        ((12, 15), 1, Some(Exists)),
        ((5, 25), 1, Some(Exists)),
        ((10, 15), 1, Some(Exists)),
        ((20, 20), 1, Some(Exists)),
        ((21, u32::MAX), 1, None),
        ((0, 9), 1, None),
    ] {
        let ops = vec![add("s", numbers(first, last), bytes(value))];
        outcomes(&setup, vec![(&format!("{first}-{last}"), ops, expected)]);
    }
    outcomes(
        &setup,
        vec![
            ("a part of one", vec![delete_element("s", numbers(10, 15))], Some(NotFound)),
            (
                "two in place of one",
                vec![
                    delete_element("s", numbers(10, 20)),
                    add("s", numbers(10, 14), bytes(1)),
                    add("s", numbers(15, 20), bytes(2)),
                ],
                None,
            ),
        ],
    );
}

#[test]
fn intervals_of_two_fields_overlap_where_both_fields_do() {
    let setup = [set("s", two_fields()), add("s", block((10, 20), (100, 200)), bytes(1))];
    for (key, value, expected) in [
        (block((10, 20), (100, 200)), 1, None),
        (block((10, 20), (100, 200)), 2, Some(Exists)),
        (block((5, 12), (100, 200)), 1, Some(Exists)),
        (block((12, 15), (120, 130)), 1, Some(Exists)),
        (block((21, 30), (100, 200)), 1, None),
        (block((10, 20), (201, 300)), 1, None),
    ] {
        let ops = vec![add("s", key.clone(), bytes(value))];
        outcomes(&setup, vec![(&format!("{key:?}"), ops, expected)]);
    }
    // A deletion goes by the first key alone.
    outcomes(
        &setup,
        vec![
            ("by another end", vec![delete_element("s", block((10, 20), (100, 150)))], None),
            ("beside it", vec![delete_element("s", block((10, 20), (99, 200)))], Some(NotFound)),
        ],
    );
}

#[test]
fn elements_with_a_timeout_expire_and_are_no_part_of_an_observation() {
    let spec = NftSetSpec { timeout: Some(10), ..marks(NftData::Nothing) };
    let mut kernel = with(vec![set("s", spec), add("s", number(1), NftValue::Nothing)]);
    kernel.advance(5_000);
    // Adding again is no refreshment.
    let ops = [1, 2].map(|n| add("s", number(n), NftValue::Nothing)).to_vec();
    run(&mut kernel, ops).expect("valid");
    let held = |kernel: &SimKernel| {
        let table = kernel.nft().ours().expect("it is there");
        let set = table.set(&"s".into()).expect("it is there");
        set.elements().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(held(&kernel), [number(1), number(2)]);
    assert!(observe(&mut kernel).nft.expect("it is there").sets["s"].elements.is_empty());
    kernel.advance(5_000);
    assert_eq!(held(&kernel), [number(2)]);
    kernel.advance(5_000);
    assert_eq!(held(&kernel), []);
}

#[test]
fn an_element_keeps_its_comment_until_it_goes() {
    let commented = |text: &str| NftOp::AddElement {
        set: "s".into(),
        key: number(1),
        element: NftElement { value: bytes(1), comment: Some(text.into()) },
    };
    let mut kernel = with(vec![set("s", values()), commented("first"), commented("second")]);
    let comment = |kernel: &mut SimKernel| {
        let table = observe(kernel).nft.expect("it is there");
        table.sets["s"].elements[&number(1)].comment.clone()
    };
    assert_eq!(comment(&mut kernel).as_deref(), Some("first"));
    let ops = vec![delete_element("s", number(1)), commented("second")];
    run(&mut kernel, ops).expect("valid");
    assert_eq!(comment(&mut kernel).as_deref(), Some("second"));
    assert_eq!(class(run(&mut kernel, vec![commented(&"a".repeat(128))])), Some(Invalid));
}
