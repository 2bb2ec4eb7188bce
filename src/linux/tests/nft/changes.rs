//! Changes are made whole or not at all, and a refusal names what was refused.

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    LookupResult, NftChainKind, NftData, NftElement, NftExpr, NftKey, NftSetSpec, NftType,
    NftValue, NftVerdict,
};
use smartnat_core::ops::{NftOp, OpErrorClass};

use super::common::{in_namespace, sh};
use super::sample::{
    R0, add, address, compare, create, delete, destination_address, element, exact, goto, name,
    of_ipv4, put, put_base, rule, verdict,
};
use super::{apply, followed, listing, observe, open, refused};

const IPV4: [NftType; 1] = [NftType::Ipv4];

fn host(number: u32) -> NftKey {
    NftKey::exact((0x0a00_0000 + number).to_be_bytes())
}

/// The table with a chain, a set of addresses and a map of addresses to verdicts.
fn beginning() -> Vec<NftOp> {
    vec![
        NftOp::CreateTable,
        put("there", []),
        create("members", exact(&IPV4, NftData::Nothing)),
        create("verdicts", exact(&IPV4, NftData::Verdict)),
    ]
}

/// Whether an IPv4 packet's destination address is in a set.
fn membership(set: &str) -> Vec<NftExpr> {
    let result = LookupResult::Membership { negated: false };
    let lookup = NftExpr::Lookup { set: name(set), key: R0, result };
    [&of_ipv4()[..], &[destination_address(0), lookup]].concat()
}

#[test]
fn a_batch_with_one_bad_operation_changes_nothing_and_names_it() {
    in_namespace(|| {
        let mut client = open();
        let begin = beginning();
        apply(&mut client, &begin);
        let (before, text) = (observe(&mut client), listing());
        let good = [
            create("another", exact(&IPV4, NftData::Nothing)),
            add("members", host(1), NftValue::Nothing),
            put("there", [rule([verdict(NftVerdict::Accept)])]),
        ];
        let bad = [
            (
                add("none", host(1), NftValue::Nothing),
                OpErrorClass::NotFound,
                "element in set none",
            ),
            (
                add("verdicts", host(1), goto("nowhere")),
                OpErrorClass::NotFound,
                "element in set verdicts",
            ),
            (delete("members", host(2)), OpErrorClass::NotFound, "element in set members"),
            (
                create("members", exact(&IPV4, NftData::Nothing)),
                OpErrorClass::Exists,
                "set members",
            ),
            (NftOp::DeleteSet { name: name("none") }, OpErrorClass::NotFound, "set none"),
            (NftOp::DeleteChain { name: name("none") }, OpErrorClass::NotFound, "chain none"),
            (put("another", [rule(membership("none"))]), OpErrorClass::NotFound, "chain another"),
            (
                put("another", [rule([verdict(NftVerdict::Goto(name("none")))])]),
                OpErrorClass::NotFound,
                "chain another",
            ),
            (
                put("another", [rule([NftExpr::Unknown("xt".into())])]),
                OpErrorClass::Invalid,
                "chain another",
            ),
            (
                create("odd", exact(&[NftType::Unknown(0)], NftData::Nothing)),
                OpErrorClass::Invalid,
                "set odd",
            ),
            (
                add("members", NftKey::exact([1, 2]), NftValue::Nothing),
                OpErrorClass::Invalid,
                "element in set members",
            ),
        ];
        for (op, class, object) in bad {
            let ops = [&good[..], &[op], &[add("members", host(3), NftValue::Nothing)]].concat();
            let error = refused(&mut client, &ops);
            assert_eq!(error.class, class, "{object}: {error}");
            assert_eq!(error.object, format!("{object} of table inet smartnat"), "{error}");
            // What can't be said in netlink at all never gets there.
            let unsaid = error.detail.contains("none of ours") || error.detail.contains("fields");
            assert!(unsaid || error.detail.contains("(os error "), "{error}");
            assert_eq!(observe(&mut client), before, "{error}");
            assert_eq!(listing(), text, "{error}");
        }
        apply(&mut client, &good);
        assert_eq!(observe(&mut client), followed(&[begin, good.to_vec()].concat()));
    });
}

#[test]
fn one_bad_element_among_thousands_is_named_by_its_comment() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &beginning());
        let named = |number: u32, chain: &str| NftOp::AddElement {
            set: name("verdicts"),
            key: host(number),
            element: NftElement {
                comment: Some(format!("default/mapping-{number}").into()),
                ..element(goto(chain))
            },
        };
        for bad in [0, 1, 399, 400, 1234, 1999] {
            let chain = |number| if number >= bad { "nowhere" } else { "there" };
            let ops: Vec<_> = (0..2000).map(|number| named(number, chain(number))).collect();
            let error = refused(&mut client, &ops);
            assert_eq!(error.class, OpErrorClass::NotFound, "{error}");
            let object =
                format!("element of default/mapping-{bad} in set verdicts of table inet smartnat");
            assert_eq!(error.object, object);
        }
        assert!(observe(&mut client).sets["verdicts"].elements.is_empty());
    });
}

#[test]
fn a_batch_that_fails_in_ten_thousand_places_names_the_first() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &beginning());
        let absent: Vec<_> = (0..10_000)
            .map(|number| NftOp::DeleteSet { name: name(&format!("none-{number}")) })
            .collect();
        let error = refused(&mut client, &absent);
        assert_eq!(error.class, OpErrorClass::NotFound, "{error}");
        assert_eq!(error.object, "set none-0 of table inet smartnat");
        // The client is none the worse for it.
        apply(&mut client, &[add("members", host(1), NftValue::Nothing)]);
        assert_eq!(observe(&mut client).sets["members"].elements.len(), 1);
    });
}

#[test]
fn a_refused_rule_is_told_with_its_number_and_expression() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &beginning());
        let (good, bad) = (rule(membership("members")), rule(membership("none")));
        let error = refused(&mut client, &[put("there", [good, bad])]);
        assert_eq!(error.object, "chain there of table inet smartnat");
        assert!(error.detail.starts_with("rule 2, expression lookup: "), "{error}");
        let unread = rule([compare(R0, &[2])]);
        let error = refused(&mut client, &[put("there", [unread])]);
        assert_eq!(error.class, OpErrorClass::Invalid, "{error}");
        assert!(error.detail.starts_with("rule 1, expression cmp: "), "{error}");
    });
}

#[test]
fn what_is_referred_to_is_busy() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &beginning());
        let by_rule = put(
            "from",
            [rule(membership("members")), rule([verdict(NftVerdict::Jump(name("there")))])],
        );
        apply(&mut client, &[by_rule]);
        let delete_chain = || NftOp::DeleteChain { name: name("there") };
        let delete_set = NftOp::DeleteSet { name: name("members") };
        assert_eq!(
            refused(&mut client, std::slice::from_ref(&delete_set)).class,
            OpErrorClass::Busy
        );
        assert_eq!(refused(&mut client, &[delete_chain()]).class, OpErrorClass::Busy);
        apply(&mut client, &[put("from", []), add("verdicts", host(1), goto("there")), delete_set]);
        assert_eq!(refused(&mut client, &[delete_chain()]).class, OpErrorClass::Busy);
        apply(&mut client, &[delete("verdicts", host(1)), delete_chain()]);
        assert_eq!(observe(&mut client).chains.keys().collect::<Vec<_>>(), [&name("from")]);
    });
}

#[test]
fn a_chains_rules_are_replaced_and_its_base_is_not() {
    in_namespace(|| {
        let mut client = open();
        let base = (NftChainKind::Filter, BuiltinHook::Forward, -150);
        let rules = |verdicts: &[NftVerdict]| {
            verdicts.iter().map(|v| rule([verdict(v.clone())])).collect::<Vec<_>>()
        };
        let first = put_base("forward", base, rules(&[NftVerdict::Accept, NftVerdict::Drop]));
        apply(&mut client, &[NftOp::CreateTable, first]);
        let second = put_base("forward", base, rules(&[NftVerdict::Drop]));
        apply(&mut client, std::slice::from_ref(&second));
        assert_eq!(observe(&mut client), followed(&[second]));
        // Twice in one batch: the last one counts.
        let third = put_base("forward", base, rules(&[NftVerdict::Return, NftVerdict::Accept]));
        apply(&mut client, &[put_base("forward", base, rules(&[NftVerdict::Drop])), third.clone()]);
        assert_eq!(observe(&mut client), followed(&[third]));
        let elsewhere = (NftChainKind::Filter, BuiltinHook::Input, -150);
        let error = refused(&mut client, &[put_base("forward", elsewhere, [])]);
        assert!(matches!(error.class, OpErrorClass::Exists | OpErrorClass::Invalid), "{error}");
    });
}

#[test]
fn an_element_gets_another_value_by_going_and_coming_in_one_batch() {
    in_namespace(|| {
        let mut client = open();
        let value = |verdict| NftValue::Verdict(verdict);
        apply(&mut client, &beginning());
        apply(&mut client, &[add("verdicts", host(1), value(NftVerdict::Drop))]);
        // The same once more is no error, another value is.
        apply(&mut client, &[add("verdicts", host(1), value(NftVerdict::Drop))]);
        let another = add("verdicts", host(1), value(NftVerdict::Accept));
        let error = refused(&mut client, std::slice::from_ref(&another));
        assert_eq!(error.class, OpErrorClass::Exists, "{error}");
        apply(&mut client, &[delete("verdicts", host(1)), another]);
        let elements = &observe(&mut client).sets["verdicts"].elements;
        assert_eq!(elements[&host(1)].value, value(NftVerdict::Accept));
    });
}

#[test]
fn the_table_comes_once_and_goes_with_everything() {
    in_namespace(|| {
        let mut client = open();
        let error = refused(&mut client, &[put("there", [])]);
        assert_eq!(error.class, OpErrorClass::NotFound, "{error}");
        assert_eq!(refused(&mut client, &[NftOp::DeleteTable]).class, OpErrorClass::NotFound);
        apply(&mut client, &beginning());
        apply(&mut client, &[NftOp::CreateTable]);
        assert_eq!(observe(&mut client), followed(&beginning()));
        // All of it anew in one batch, though it is there.
        let ops = [&[NftOp::DeleteTable], &beginning()[..]].concat();
        apply(&mut client, &ops);
        assert_eq!(observe(&mut client), followed(&beginning()));
        apply(&mut client, &[NftOp::DeleteTable]);
        assert_eq!(client.observe().expect("observed"), None);
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn a_full_set_takes_no_more() {
    in_namespace(|| {
        let mut client = open();
        let small = NftSetSpec { size: Some(2), ..exact(&IPV4, NftData::Nothing) };
        let ops = [NftOp::CreateTable, create("small", small)];
        let adds = (1..=3).map(|number| add("small", host(number), NftValue::Nothing));
        let error = refused(&mut client, &[&ops[..], &adds.collect::<Vec<_>>()].concat());
        assert_eq!(
            (error.class, error.detail.as_str()),
            (OpErrorClass::Invalid, "the set is full (os error 23)")
        );
    });
}

#[test]
fn a_batch_is_counted_once_and_nothing_costs_nothing() {
    in_namespace(|| {
        let mut client = open();
        client.apply::<NftOp>(&[]).expect("nothing to do");
        assert_eq!(client.writes(), 0);
        apply(&mut client, &beginning());
        let bytes = client.bytes();
        apply(
            &mut client,
            &[add("members", NftKey::exact(address("192.0.2.7")), NftValue::Nothing)],
        );
        assert_eq!(client.writes(), 2);
        assert!((100..1000).contains(&(client.bytes() - bytes)), "{}", client.bytes() - bytes);
    });
}
