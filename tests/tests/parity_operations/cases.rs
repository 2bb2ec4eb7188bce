//! Shortest sequences in which the kernels once disagreed, on both flavours.

use smartnat_core::model::Family;
use smartnat_core::objects::{
    BuiltinHook, ChainName, Route, RoutingRule, RuleAction, SetDirection, SetElement, SetKind,
    SetName, SetSpec, XtMatch, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, OpErrorClass};
use smartnat_tests::Ruleset;

use crate::arms::{self, Arms, RULE_PRIORITY, Step, TABLE_BASE};

fn on_both_flavours(name: &str, case: impl Fn(&mut Arms<'_>) + Send + Sync) {
    if !smartnat::lab::available() {
        return;
    }
    for ruleset in [Ruleset::IptablesNft, Ruleset::IptablesLegacy] {
        arms::in_lab(ruleset, name, &case);
    }
}

fn filter(family: Family) -> Domain {
    Domain::Xtables(XtTableId { family, table: XtTable::Filter })
}

/// One byte more than a set may have.
fn long_name() -> SetName {
    SetName("s".repeat(SetName::MAX_LEN + 1))
}

/// The name is refused before it is looked up.
#[test]
fn a_set_with_too_long_a_name_is_refused_rather_than_not_found() {
    on_both_flavours("long set name", |arms| {
        let destroy = NetworkOp::DestroySet { name: long_name() };
        assert_eq!(arms.apply(Domain::Sets, vec![destroy]), Err(OpErrorClass::Invalid));
    });
}

/// So is one that a rule names.
#[test]
fn a_rule_that_names_a_set_too_long_is_refused_rather_than_not_found() {
    on_both_flavours("long set name in a rule", |arms| {
        for family in Family::ALL {
            let directions = vec![SetDirection::Source];
            let m = XtMatch::Set { name: long_name(), directions, negated: false };
            let rules = vec![XtRule::new(XtTarget::Return).with(m)];
            let put = NetworkOp::PutChain { chain: ChainName("SMARTNAT-A".into()), rules };
            assert_eq!(arms.apply(filter(family), vec![put]), Err(OpErrorClass::Invalid));
        }
    });
}

/// A built-in chain that the table does not have is gone already.
#[test]
fn deleting_a_built_in_chain_that_the_table_does_not_have_succeeds() {
    on_both_flavours("foreign hook", |arms| {
        let delete = NetworkOp::DeleteEmptyBuiltin { hook: BuiltinHook::Prerouting };
        assert_eq!(arms.apply(filter(Family::V6), vec![delete]), Ok(()));
    });
}

/// `onlink` says something about a gateway; without one IPv4 refuses it and IPv6 does not mind.
#[test]
fn onlink_without_a_gateway_is_refused_for_ipv4_alone() {
    on_both_flavours("onlink without a gateway", |arms| {
        for (destination, expected) in [
            ("0.0.0.0/0", Err(OpErrorClass::Invalid)),
            ("203.0.113.0/24", Err(OpErrorClass::Invalid)),
            ("::/0", Ok(())),
            ("2001:db8:c::/48", Ok(())),
        ] {
            let route = Route {
                table: TABLE_BASE + 1,
                destination: destination.parse().expect("a network"),
                gateway: None,
                interface: "ext1".into(),
                onlink: true,
            };
            assert_eq!(arms.apply(Domain::Routing, vec![NetworkOp::PutRoute(route)]), expected);
        }
    });
}

/// An address is a network of its own in a set of networks.
#[test]
fn an_address_is_stored_as_a_network_where_networks_are() {
    on_both_flavours("an address in hash:net", |arms| {
        for (family, ip) in [(Family::V4, "192.0.2.7"), (Family::V6, "2001:db8:a::7")] {
            let name = SetName("smartnat-a".into());
            let spec = SetSpec { kind: SetKind::HashNet, family, timeout: None, max_elements: 9 };
            let element = SetElement::Ip(ip.parse().expect("an address"));
            let ops = vec![
                NetworkOp::CreateSet { name: name.clone(), spec },
                NetworkOp::AddElement { set: name.clone(), element },
            ];
            assert_eq!(arms.apply(Domain::Sets, ops), Ok(()));
            assert_eq!(arms.apply(Domain::Sets, vec![NetworkOp::DestroySet { name }]), Ok(()));
        }
    });
}

/// A match may name more or fewer dimensions than its set has.
#[test]
fn a_match_takes_any_number_of_directions() {
    on_both_flavours("directions", |arms| {
        let name = SetName("smartnat-a".into());
        let kind = SetKind::HashIpPortIp;
        let spec = SetSpec { kind, family: Family::V4, timeout: None, max_elements: 9 };
        let create = NetworkOp::CreateSet { name: name.clone(), spec };
        assert_eq!(arms.apply(Domain::Sets, vec![create]), Ok(()));
        let matching = |count| XtMatch::Set {
            name: name.clone(),
            directions: vec![SetDirection::Source; count],
            negated: false,
        };
        assert_eq!(
            arms.apply(
                filter(Family::V4),
                vec![NetworkOp::PutChain {
                    chain: ChainName("SMARTNAT-B".into()),
                    rules: vec![XtRule::new(XtTarget::Return).with(matching(7))],
                }]
            ),
            Err(OpErrorClass::Invalid)
        );
        let rules = [1, 2, 3, 6].map(|n| XtRule::new(XtTarget::Return).with(matching(n)));
        let put =
            NetworkOp::PutChain { chain: ChainName("SMARTNAT-A".into()), rules: rules.into() };
        assert_eq!(arms.apply(filter(Family::V4), vec![put]), Ok(()));
    });
}

/// What the kernel was probed for: references, repetitions, links that go down, names, `/0`.
#[test]
fn facts_that_the_design_relies_on() {
    on_both_flavours("facts", |arms| {
        let chain = |name: &str| ChainName(name.into());
        let put = |name: &str, rules| NetworkOp::PutChain { chain: chain(name), rules };
        let gone = |name: &str| NetworkOp::DeleteChain { chain: chain(name) };
        let table = filter(Family::V4);
        let to_a = XtRule::new(XtTarget::Jump(chain("SMARTNAT-A")));
        assert_eq!(
            arms.apply(table, vec![put("SMARTNAT-A", vec![]), put("SMARTNAT-B", vec![to_a])]),
            Ok(())
        );
        assert_eq!(arms.apply(table, vec![gone("SMARTNAT-A")]), Err(OpErrorClass::Busy));
        let long = format!("SMARTNAT-{}", "X".repeat(20));
        assert_eq!(arms.apply(table, vec![put(&long, vec![])]), Err(OpErrorClass::Invalid));
        assert_eq!(arms.apply(table, vec![put(&long[..28], vec![])]), Ok(()));

        let name = SetName("smartnat-a".into());
        let spec =
            SetSpec { kind: SetKind::HashNet, family: Family::V4, timeout: None, max_elements: 9 };
        let create = NetworkOp::CreateSet { name: name.clone(), spec };
        assert_eq!(arms.apply(Domain::Sets, vec![create]), Ok(()));
        let add = |net: &str| NetworkOp::AddElement {
            set: name.clone(),
            element: SetElement::Net(net.parse().expect("a network")),
        };
        assert_eq!(arms.apply(Domain::Sets, vec![add("0.0.0.0/0")]), Err(OpErrorClass::Invalid));
        assert_eq!(arms.apply(Domain::Sets, vec![add("0.0.0.0/1"), add("128.0.0.0/1")]), Ok(()));
        let directions = vec![SetDirection::Source];
        let of_set = XtMatch::Set { name: name.clone(), directions, negated: false };
        let rules = vec![XtRule::new(XtTarget::Return).with(of_set)];
        assert_eq!(arms.apply(table, vec![put("SMARTNAT-B", rules)]), Ok(()));
        let destroy = NetworkOp::DestroySet { name };
        assert_eq!(arms.apply(Domain::Sets, vec![destroy]), Err(OpErrorClass::Busy));

        let rule = RoutingRule {
            family: Family::V4,
            priority: RULE_PRIORITY,
            in_interface: None,
            mark: Some((1, 1)),
            destination: None,
            action: RuleAction::Lookup { table: TABLE_BASE + 1, suppress_prefix: None },
        };
        assert_eq!(arms.apply(Domain::Routing, vec![NetworkOp::AddRule(rule.clone())]), Ok(()));
        assert_eq!(
            arms.apply(Domain::Routing, vec![NetworkOp::AddRule(rule)]),
            Err(OpErrorClass::Exists)
        );
        let route = Route {
            table: TABLE_BASE + 1,
            destination: "0.0.0.0/0".parse().expect("a network"),
            gateway: "192.0.2.254".parse().ok(),
            interface: "ext0".into(),
            onlink: false,
        };
        assert_eq!(arms.apply(Domain::Routing, vec![NetworkOp::PutRoute(route.clone())]), Ok(()));
        assert_eq!(arms.step(&Step::SetLink { link: "ext0", up: false }), Ok(()));
        let delete = NetworkOp::DeleteRoute(route);
        assert_eq!(arms.apply(Domain::Routing, vec![delete]), Err(OpErrorClass::NotFound));
    });
}

/// The deletion of a route that names no gateway takes one with a gateway too, in IPv6.
#[test]
fn a_route_is_deleted_without_naming_its_gateway() {
    on_both_flavours("deletion without a gateway", |arms| {
        for (destination, gateway, deleted) in [
            ("0.0.0.0/0", "198.51.100.254", Err(OpErrorClass::NotFound)),
            ("::/0", "2001:db8:b::fe", Ok(())),
        ] {
            let route = Route {
                table: TABLE_BASE + 1,
                destination: destination.parse().expect("a network"),
                gateway: gateway.parse().ok(),
                interface: "ext1".into(),
                onlink: false,
            };
            let bare = Route { gateway: None, ..route.clone() };
            let apply = |arms: &mut Arms<'_>, op| arms.apply(Domain::Routing, vec![op]);
            assert_eq!(apply(arms, NetworkOp::PutRoute(route)), Ok(()), "{destination}");
            assert_eq!(apply(arms, NetworkOp::DeleteRoute(bare)), deleted, "{destination}");
        }
    });
}

/// What comes after an unconditional verdict is never reached: for the legacy flavour there is no loop there.
#[test]
fn a_loop_behind_a_return_is_one_for_nft_alone() {
    if !smartnat::lab::available() {
        return;
    }
    let looped = |expected: Result<(), OpErrorClass>| {
        move |arms: &mut Arms<'_>| {
            let chain = |name: &str| ChainName(name.into());
            let jump = |name: &str| XtRule::new(XtTarget::Jump(chain(name)));
            let put = |name: &str, rules| NetworkOp::PutChain { chain: chain(name), rules };
            let behind = vec![XtRule::new(XtTarget::Return), jump("SMARTNAT-A")];
            let ops = vec![
                put("SMARTNAT-A", vec![jump("SMARTNAT-A")]),
                put("SMARTNAT-B", behind),
                NetworkOp::InsertJump { hook: BuiltinHook::Input, rule: jump("SMARTNAT-B") },
            ];
            assert_eq!(arms.apply(filter(Family::V4), ops), expected);
        }
    };
    arms::in_lab(Ruleset::IptablesNft, "a loop", looped(Err(OpErrorClass::Invalid)));
    arms::in_lab(Ruleset::IptablesLegacy, "a loop", looped(Ok(())));
}
