//! Sysctls and their record.

use smartnat_core::objects::{SysctlKey, SysctlState};
use smartnat_core::ops::OpErrorClass::{Invalid, NotFound};

use super::*;

const FORWARDING: SysctlKey = SysctlKey::Forwarding(Family::V4);
const FORWARDING6: SysctlKey = SysctlKey::Forwarding(Family::V6);

fn filter(name: &str) -> SysctlKey {
    SysctlKey::ReversePathFilter(name.into())
}

fn advertisements(name: &str) -> SysctlKey {
    SysctlKey::AcceptRouterAdvertisements(name.into())
}

fn set(key: &SysctlKey, value: &str) -> NetworkOp {
    NetworkOp::SetSysctl { key: key.clone(), value: value.into() }
}

fn forget(key: &SysctlKey, value: Option<&str>) -> NetworkOp {
    NetworkOp::ForgetSysctl { key: key.clone(), value: value.map(Into::into) }
}

fn run(kernel: &mut SimKernel, op: NetworkOp) -> Option<OpErrorClass> {
    class(apply(kernel, Domain::Sysctls, vec![op]))
}

fn state(kernel: &mut SimKernel, key: &SysctlKey) -> Option<SysctlState> {
    let mut scope = scope();
    scope.sysctls.insert(key.clone());
    kernel.observe(&scope).expect("no fault is injected").sysctls.remove(key)
}

fn held(value: &str, original: Option<&str>) -> SysctlState {
    SysctlState { value: value.into(), original: original.map(Into::into) }
}

#[test]
fn the_first_value_is_recorded_and_restored() {
    let mut kernel = host();
    let key = filter("ext1");
    assert_eq!(state(&mut kernel, &key), Some(held("0", None)));
    kernel.write_sysctl(&key, "1").expect("somebody else");
    assert_eq!(run(&mut kernel, set(&key, "2")), None);
    assert_eq!(run(&mut kernel, set(&key, "0")), None);
    assert_eq!(state(&mut kernel, &key), Some(held("0", Some("1"))));
    assert_eq!(run(&mut kernel, forget(&key, Some("1"))), None);
    assert_eq!(state(&mut kernel, &key), Some(held("1", None)));
    assert_eq!(run(&mut kernel, set(&key, "2")), None);
    assert_eq!(run(&mut kernel, forget(&key, None)), None);
    assert_eq!(state(&mut kernel, &key), Some(held("2", None)));
}

#[test]
fn what_is_recorded_is_observed_outside_the_scope_too() {
    let mut kernel = host();
    assert_eq!(run(&mut kernel, set(&FORWARDING, "1")), None);
    let recorded = observe(&mut kernel).sysctls;
    assert_eq!(recorded.keys().collect::<Vec<_>>(), [&FORWARDING]);
}

#[test]
fn values_and_interfaces_that_are_refused() {
    let cases = [
        (set(&filter("none"), "1"), Some(NotFound)),
        (forget(&filter("none"), Some("1")), None),
        (forget(&filter("none"), None), None),
        (set(&filter("all"), "1"), None),
        (set(&filter("ext1"), "x"), Some(Invalid)),
        (set(&filter("ext1"), ""), Some(Invalid)),
        (set(&SysctlKey::ArpIgnore("ext1".into()), "7"), None),
        (set(&SysctlKey::MarkReflect(Family::V4), "256"), Some(Invalid)),
    ];
    for (op, expected) in cases {
        assert_eq!(run(&mut host(), op.clone()), expected, "{op:?}");
    }
    let mut kernel = host();
    kernel.set_families([Family::V4]);
    assert_eq!(run(&mut kernel, set(&FORWARDING6, "1")), Some(NotFound));
    assert_eq!(state(&mut kernel, &FORWARDING6), None);
}

#[test]
fn a_record_outlives_the_interface_and_is_of_no_other_by_its_name() {
    let mut kernel = host();
    let key = filter("ext1");
    assert_eq!(run(&mut kernel, set(&key, "2")), None);
    kernel.set_link_up("ext1", false);
    assert_eq!(state(&mut kernel, &key), Some(held("2", Some("0"))));
    kernel.remove_link("ext1");
    assert_eq!(state(&mut kernel, &key), Some(held("", Some("0"))));
    kernel.add_link("ext1");
    assert_eq!(state(&mut kernel, &key), Some(held("0", None)));
    kernel.write_sysctl(&key, "1").expect("the link exists");
    assert_eq!(run(&mut kernel, set(&key, "2")), None);
    assert_eq!(state(&mut kernel, &key), Some(held("2", Some("1"))));
}

#[test]
fn forwarding_ends_learned_default_routes_unless_told_otherwise() {
    let defaults = |kernel: &SimKernel| -> Vec<String> {
        let routes = kernel.host().routes.into_iter();
        routes.filter(|r| r.destination.prefix_len() == 0).map(|r| r.interface).collect()
    };
    let mut kernel = host();
    kernel.learn_default_route("fe80::1", "ext1");
    kernel.add_host_route("::/0", Some("fe80::2"), "ext2");
    assert_eq!(defaults(&kernel), ["ext1", "ext2"]);
    assert_eq!(run(&mut kernel, set(&FORWARDING6, "1")), None);
    assert_eq!(defaults(&kernel), ["ext2"], "nobody learned that one");

    let mut kernel = host();
    kernel.learn_default_route("fe80::1", "ext1");
    assert_eq!(run(&mut kernel, set(&advertisements("ext1"), "2")), None);
    assert_eq!(run(&mut kernel, set(&FORWARDING6, "1")), None);
    assert_eq!(defaults(&kernel), ["ext1"]);
}
