use super::wire::*;
use rtnetlink::packet_route::rule::RuleAttribute;
use smartnat_core::model::Family;
use smartnat_core::objects::{Route, RoutingRule, RuleAction};

fn rule(family: Family) -> RoutingRule {
    RoutingRule {
        family,
        priority: 20_001,
        in_interface: Some("eth1".into()),
        mark: Some((0x0001_0000, 0x00ff_0000)),
        destination: match family {
            Family::V4 => "10.1.0.0/16".parse().ok(),
            Family::V6 => "fd00:1::/64".parse().ok(),
        },
        action: RuleAction::Lookup { table: 254, suppress_prefix: Some(0) },
    }
}

fn route(destination: &str, gateway: Option<&str>) -> Route {
    Route {
        table: 7001,
        destination: destination.parse().expect("a prefix"),
        gateway: gateway.map(|g| g.parse().expect("an address")),
        interface: "eth1".into(),
        onlink: gateway.is_some(),
    }
}

#[test]
fn a_rule_survives_the_wire_in_both_families() {
    for family in Family::ALL {
        let mut bare = rule(family);
        bare.in_interface = None;
        bare.destination = None;
        bare.mark = None;
        bare.action = RuleAction::Lookup { table: 7001, suppress_prefix: None };
        for rule in [rule(family), bare] {
            assert_eq!(decode_rule(family, &encode_rule(&rule)), Some(rule));
        }
    }
}

#[test]
fn a_rule_of_another_family_protocol_or_kind_is_not_ours() {
    let message = encode_rule(&rule(Family::V4));
    assert_eq!(decode_rule(Family::V6, &message), None);

    let mut foreign = message.clone();
    foreign.attributes.retain(|a| !matches!(a, RuleAttribute::Protocol(_)));
    assert_eq!(decode_rule(Family::V4, &foreign), None);

    let mut narrower = message.clone();
    narrower.attributes.push(RuleAttribute::Oifname("eth9".into()));
    assert_eq!(decode_rule(Family::V4, &narrower), None);

    let mut inverted = message;
    inverted.header.flags = rtnetlink::packet_route::rule::RuleFlags::Invert;
    assert_eq!(decode_rule(Family::V4, &inverted), None);
}

#[test]
fn a_mark_of_zero_keeps_its_mask() {
    let mut unmarked = rule(Family::V4);
    unmarked.mark = Some((0, 0x00ff_0000));
    let mut message = encode_rule(&unmarked);
    // The kernel leaves a zero mark out of its list.
    message.attributes.retain(|a| !matches!(a, RuleAttribute::FwMark(0)));
    assert_eq!(decode_rule(Family::V4, &message), Some(unmarked));
}

#[test]
fn a_route_survives_the_wire_in_both_families() {
    let names = [(3, "eth1".to_owned())].into();
    let routes = [
        route("0.0.0.0/0", Some("192.0.2.1")),
        route("192.0.2.0/24", None),
        route("::/0", Some("fe80::1")),
        route("2001:db8::/64", None),
        route("0.0.0.0/0", Some("fe80::1")),
    ];
    for route in routes {
        let message = encode_route(&route, 3).expect("it has a form");
        assert_eq!(decode_route(route.family(), &message, &names), Some(route));
    }
}

#[test]
fn a_route_that_no_kernel_takes_is_refused_here() {
    let mixed = route("::/0", Some("192.0.2.1"));
    encode_route(&mixed, 3).expect_err("families differ");
}

#[test]
fn objects_are_named_as_the_ip_command_writes_them() {
    assert_eq!(
        describe_rule(&rule(Family::V4)),
        "rule 20001 to 10.1.0.0/16 iif eth1 fwmark 0x10000/0xff0000 lookup main \
         suppress_prefixlength 0 (IPv4)"
    );
    assert_eq!(
        describe_route(&route("::/0", Some("fe80::1"))),
        "route default via fe80::1 dev eth1 table 7001 onlink (IPv6)"
    );
    assert_eq!(
        describe_route(&route("192.0.2.0/24", None)),
        "route 192.0.2.0/24 dev eth1 table 7001 (IPv4)"
    );
}
