//! What other programs do on a simulated host.

use smartnat_core::model::Family;
use smartnat_core::objects::{
    BuiltinHook, ChainName, ROUTE_PROTOCOL, Route, RoutingRule, RuleAction, SetElement, SetKind,
    SetName, SetSpec, SysctlKey, XtRule, XtTable, XtTableId,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_core::xtables_text::parse_rule;
use smartnat_sim::SimKernel;

use crate::arm::{Damage, Foreign};

/// `RTPROT_STATIC`: anybody's but ours.
const PROTOCOL_STATIC: u8 = 4;

/// As `ipset create NAME hash:ip` makes it.
const HASH_IP: SetSpec =
    SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 65_536 };

#[track_caller]
pub(super) fn put(kernel: &mut SimKernel, foreign: &Foreign<'_>) {
    match *foreign {
        Foreign::Chain { table, name } => put_chain(kernel, table, name, Vec::new()),
        Foreign::Rule { table, chain, rule } => {
            let rule = parse(kernel, table, rule);
            kernel.foreign_append(table, chain, &rule);
        }
        Foreign::Set { name } => kernel.foreign_set(name, HASH_IP, &[]),
    }
}

/// The same objects as the Linux arm has.
pub(super) fn put_objects(kernel: &mut SimKernel) {
    for family in Family::ALL {
        let net = if family == Family::V4 { "192.0.2.128/25" } else { "2001:db8:f::/64" };
        let [filter, nat, mangle, raw] =
            [XtTable::Filter, XtTable::Nat, XtTable::Mangle, XtTable::Raw]
                .map(|table| XtTableId { family, table });
        put(kernel, &Foreign::Chain { table: filter, name: "FOREIGN" });
        for (table, chain, rule) in [
            (filter, "FOREIGN", format!("-s {net} -j RETURN")),
            (filter, "FORWARD", "-j FOREIGN".into()),
            (filter, "INPUT", "-p tcp -m tcp --dport 22 -j ACCEPT".into()),
            (nat, "POSTROUTING", format!("-s {net} -j MASQUERADE")),
            (mangle, "PREROUTING", format!("-s {net} -j MARK --set-xmark 0x4000/0x4000")),
            (raw, "PREROUTING", format!("-s {net} -j ACCEPT")),
        ] {
            put(kernel, &Foreign::Rule { table, chain, rule: &rule });
        }
    }
    let element = SetElement::Ip("192.0.2.200".parse().expect("a constant address"));
    kernel.foreign_set("foreign", HASH_IP, &[element]);
    let marked = RoutingRule {
        family: Family::V4,
        priority: 20_002,
        in_interface: None,
        mark: Some((0x4000, 0x4000)),
        destination: None,
        action: RuleAction::Lookup { table: 4242, suppress_prefix: None },
    };
    kernel.foreign_rule(marked, 0);
    kernel.foreign_opaque_rule(Family::V6, 5, "from 2001:db8:f::/64 lookup 7001");
    for table in [7001, 4242] {
        let destination = "192.0.2.128/25".parse().expect("a constant network");
        let (gateway, interface, onlink) = (None, "eth0".into(), false);
        let route = Route { table, destination, gateway, interface, onlink };
        kernel.foreign_route(route, PROTOCOL_STATIC);
    }
    let filter = SysctlKey::ReversePathFilter("ext1".into());
    kernel.write_sysctl(&filter, "1").expect("a sysctl of an uplink");
}

#[track_caller]
pub(super) fn damage(kernel: &mut SimKernel, damage: &Damage<'_>) {
    match *damage {
        Damage::FlushChain { table, chain } => flush(kernel, table, chain),
        Damage::FlushTable { table } => {
            let rules = kernel.xtables().table(table).expect("a table in use");
            let hooks = rules.builtins().map(|(hook, _)| hook.name().to_owned());
            let chains: Vec<_> = hooks.chain(rules.chains().map(|(c, _)| c.0.clone())).collect();
            for chain in &chains {
                flush(kernel, table, chain);
            }
        }
        Damage::InsertRule { table, chain, rule } => {
            let rule = parse(kernel, table, rule);
            if is_builtin(chain) {
                kernel.foreign_insert(table, chain, &rule);
            } else {
                let rules = [vec![rule], rules_of(kernel, table, chain)].concat();
                put_chain(kernel, table, chain, rules);
            }
        }
        Damage::DeleteFirstRule { table, chain } => {
            let rules = rules_of(kernel, table, chain).split_off(1);
            put_chain(kernel, table, chain, rules);
        }
        Damage::FlushSet { name } => {
            let set = SetName(name.into());
            let held = &kernel.sets().get(&set).expect("a set").elements;
            let delete =
                |e: &SetElement| NetworkOp::DeleteElement { set: set.clone(), element: *e };
            let ops = held.keys().map(delete).collect();
            interfere(kernel, Domain::Sets, ops);
        }
        Damage::AddElement { set, element } => {
            let element = SetElement::Ip(element.parse().expect("a test's address parses"));
            let op = NetworkOp::AddElement { set: SetName(set.into()), element };
            interfere(kernel, Domain::Sets, vec![op]);
        }
        Damage::Table { changes } => {
            let ops = changes.iter().cloned().map(NetworkOp::Nft).collect();
            interfere(kernel, Domain::Nftables, ops);
        }
        Damage::DeleteRoutingRules { family } => {
            kernel.foreign_delete_routing_rules(|rule| {
                rule.family == family && rule.protocol == ROUTE_PROTOCOL
            });
        }
        Damage::DeleteRoutes { family, table } => {
            kernel.foreign_delete_routes(|held| {
                held.route.family() == family && held.route.table == table
            });
        }
    }
}

fn is_builtin(chain: &str) -> bool {
    BuiltinHook::ALL.iter().any(|hook| hook.name() == chain)
}

/// A rule that the simulation does not understand ends the test.
#[track_caller]
fn parse(kernel: &SimKernel, table: XtTableId, text: &str) -> XtRule {
    let chains = kernel.xtables().table(table);
    let is_chain = |name: &str| chains.is_some_and(|t| t.chain(&ChainName(name.into())).is_some());
    let rule = parse_rule(table.family, text, is_chain);
    rule.unwrap_or_else(|| panic!("not understood: {text}"))
}

#[track_caller]
fn rules_of(kernel: &SimKernel, table: XtTableId, chain: &str) -> Vec<XtRule> {
    let chains = kernel.xtables().table(table).expect("a table in use");
    chains.chain(&ChainName(chain.into())).expect("a chain").to_vec()
}

#[track_caller]
fn flush(kernel: &mut SimKernel, table: XtTableId, chain: &str) {
    if is_builtin(chain) {
        kernel.foreign_delete_rules(table, chain, |_| true);
    } else {
        put_chain(kernel, table, chain, Vec::new());
    }
}

#[track_caller]
fn put_chain(kernel: &mut SimKernel, table: XtTableId, chain: &str, rules: Vec<XtRule>) {
    let chain = ChainName(chain.into());
    interfere(kernel, Domain::Xtables(table), vec![NetworkOp::PutChain { chain, rules }]);
}

#[track_caller]
fn interfere(kernel: &mut SimKernel, domain: Domain, ops: Vec<NetworkOp>) {
    kernel.interfere(&Transaction { domain, ops }).expect("others can do that");
}
