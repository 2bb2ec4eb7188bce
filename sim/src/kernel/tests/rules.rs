//! What is checked of a single rule.

use smartnat_core::model::{PortRange, Protocol};
use smartnat_core::objects::{
    ConnectionStates, L4Match, PortMapping, RejectWith, SetDirection, SetKind, SetName, XtMatch,
    XtTarget,
};
use smartnat_core::ops::OpErrorClass::{Invalid, NotFound};

use super::*;

fn with_sets() -> SimKernel {
    let mut kernel = kernel();
    let v6 = SetSpec { family: Family::V6, ..set_spec(SetKind::HashIp) };
    let ops = vec![
        create_set("one", set_spec(SetKind::HashIp)),
        create_set("three", set_spec(SetKind::HashIpPortIp)),
        create_set("six", v6),
    ];
    apply(&mut kernel, Domain::Sets, ops).expect("valid");
    kernel
}

fn outcome(at: XtTable, rule: &XtRule) -> Option<OpErrorClass> {
    let ops = vec![put("SMARTNAT-A", std::slice::from_ref(rule))];
    class(apply_to(&mut with_sets(), table(at), ops))
}

fn of(protocol: L4Match, rule: XtRule) -> XtRule {
    XtRule { protocol: Some(protocol), ..rule }
}

fn tcp(rule: XtRule) -> XtRule {
    of(L4Match::Transport(Protocol::Tcp), rule)
}

fn udp(rule: XtRule) -> XtRule {
    of(L4Match::Transport(Protocol::Udp), rule)
}

fn icmp(rule: XtRule) -> XtRule {
    of(L4Match::Icmp, rule)
}

fn ports(singles: u16, ranges: u16) -> XtMatch {
    let single = (1..=singles).map(|p| PortRange::single(p).expect("a port"));
    let range = (0..ranges).map(|n| PortRange::new(100 + 10 * n, 105 + 10 * n).expect("a range"));
    XtMatch::DestinationPorts(single.chain(range).collect())
}

fn set(name: &str, dimensions: usize) -> XtMatch {
    let directions = vec![SetDirection::Source; dimensions];
    XtMatch::Set { name: SetName(name.into()), directions, negated: false }
}

fn dnat(address: &str, ports: PortMapping) -> XtRule {
    let address = address.parse().expect("an address");
    XtRule::new(XtTarget::DestinationNat { address, ports })
}

#[test]
fn matches() {
    let with = |m: XtMatch| accept().with(m);
    let new = ConnectionStates { new: true, ..ConnectionStates::default() };
    let state = |states| XtMatch::State { states, negated: false };
    let syn = XtMatch::TcpSyn { negated: true };
    let echo = XtMatch::IcmpType { kind: 8, code: None };
    let comment = |text: &str| XtMatch::Comment(text.into());
    let cases = [
        (tcp(with(ports(15, 0))), None),
        (tcp(with(ports(16, 0))), Some(Invalid)),
        (tcp(with(ports(1, 7))), None),
        (tcp(with(ports(2, 7))), Some(Invalid)),
        (tcp(with(ports(0, 8))), Some(Invalid)),
        (tcp(with(ports(0, 1))), None),
        (tcp(with(ports(0, 0))), Some(Invalid)),
        (udp(with(ports(2, 0))), None),
        (with(ports(1, 0)), Some(Invalid)),
        (icmp(with(ports(1, 0))), Some(Invalid)),
        (udp(with(XtMatch::SourcePort(67))), None),
        (tcp(with(XtMatch::SourcePort(67))), Some(Invalid)),
        (udp(with(XtMatch::SourcePort(0))), Some(Invalid)),
        (tcp(with(syn.clone())), None),
        (udp(with(syn.clone())), Some(Invalid)),
        (with(syn), Some(Invalid)),
        (icmp(with(echo.clone())), None),
        (tcp(with(echo)), Some(Invalid)),
        (with(state(new)), None),
        (with(state(ConnectionStates::default())), Some(Invalid)),
        (with(XtMatch::Random { threshold: 1 << 31 }), None),
        (with(XtMatch::Random { threshold: (1 << 31) + 1 }), Some(Invalid)),
        (with(comment(&"a".repeat(255))), None),
        (with(comment(&"a".repeat(256))), Some(Invalid)),
        (with(comment("say \"no\"")), Some(Invalid)),
        (with(comment("back\\slash")), Some(Invalid)),
        (with(comment("line\nbreak")), Some(Invalid)),
        (with(set("one", 1)), None),
        (with(set("one", 2)), None),
        (with(set("one", 7)), Some(Invalid)),
        (with(set("three", 3)), None),
        (with(set("three", 1)), None),
        (with(set("six", 1)), Some(Invalid)),
        (with(set("none", 1)), Some(NotFound)),
        (with(XtMatch::Mark { value: 3, mask: 1, negated: false }), None),
        (with(XtMatch::DestinationLocal), None),
    ];
    for (rule, expected) in cases {
        assert_eq!(outcome(XtTable::Filter, &rule), expected, "{rule:?}");
    }
}

#[test]
fn targets() {
    let shift = |first, last, base| PortMapping::Shift { first, last, base };
    let add = |set: &str| XtRule::new(XtTarget::AddSourceToSet { set: SetName(set.into()) });
    let reject = |with| XtRule::new(XtTarget::Reject(with));
    let cases = [
        (XtTable::Nat, dnat("192.0.2.1", PortMapping::Keep), None),
        (XtTable::Nat, dnat("2001:db8::1", PortMapping::Keep), Some(Invalid)),
        (XtTable::Nat, dnat("192.0.2.1", PortMapping::To(80)), Some(Invalid)),
        (XtTable::Nat, tcp(dnat("192.0.2.1", PortMapping::To(80))), None),
        (XtTable::Nat, tcp(dnat("192.0.2.1", PortMapping::To(0))), Some(Invalid)),
        (XtTable::Nat, icmp(dnat("192.0.2.1", PortMapping::To(80))), Some(Invalid)),
        (XtTable::Nat, tcp(dnat("192.0.2.1", shift(80, 90, 1080))), None),
        (XtTable::Nat, tcp(dnat("192.0.2.1", shift(90, 80, 1080))), Some(Invalid)),
        (XtTable::Mangle, add("one"), None),
        (XtTable::Mangle, add("three"), Some(Invalid)),
        (XtTable::Mangle, add("six"), Some(Invalid)),
        (XtTable::Mangle, add("none"), Some(NotFound)),
        (XtTable::Filter, tcp(reject(RejectWith::TcpReset)), None),
        (XtTable::Filter, udp(reject(RejectWith::TcpReset)), Some(Invalid)),
        (XtTable::Filter, reject(RejectWith::TcpReset), Some(Invalid)),
        (XtTable::Filter, reject(RejectWith::PortUnreachable), None),
        (XtTable::Filter, XtRule::new(XtTarget::Unknown("-j LOG".into())), Some(Invalid)),
    ];
    for (at, rule, expected) in cases {
        assert_eq!(outcome(at, &rule), expected, "{at:?} {rule:?}");
    }
}

#[test]
fn addresses_are_of_the_family() {
    let net = |text: &str| Some(text.parse().expect("a network"));
    let cases = [
        (net("192.0.2.0/24"), None, None),
        (net("2001:db8::/32"), None, Some(Invalid)),
        (None, net("2001:db8::/32"), Some(Invalid)),
        (None, net("0.0.0.0/0"), None),
    ];
    for (source, destination, expected) in cases {
        let rule = XtRule { source, destination, ..accept() };
        assert_eq!(outcome(XtTable::Filter, &rule), expected, "{rule:?}");
    }
}
