//! What is checked of a single rule.

use smartnat_core::objects::nft::{CtKey, NftName, PayloadBase, SetUpdate};

use super::*;

fn mark(to: u8) -> NftExpr {
    NftExpr::Meta { key: MetaKey::Mark, to: Register(to) }
}

fn compare(from: u8, bytes: usize) -> NftExpr {
    NftExpr::Compare { from: Register(from), negated: false, value: vec![1; bytes].into() }
}

fn lookup(set: &str, result: LookupResult) -> NftExpr {
    NftExpr::Lookup { set: set.into(), key: Register(0), result }
}

fn payload(length: u32, to: u8) -> NftExpr {
    NftExpr::Payload { base: PayloadBase::Network, offset: 0, length, to: Register(to) }
}

fn bitwise(mask: usize, xor: usize) -> NftExpr {
    let (mask, xor) = (vec![1; mask].into(), vec![0; xor].into());
    NftExpr::Bitwise { from: Register(0), to: Register(1), mask, xor }
}

fn dynset(set: &str, value: Option<u8>, timeout_millis: Option<u64>) -> NftExpr {
    let (set, value) = (NftName::from(set), value.map(Register));
    NftExpr::Dynset { set, update: SetUpdate::Update, key: Register(0), value, timeout_millis }
}

fn checked(setup: &[NftOp], cases: Vec<(&str, Vec<NftExpr>, Option<OpErrorClass>)>) {
    let cases = cases
        .into_iter()
        .map(|(what, rule, expected)| (what, vec![put_rules("R", vec![rule])], expected));
    outcomes(setup, cases.collect());
}

#[test]
fn a_rule_reads_what_it_has_written_itself() {
    let direction = NftExpr::Ct { key: CtKey::Direction, to: Register(0) };
    checked(
        &[],
        vec![
            ("a mark", vec![mark(0), compare(0, 4)], None),
            ("nothing", vec![compare(0, 4)], Some(Invalid)),
            ("another register", vec![mark(1), compare(0, 4)], Some(Invalid)),
            ("the rest of a register", vec![direction.clone(), compare(0, 4)], None),
            ("beyond it", vec![direction, compare(0, 5)], Some(Invalid)),
            ("two registers", vec![mark(0), mark(1), compare(0, 8)], None),
            ("a mark from nowhere", vec![NftExpr::SetMark { from: Register(3) }], Some(Invalid)),
            ("16 bytes", vec![payload(20, 0), compare(0, 16)], None),
            ("more than that", vec![payload(20, 0), compare(0, 17)], Some(Invalid)),
            ("no byte", vec![mark(0), compare(0, 0)], Some(Invalid)),
            ("all registers", vec![payload(64, 0)], None),
            ("beyond the last", vec![payload(5, 15)], Some(Invalid)),
            ("no byte of a header", vec![payload(0, 0)], Some(Invalid)),
            ("a result", vec![mark(0), bitwise(4, 4), compare(1, 4)], None),
            ("masks of two lengths", vec![mark(0), bitwise(4, 3)], Some(Invalid)),
            ("no number", vec![NftExpr::Random { modulus: 0, to: Register(0) }], Some(Invalid)),
        ],
    );
    let earlier = vec![put_rules("R", vec![vec![mark(0)], vec![compare(0, 4)]])];
    outcomes(&[], vec![("what an earlier rule wrote", earlier, Some(Invalid))]);
}

#[test]
fn a_look_up_fits_its_set() {
    let setup = [
        set("set", marks(NftData::Nothing)),
        set("values", marks(NftData::Values(vec![NftType::Ipv6]))),
        set("verdicts", marks(NftData::Verdict)),
        set("wide", NftSetSpec::exact([NftType::Mark; 2], NftData::Nothing)),
    ];
    let member = LookupResult::Membership { negated: false };
    let value = LookupResult::Value(Register(1));
    let found = |set, result| vec![mark(0), lookup(set, result)];
    checked(
        &setup,
        vec![
            ("a member", found("set", member), None),
            ("of a map", found("values", member), None),
            ("a value", found("values", value), None),
            ("all of it", [found("values", value), vec![compare(1, 16)]].concat(), None),
            ("the value of a set", found("set", value), Some(Invalid)),
            ("the value of a verdict", found("verdicts", value), Some(Invalid)),
            ("a verdict", found("verdicts", LookupResult::Verdict), None),
            ("the verdict of a value", found("values", LookupResult::Verdict), Some(Invalid)),
            ("half a key", found("wide", member), Some(Invalid)),
            ("in no set", found("none", member), Some(NotFound)),
        ],
    );
}

#[test]
fn a_rule_changes_sets_that_are_made_for_it() {
    let dynamic = |data| NftSetSpec { dynamic: true, size: Some(10), ..marks(data) };
    let timed = |data| NftSetSpec { timeout: Some(0), ..dynamic(data) };
    let values = || NftData::Values(vec![NftType::Mark]);
    let setup = [
        set("fixed", NftSetSpec { size: Some(10), ..marks(NftData::Nothing) }),
        set("endless", NftSetSpec { size: None, ..dynamic(NftData::Nothing) }),
        set("set", dynamic(NftData::Nothing)),
        set("map", dynamic(values())),
        set("timed", timed(values())),
    ];
    let change = |set, value, timeout| vec![mark(0), mark(1), dynset(set, value, timeout)];
    checked(
        &setup,
        vec![
            ("a set", change("set", None, None), None),
            ("a map", change("map", Some(1), None), None),
            ("with a timeout", change("timed", Some(1), Some(5)), None),
            ("a timeout where there is none", change("map", Some(1), Some(5)), Some(Invalid)),
            ("a value for a set", change("set", Some(1), None), Some(Invalid)),
            ("no value for a map", change("map", None, None), Some(Invalid)),
            ("a value from nowhere", change("map", Some(2), None), Some(Invalid)),
            ("a set that is fixed", change("fixed", None, None), Some(Invalid)),
            ("a set without a size", change("endless", None, None), Some(Invalid)),
            ("no set", change("none", None, None), Some(NotFound)),
        ],
    );
}
