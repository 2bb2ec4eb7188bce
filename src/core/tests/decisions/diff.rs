//! The transactions between two states, and their order (T18).

use smartnat_core::diff::diff;
use smartnat_core::lower::{DesiredObjects, lower};
use smartnat_core::model::{Family, Protocol};
use smartnat_core::names::{external_set, fixed_chain, quarantine_set};
use smartnat_core::objects::{
    BuiltinHook, ChainName, IpSet, KernelState, Route, SetElement, SetKind, SetName, SetSpec,
    SysctlKey, SysctlState, XtMatch, XtRule, XtTable, XtTableId, XtTableState, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_sim::scenario::{mapping, service};

use super::{dataplane, forwarding, ip, net};

const NAT: XtTableId = XtTableId { family: Family::V4, table: XtTable::Nat };

fn desired() -> DesiredObjects {
    let mut objects = service("echo").port("", Protocol::Tcp, 80, 8080).ready("10.1.0.7").build();
    objects.push(mapping("echo").address("203.0.113.10").source("192.0.2.0/24").tcp(80).build());
    lower(&dataplane(objects), smartnat_core::model::Backend::Iptables)
}

/// A kernel that holds exactly `desired`, with the sysctls off before.
fn kernel_of(desired: &DesiredObjects) -> KernelState {
    KernelState {
        xtables: desired.xtables.clone(),
        sets: desired.sets.clone(),
        rules: desired.rules.clone(),
        routes: desired.routes.clone(),
        sysctls: desired
            .sysctls
            .iter()
            .map(|(key, value)| (key.clone(), sysctl(value, Some("0"))))
            .collect(),
        ..KernelState::default()
    }
}

fn sysctl(value: &str, original: Option<&str>) -> SysctlState {
    SysctlState { value: value.into(), original: original.map(Into::into) }
}

/// A kernel with nothing of ours.
fn fresh_kernel() -> KernelState {
    let sysctls = desired().sysctls.into_keys().map(|key| (key, sysctl("0", None)));
    KernelState { sysctls: sysctls.collect(), ..KernelState::default() }
}

fn ops(transactions: &[Transaction]) -> Vec<NetworkOp> {
    transactions.iter().flat_map(|t| t.ops.iter().cloned()).collect()
}

fn positions(transactions: &[Transaction], is: impl Fn(&NetworkOp) -> bool) -> Vec<usize> {
    let all = ops(transactions);
    all.iter().enumerate().filter(|(_, op)| is(op)).map(|(at, _)| at).collect()
}

/// Every `first` comes before every `second`, and there are some of both.
#[track_caller]
fn assert_before(
    transactions: &[Transaction],
    first: impl Fn(&NetworkOp) -> bool,
    second: impl Fn(&NetworkOp) -> bool,
) {
    let (first, second) = (positions(transactions, first), positions(transactions, second));
    assert!(first.last().expect("there is one") < second.first().expect("there is one"));
}

fn of_table(transactions: &[Transaction], table: XtTable) -> Vec<usize> {
    let found = |t: &Transaction| matches!(t.domain, Domain::Xtables(id) if id.table == table);
    transactions.iter().enumerate().filter(|(_, t)| found(t)).map(|(at, _)| at).collect()
}

/// P6.
#[test]
fn what_agrees_needs_nothing() {
    let desired = desired();
    assert_eq!(diff(&desired, &kernel_of(&desired)), []);
    assert_eq!(diff(&DesiredObjects::default(), &fresh_kernel()), []);
}

#[test]
fn making_goes_from_the_ground_up() {
    let transactions = diff(&desired(), &fresh_kernel());
    let (mangle, filter, nat) = (
        of_table(&transactions, XtTable::Mangle),
        of_table(&transactions, XtTable::Filter),
        of_table(&transactions, XtTable::Nat),
    );
    assert_eq!([mangle.len(), filter.len(), nat.len()], [2, 2, 2], "one a table and family");
    assert!(mangle[1] < filter[0] && filter[1] < nat[0]);
    let opens =
        |op: &NetworkOp| matches!(op, NetworkOp::SetSysctl { key: SysctlKey::Forwarding(_), .. });
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::CreateSet { .. }),
        |op| matches!(op, NetworkOp::PutChain { .. }),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::AddElement { .. }),
        |op| matches!(op, NetworkOp::PutChain { .. }),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::PutRoute(_)),
        |op| matches!(op, NetworkOp::AddRule(_)),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::AddRule(_)),
        |op| matches!(op, NetworkOp::PutChain { .. }),
    );
    assert_before(&transactions, |op| matches!(op, NetworkOp::InsertJump { .. }), opens);
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::SetSysctl { .. }) && !opens(op),
        opens,
    );
}

/// Objects of a Mapping whose pod leaves with `address`.
fn egress_by(address: &str) -> DesiredObjects {
    let mut objects = service("exit").port("", Protocol::Tcp, 25, 25).ready("10.1.0.7").build();
    objects.push(mapping("exit").address(address).tcp(25).egress(true).build());
    lower(&dataplane(objects), smartnat_core::model::Backend::Iptables)
}

/// P12, P13 (T4): a pod that may leave before table nat gives it its address leaves with its own.
#[test]
fn pods_are_let_out_when_their_address_is_ready_and_keep_it_as_long() {
    let is_to =
        |address: &str, rule: &XtRule| rule.target == XtTarget::SourceNat { address: ip(address) };
    let puts = |chain: &str, ops: &[NetworkOp]| -> Vec<(usize, Vec<XtRule>)> {
        let rules = |(at, op): (usize, &NetworkOp)| match op {
            NetworkOp::PutChain { chain: name, rules } if *name == fixed_chain(chain) => {
                Some((at, rules.clone()))
            }
            _ => None,
        };
        ops.iter().enumerate().filter_map(rules).collect()
    };
    let (first, second) = ("203.0.113.10", "203.0.113.11");
    for before in [fresh_kernel(), kernel_of(&egress_by(first))] {
        let moves = !before.xtables.is_empty();
        let ops = ops(&diff(&egress_by(second), &before));
        let (snat, lets_out) = (puts("SNAT", &ops), puts("TO-UPLINK", &ops));
        assert!(snat[0].0 < lets_out[0].0);
        assert!(snat[0].1.iter().any(|rule| is_to(second, rule)));
        assert_eq!(snat[0].1.iter().any(|rule| is_to(first, rule)), moves);
        // What nobody needs any more goes last.
        assert!(snat.last().is_some_and(|(_, rules)| !rules.iter().any(|r| is_to(first, r))));
    }
}

#[test]
fn removing_goes_from_the_top_down() {
    let transactions = diff(&DesiredObjects::default(), &kernel_of(&desired()));
    let (mangle, filter, nat) = (
        of_table(&transactions, XtTable::Mangle),
        of_table(&transactions, XtTable::Filter),
        of_table(&transactions, XtTable::Nat),
    );
    assert_eq!([mangle.len(), filter.len(), nat.len()], [2, 2, 2]);
    assert!(nat[1] < filter[0] && filter[1] < mangle[0], "translation goes before the guard");
    let closes = |op: &NetworkOp| {
        matches!(op, NetworkOp::ForgetSysctl { key: SysctlKey::Forwarding(_), .. })
    };
    assert_before(&transactions, closes, |op| matches!(op, NetworkOp::DeleteJump { .. }));
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::DeleteChain { .. }),
        |op| matches!(op, NetworkOp::DeleteRule(_)),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::DeleteRule(_)),
        |op| matches!(op, NetworkOp::DeleteRoute(_)),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::DeleteChain { .. }),
        |op| matches!(op, NetworkOp::DestroySet { .. }),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::DestroySet { .. }),
        |op| matches!(op, NetworkOp::ForgetSysctl { .. }) && !closes(op),
    );
}

/// Make before break within one round: what rules need is there before them, and what they
/// needed goes after them.
#[test]
fn a_change_makes_before_it_breaks() {
    let old = desired();
    let mut objects = service("other").port("", Protocol::Tcp, 81, 81).ready("10.1.0.8").build();
    objects.push(mapping("other").address("203.0.113.11").source("198.18.0.0/15").tcp(81).build());
    let new = lower(&dataplane(objects), smartnat_core::model::Backend::Iptables);
    let transactions = diff(&new, &kernel_of(&old));
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::CreateSet { .. }),
        |op| matches!(op, NetworkOp::PutChain { .. }),
    );
    assert_before(
        &transactions,
        |op| matches!(op, NetworkOp::PutChain { .. }),
        |op| matches!(op, NetworkOp::DeleteChain { .. } | NetworkOp::DestroySet { .. }),
    );
    assert!(
        !ops(&transactions)
            .iter()
            .any(|op| matches!(op, NetworkOp::InsertJump { .. } | NetworkOp::DeleteJump { .. }))
    );
}

/// A jump is counted, its place is not (T17); only exactly ours is left.
#[test]
fn jumps_are_counted() {
    let wanted = desired();
    let ours = wanted.xtables[&NAT].jumps[&BuiltinHook::Output][0].clone();
    let other = XtRule::new(XtTarget::Jump(fixed_chain("DNAT"))).with(XtMatch::Comment("x".into()));
    let insert = || NetworkOp::InsertJump { hook: BuiltinHook::Output, rule: ours.clone() };
    let delete =
        |rule: &XtRule| NetworkOp::DeleteJump { hook: BuiltinHook::Output, rule: rule.clone() };
    let cases = [
        ("missing", vec![], vec![insert()]),
        ("once", vec![&ours], vec![]),
        ("twice", vec![&ours, &ours], vec![delete(&ours)]),
        ("three times", vec![&ours, &ours, &ours], vec![delete(&ours), delete(&ours)]),
        ("another beside it", vec![&other, &ours], vec![delete(&other)]),
        ("another instead", vec![&other], vec![insert(), delete(&other)]),
        ("another twice", vec![&other, &other], vec![insert(), delete(&other), delete(&other)]),
    ];
    for (what, held, expected) in cases {
        let mut kernel = kernel_of(&wanted);
        let jumps = &mut kernel.xtables.get_mut(&NAT).expect("it").jumps;
        jumps.insert(BuiltinHook::Output, held.into_iter().cloned().collect());
        assert_eq!(ops(&diff(&wanted, &kernel)), expected, "{what}");
    }
}

/// P7: chains are replaced as a whole, and only those that differ.
#[test]
fn only_chains_that_differ_are_put() {
    let wanted = desired();
    let mut kernel = kernel_of(&wanted);
    let table = kernel.xtables.get_mut(&NAT).expect("it");
    table.chains.get_mut(&fixed_chain("SNAT")).expect("it").push(XtRule::new(XtTarget::Accept));
    table.chains.insert(ChainName("SMARTNAT-STRAY".into()), Vec::new());
    let rules = wanted.xtables[&NAT].chains[&fixed_chain("SNAT")].clone();
    assert_eq!(
        diff(&wanted, &kernel),
        [Transaction {
            domain: Domain::Xtables(NAT),
            ops: vec![
                NetworkOp::PutChain { chain: fixed_chain("SNAT"), rules },
                NetworkOp::DeleteChain { chain: ChainName("SMARTNAT-STRAY".into()) },
            ],
        }]
    );
}

/// T16: built-in chains that were not there before us go with the last of ours, not earlier.
#[test]
fn built_in_chains_of_ours_go_last() {
    let wanted = desired();
    let mut kernel = kernel_of(&wanted);
    kernel.xtables.get_mut(&NAT).expect("it").created_builtins =
        [BuiltinHook::Input, BuiltinHook::Output].into();
    assert_eq!(diff(&wanted, &kernel), [], "while we use the table it stays");
    let transactions = diff(&DesiredObjects::default(), &kernel);
    let of_nat = transactions.iter().find(|t| t.domain == Domain::Xtables(NAT)).expect("it");
    let builtins: Vec<_> = [BuiltinHook::Input, BuiltinHook::Output]
        .map(|hook| NetworkOp::DeleteEmptyBuiltin { hook })
        .into();
    assert!(of_nat.ops.ends_with(&builtins), "{:?}", of_nat.ops);
    // After a crash in between, nothing but the built-in chains may be left.
    let created_builtins = [BuiltinHook::Input].into();
    let rest = XtTableState { created_builtins, ..XtTableState::default() };
    let kernel = KernelState { xtables: [(NAT, rest)].into(), ..KernelState::default() };
    let left = ops(&diff(&DesiredObjects::default(), &kernel));
    assert_eq!(left, [NetworkOp::DeleteEmptyBuiltin { hook: BuiltinHook::Input }]);
}

/// What iptables' other flavour holds goes when this one has all, sets that only it needs after it.
#[test]
fn the_other_flavour_goes_between_what_is_made_and_the_sets() {
    let wanted = desired();
    let mut kernel = KernelState { other_xtables: wanted.xtables.clone(), ..fresh_kernel() };
    let stray = SetName("smartnat-stray".into());
    let spec = wanted.sets[&external_set(Family::V4)].spec;
    kernel.sets.insert(stray.clone(), IpSet { spec, elements: [].into() });
    let transactions = diff(&wanted, &kernel);
    let at = |is: fn(&Transaction) -> bool| -> Vec<usize> {
        transactions.iter().enumerate().filter(|(_, t)| is(t)).map(|(at, _)| at).collect()
    };
    let own = at(|t| matches!(t.domain, Domain::Xtables(_)));
    let other = at(|t| matches!(t.domain, Domain::OtherXtables(_)));
    assert_eq!((own.len(), other.len()), (6, 6), "{transactions:?}");
    assert!(own.last() < other.first());
    let last = transactions.last().expect("it");
    assert_eq!(
        (last.domain, &last.ops[..]),
        (Domain::Sets, &[NetworkOp::DestroySet { name: stray }][..])
    );
}

#[test]
fn sets_are_filled_first_and_emptied_last() {
    let wanted = desired();
    let name = external_set(Family::V4);
    let mut kernel = kernel_of(&wanted);
    let elements = &mut kernel.sets.get_mut(&name).expect("it").elements;
    elements.remove(&SetElement::Ip(ip("203.0.113.10")));
    elements.insert(SetElement::Ip(ip("203.0.113.99")));
    let spec = kernel.sets[&name].spec;
    kernel.sets.insert(SetName("smartnat-stray".into()), IpSet { spec, elements: [].into() });
    let missing = SetElement::Ip(ip("203.0.113.10"));
    let surplus = SetElement::Ip(ip("203.0.113.99"));
    assert_eq!(
        ops(&diff(&wanted, &kernel)),
        [
            NetworkOp::AddElement { set: name.clone(), element: missing },
            NetworkOp::DestroySet { name: SetName("smartnat-stray".into()) },
            NetworkOp::DeleteElement { set: name, element: surplus },
        ]
    );
}

#[test]
fn a_set_of_another_type_is_made_anew_with_all_its_elements() {
    let wanted = desired();
    let name = external_set(Family::V6);
    let mut kernel = kernel_of(&wanted);
    let spec =
        SetSpec { kind: SetKind::HashNet, family: Family::V6, timeout: None, max_elements: 9 };
    let elements = [SetElement::Net(net("2001:db8:1::10/128"))].into();
    kernel.sets.insert(name.clone(), IpSet { spec, elements });
    let element = SetElement::Ip(ip("2001:db8:1::10"));
    assert_eq!(
        ops(&diff(&wanted, &kernel)),
        [
            NetworkOp::DestroySet { name: name.clone() },
            NetworkOp::CreateSet { name: name.clone(), spec: wanted.sets[&name].spec },
            NetworkOp::AddElement { set: name, element },
        ]
    );
}

/// What the kernel adds at run time is no part of a diff.
#[test]
fn sets_with_a_timeout_are_compared_by_their_type_alone() {
    let wanted = desired();
    let name = quarantine_set(Family::V4);
    assert!(wanted.sets[&name].elements.is_empty());
    let mut kernel = kernel_of(&wanted);
    kernel.sets.get_mut(&name).expect("it").spec.timeout = Some(1);
    let made: Vec<NetworkOp> = ops(&diff(&wanted, &kernel));
    assert_eq!(made.len(), 2, "{made:?}");
}

#[test]
fn routes_are_replaced_in_place() {
    let wanted = desired();
    let via = |r: &&Route| r.gateway.is_some() && r.interface == "ext1" && r.family() == Family::V4;
    let default = wanted.routes.iter().find(via).expect("a default route").clone();
    let connected = Route {
        destination: net("203.0.113.0/24"),
        gateway: None,
        onlink: false,
        ..default.clone()
    };
    let mut kernel = kernel_of(&wanted);
    kernel.routes.remove(&default);
    kernel.routes.insert(Route { gateway: Some(ip("203.0.113.254")), ..default.clone() });
    assert_eq!(ops(&diff(&wanted, &kernel)), [NetworkOp::PutRoute(default.clone())]);

    // A gateway is reached by its subnet: that comes first and goes last.
    kernel.routes.clear();
    let put = |route: &Route| {
        let route = route.clone();
        move |op: &NetworkOp| *op == NetworkOp::PutRoute(route.clone())
    };
    assert_before(&diff(&wanted, &kernel), put(&connected), put(&default));
    let delete = |route: &Route| {
        let route = route.clone();
        move |op: &NetworkOp| *op == NetworkOp::DeleteRoute(route.clone())
    };
    let gone = diff(&DesiredObjects::default(), &kernel_of(&wanted));
    assert_before(&gone, delete(&default), delete(&connected));
}

/// T16: a sysctl is set back where its value is still ours, and where it is recorded at all.
#[test]
fn sysctls_are_restored_only_while_they_are_ours() {
    let rp_filter = || SysctlKey::ReversePathFilter("ext1".into());
    let forget = |value: Option<&str>| NetworkOp::ForgetSysctl {
        key: rp_filter(),
        value: value.map(Into::into),
    };
    let cases = [
        ("still ours", sysctl("2", Some("1")), vec![forget(Some("1"))]),
        ("changed by others", sysctl("0", Some("1")), vec![forget(None)]),
        ("was so before", sysctl("2", Some("2")), vec![forget(None)]),
        ("never ours", sysctl("2", None), vec![]),
        ("its link is gone", sysctl("", Some("1")), vec![forget(None)]),
    ];
    for (what, state, expected) in cases {
        let sysctls = [(rp_filter(), state)].into();
        let kernel = KernelState { sysctls, ..KernelState::default() };
        assert_eq!(ops(&diff(&DesiredObjects::default(), &kernel)), expected, "{what}");
    }
    // One that has the wanted value is left alone, recorded or not; a reset one is set again.
    let wanted = DesiredObjects {
        sysctls: [(forwarding(Family::V4), "1".into())].into(),
        ..DesiredObjects::default()
    };
    let set = NetworkOp::SetSysctl { key: forwarding(Family::V4), value: "1".into() };
    for (state, expected) in [
        (sysctl("1", None), vec![]),
        (sysctl("1", Some("0")), vec![]),
        (sysctl("0", Some("0")), vec![set.clone()]),
        (sysctl("0", None), vec![set]),
    ] {
        let sysctls = [(forwarding(Family::V4), state)].into();
        let kernel = KernelState { sysctls, ..KernelState::default() };
        assert_eq!(ops(&diff(&wanted, &kernel)), expected);
    }
}
