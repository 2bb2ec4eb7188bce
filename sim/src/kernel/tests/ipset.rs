//! Sets and elements.

use smartnat_core::model::Protocol;
use smartnat_core::objects::SetElement;
use smartnat_core::ops::OpErrorClass::{Exists, Invalid, NotFound};

use super::*;

fn name(name: &str) -> SetName {
    SetName(name.into())
}

fn ip(text: &str) -> SetElement {
    SetElement::Ip(text.parse().expect("an address"))
}

fn net(text: &str) -> SetElement {
    SetElement::Net(text.parse().expect("a network"))
}

fn triple(ip: &str, other: &str) -> SetElement {
    SetElement::IpPortIp {
        ip: ip.parse().expect("an address"),
        protocol: Protocol::Tcp,
        port: 80,
        other: other.parse().expect("an address"),
    }
}

fn add(set: &str, element: SetElement) -> NetworkOp {
    NetworkOp::AddElement { set: name(set), element }
}

fn delete(set: &str, element: SetElement) -> NetworkOp {
    NetworkOp::DeleteElement { set: name(set), element }
}

fn elements(kernel: &SimKernel, set: &str) -> Vec<SetElement> {
    kernel.sets().get(&name(set)).expect("it exists").elements.keys().copied().collect()
}

#[test]
fn creation() {
    let spec = set_spec(SetKind::HashIp);
    let timeout = |seconds| SetSpec { timeout: Some(seconds), ..spec };
    let cases = [
        ("a".repeat(31), spec, None),
        ("a".repeat(32), spec, Some(Invalid)),
        (String::new(), spec, Some(Invalid)),
        ("a b".into(), spec, Some(Invalid)),
        ("taken".into(), spec, Some(Exists)),
        ("taken".into(), set_spec(SetKind::HashNet), Some(Exists)),
        ("t".into(), timeout(2_147_483), None),
        ("t".into(), timeout(2_147_484), Some(Invalid)),
        ("m".into(), SetSpec { max_elements: 0, ..spec }, Some(Invalid)),
    ];
    for (name, spec, expected) in cases {
        let mut kernel = kernel();
        apply(&mut kernel, Domain::Sets, vec![create_set("taken", set_spec(SetKind::HashIp))])
            .expect("valid");
        let outcome = apply(&mut kernel, Domain::Sets, vec![create_set(&name, spec)]);
        assert_eq!(class(outcome), expected, "{name:?} {spec:?}");
    }
}

#[test]
fn elements_fit_their_set() {
    let mut kernel = kernel();
    let v6 = |kind| SetSpec { family: Family::V6, ..set_spec(kind) };
    let ops = vec![
        create_set("ip", set_spec(SetKind::HashIp)),
        create_set("net", set_spec(SetKind::HashNet)),
        create_set("three", set_spec(SetKind::HashIpPortIp)),
        create_set("ip6", v6(SetKind::HashIp)),
        create_set("net6", v6(SetKind::HashNet)),
    ];
    apply(&mut kernel, Domain::Sets, ops).expect("valid");
    let cases = [
        ("ip", ip("192.0.2.1"), None),
        ("ip", ip("0.0.0.0"), Some(Invalid)),
        ("ip", ip("2001:db8::1"), Some(Invalid)),
        ("ip", net("192.0.2.0/24"), Some(Invalid)),
        ("ip6", ip("2001:db8::1"), None),
        ("ip6", ip("::"), Some(Invalid)),
        ("net", net("0.0.0.0/0"), Some(Invalid)),
        ("net", net("0.0.0.0/1"), None),
        ("net", net("0.0.0.0/32"), None),
        ("net", net("192.0.2.1/24"), Some(Invalid)),
        ("net", net("2001:db8::/32"), Some(Invalid)),
        ("net6", net("::/0"), Some(Invalid)),
        ("net6", net("::/1"), None),
        ("three", triple("192.0.2.1", "192.0.2.2"), None),
        ("three", triple("0.0.0.0", "192.0.2.2"), None),
        ("three", triple("192.0.2.1", "2001:db8::2"), Some(Invalid)),
        ("none", ip("192.0.2.1"), Some(NotFound)),
    ];
    for (set, element, expected) in cases {
        let outcome = apply(&mut kernel, Domain::Sets, vec![add(set, element)]);
        assert_eq!(class(outcome), expected, "{set} {element}");
    }
}

#[test]
fn adding_and_deleting_again_is_no_error() {
    let mut kernel = kernel();
    let spec = SetSpec { max_elements: 2, ..set_spec(SetKind::HashIp) };
    let (a, b, c) = (ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3"));
    let ops = vec![create_set("s", spec), add("s", a), add("s", b), add("s", a), add("s", b)];
    apply(&mut kernel, Domain::Sets, ops).expect("a full set takes what it holds");
    assert_eq!(class(apply(&mut kernel, Domain::Sets, vec![add("s", c)])), Some(Invalid));
    let ops = vec![delete("s", a), delete("s", a), delete("s", c), add("s", c)];
    apply(&mut kernel, Domain::Sets, ops).expect("there is room again");
    assert_eq!(elements(&kernel, "s"), [b, c]);
    let missing = vec![delete("none", a)];
    assert_eq!(class(apply(&mut kernel, Domain::Sets, missing)), Some(NotFound));
    let missing = vec![NetworkOp::DestroySet { name: name("none") }];
    assert_eq!(class(apply(&mut kernel, Domain::Sets, missing)), Some(NotFound));
}

#[test]
fn what_precedes_a_failure_stays() {
    let mut kernel = kernel();
    let (a, b) = (ip("192.0.2.1"), ip("192.0.2.2"));
    let ops =
        vec![create_set("s", set_spec(SetKind::HashIp)), add("s", a), add("none", a), add("s", b)];
    assert_eq!(class(apply(&mut kernel, Domain::Sets, ops)), Some(NotFound));
    assert_eq!(elements(&kernel, "s"), [a]);
    assert_eq!(kernel.applied_ops(), 2);
}

#[test]
fn elements_expire_and_are_no_part_of_an_observation() {
    let mut kernel = kernel();
    let spec = SetSpec { timeout: Some(10), ..set_spec(SetKind::HashIp) };
    let (a, b) = (ip("192.0.2.1"), ip("192.0.2.2"));
    let ops = vec![create_set("smartnat-t", spec), add("smartnat-t", a), add("smartnat-t", b)];
    apply(&mut kernel, Domain::Sets, ops).expect("valid");
    kernel.advance(9_000);
    apply(&mut kernel, Domain::Sets, vec![add("smartnat-t", b)]).expect("refreshed");
    kernel.advance(999);
    assert_eq!(elements(&kernel, "smartnat-t"), [a, b]);
    assert!(observe(&mut kernel).sets[&name("smartnat-t")].elements.is_empty());
    kernel.advance(1);
    assert_eq!(elements(&kernel, "smartnat-t"), [b]);
    kernel.advance(9_000);
    assert_eq!(elements(&kernel, "smartnat-t"), []);
}

#[test]
fn a_timeout_of_zero_is_for_ever() {
    let mut kernel = kernel();
    let spec = SetSpec { timeout: Some(0), ..set_spec(SetKind::HashIp) };
    let ops = vec![create_set("t", spec), add("t", ip("192.0.2.1"))];
    apply(&mut kernel, Domain::Sets, ops).expect("valid");
    kernel.advance(u64::MAX);
    assert_eq!(elements(&kernel, "t"), [ip("192.0.2.1")]);
}
