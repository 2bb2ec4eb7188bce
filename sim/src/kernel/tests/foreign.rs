//! What is not ours (T14, P11).

use smartnat_core::objects::{
    BuiltinChain, BuiltinHook, Route, RoutingRule, RuleAction, SetElement, XtTarget,
};

use super::*;

const HOOK: BuiltinHook = BuiltinHook::Forward;

fn element() -> SetElement {
    SetElement::Ip("192.0.2.1".parse().expect("an address"))
}

fn rule(priority: u32, table: u32) -> RoutingRule {
    RoutingRule {
        family: Family::V4,
        priority,
        in_interface: None,
        mark: None,
        destination: None,
        action: RuleAction::Lookup { table, suppress_prefix: None },
    }
}

fn route(table: u32) -> Route {
    Route {
        table,
        destination: "198.51.100.0/24".parse().expect("a network"),
        gateway: None,
        interface: "ext1".into(),
        onlink: false,
    }
}

/// A host with chains, rules, sets and routes of others.
fn shared() -> SimKernel {
    let mut kernel = host();
    let id = table(XtTable::Filter);
    let others =
        Transaction { domain: Domain::Xtables(id), ops: vec![put("KUBE-FORWARD", &[accept()])] };
    kernel.interfere(&others).expect("valid");
    kernel.foreign_append(id, "FORWARD", &jump("KUBE-FORWARD"));
    kernel.foreign_append(id, "FORWARD", &XtRule::new(XtTarget::Unknown("-j LOG".into())));
    kernel.foreign_set("kube-ips", set_spec(SetKind::HashIp), &[element()]);
    kernel.foreign_rule(rule(100, 7), 4);
    kernel.foreign_opaque_rule(Family::V4, 101, "from 10.0.0.0/8 lookup 8");
    kernel.foreign_route(route(7), 4);
    kernel
}

fn ours(kernel: &mut SimKernel) {
    let id = table(XtTable::Filter);
    let ops = vec![
        put("SMARTNAT-A", &[accept()]),
        NetworkOp::InsertJump { hook: HOOK, rule: jump("SMARTNAT-A") },
        NetworkOp::InsertJump { hook: BuiltinHook::Input, rule: jump("SMARTNAT-A") },
    ];
    apply_to(kernel, id, ops).expect("valid");
    let set = create_set("smartnat-s", set_spec(SetKind::HashIp));
    apply(kernel, Domain::Sets, vec![set]).expect("valid");
    let ops = vec![NetworkOp::AddRule(rule(20_000, 7001)), NetworkOp::PutRoute(route(7001))];
    apply(kernel, Domain::Routing, ops).expect("valid");
}

#[test]
fn what_others_have_is_not_observed() {
    let chain = |hook| BuiltinChain { table: table(XtTable::Filter), hook };
    // All that is told is where they judge packets.
    let contested = [chain(HOOK)].into();
    assert_eq!(observe(&mut shared()), KernelState { contested, ..KernelState::default() });
}

#[test]
fn a_chain_is_contested_by_a_rule_or_a_policy_of_others_and_not_by_ours() {
    let mut kernel = host();
    ours(&mut kernel);
    assert!(observe(&mut kernel).contested.is_empty());
    let id = table(XtTable::Filter);
    kernel.foreign_policy(id, "FORWARD", crate::kernel::Policy::Drop);
    kernel.foreign_append(id, "INPUT", &accept());
    kernel.foreign_append(table(XtTable::Mangle), "INPUT", &accept());
    let hooks: Vec<_> = observe(&mut kernel).contested.into_iter().map(|c| c.hook).collect();
    assert_eq!(hooks, [BuiltinHook::Input, BuiltinHook::Forward]);
}

#[test]
fn what_we_do_leaves_the_foreign_objects_equal() {
    let mut kernel = shared();
    let before = kernel.foreign();
    ours(&mut kernel);
    assert_eq!(kernel.foreign(), before);
    assert!(kernel.trespasses().is_empty());
    let id = table(XtTable::Filter);
    let rules = kernel.xtables().table(id).and_then(|t| t.builtin(HOOK)).expect("in use");
    let order: Vec<_> = rules.rules.iter().map(|r| r.target.clone()).collect();
    assert_eq!(
        order,
        [
            XtTarget::Jump(chain("SMARTNAT-A")),
            XtTarget::Jump(chain("KUBE-FORWARD")),
            XtTarget::Unknown("-j LOG".into())
        ]
    );
}

#[test]
fn every_change_by_others_shows() {
    let id = table(XtTable::Filter);
    let changes: [fn(&mut SimKernel, XtTableId); 8] = [
        |k, id| k.foreign_append(id, "FORWARD", &accept()),
        |k, id| k.foreign_insert(id, "INPUT", &accept()),
        |k, id| k.foreign_append(id, "KUBE-FORWARD", &accept()),
        |k, id| k.foreign_policy(id, "FORWARD", crate::kernel::Policy::Drop),
        |k, id| k.foreign_delete_rules(id, "KUBE-FORWARD", |_| true),
        |k, _| k.foreign_set("other", set_spec(SetKind::HashIp), &[]),
        |k, _| k.foreign_delete_routing_rules(|r| r.priority == 101),
        |k, _| k.foreign_delete_routes(|r| r.route.table == 7),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut kernel = shared();
        ours(&mut kernel);
        let (foreign, held) = (kernel.foreign(), observe(&mut kernel));
        change(&mut kernel, id);
        assert_ne!(kernel.foreign(), foreign, "change {n}");
        let now = observe(&mut kernel);
        // A built-in chain that we created is no longer ours alone, and it is told where they judge.
        let alone = |state: &KernelState| {
            let mut state = state.clone();
            state.contested.clear();
            state.xtables.values_mut().for_each(|table| table.created_builtins.clear());
            state
        };
        assert_eq!(alone(&now), alone(&held), "change {n}");
    }
}

#[test]
fn others_can_change_what_is_ours() {
    let id = table(XtTable::Filter);
    let mut kernel = shared();
    ours(&mut kernel);
    let stranger = XtRule::new(XtTarget::Unknown("-j LOG".into()));
    kernel.foreign_append(id, "SMARTNAT-A", &stranger);
    kernel.foreign_delete_rules(id, "INPUT", |_| true);
    let state = observe(&mut kernel);
    assert_eq!(state.xtables[&id].chains[&chain("SMARTNAT-A")], [accept(), stranger]);
    assert!(!state.xtables[&id].jumps.contains_key(&BuiltinHook::Input));
    let destroy = NetworkOp::DestroySet { name: SetName("smartnat-s".into()) };
    let logged = kernel.log().len();
    kernel
        .interfere(&Transaction { domain: Domain::Sets, ops: vec![destroy] })
        .expect("nothing refers to it");
    assert!(observe(&mut kernel).sets.is_empty());
    assert_eq!(kernel.log().len(), logged, "others are not logged");
}

#[test]
fn meaning_what_is_not_ours_is_a_trespass() {
    let filter = Domain::Xtables(table(XtTable::Filter));
    let kube = SetName("kube-ips".into());
    let cases = [
        (filter, put("KUBE-FORWARD", &[])),
        (filter, NetworkOp::InsertJump { hook: HOOK, rule: accept() }),
        (filter, NetworkOp::DeleteJump { hook: HOOK, rule: jump("KUBE-FORWARD") }),
        (filter, NetworkOp::DeleteEmptyBuiltin { hook: HOOK }),
        (Domain::Sets, create_set("other", set_spec(SetKind::HashIp))),
        (Domain::Sets, NetworkOp::AddElement { set: kube.clone(), element: element() }),
        (Domain::Sets, NetworkOp::DeleteElement { set: kube.clone(), element: element() }),
        (Domain::Sets, NetworkOp::DestroySet { name: kube }),
        (Domain::Routing, NetworkOp::PutRoute(route(7))),
    ];
    for (domain, op) in cases {
        let mut kernel = shared();
        apply(&mut kernel, domain, vec![op.clone()]).expect("the kernel does not mind");
        assert_eq!(kernel.trespasses().len(), 1, "{op:?}");
    }
}
