//! Work is proportional to the change: counted in operations and processes among 1,000 Mappings on one
//! address, so that a slow machine judges as a fast one. On Linux alone: a simulated kernel needs no
//! processes.

use std::collections::BTreeSet;

use smartnat_core::model::{ClusterObject, Family, ObjectKey, PortRange, Protocol};
use smartnat_core::names;
use smartnat_core::objects::{XtTable, XtTableId};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_sim::scenario::{mapping, service, without_mapping};
use smartnat_sim::topology::single;
use smartnat_tests::Ruleset;
use smartnat_tests::{Rig, RigOptions};

use super::common::{ip, pod};

const EXTERNAL: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];

fn name(number: u16) -> String {
    format!("m{number}")
}

/// A Mapping, and its own Service with an endpoint of each family.
fn one(number: u16) -> Vec<ClusterObject> {
    let m = EXTERNAL.iter().fold(mapping(&name(number)), |m, a| m.address(a));
    [
        endpoints(number, &[1]),
        vec![m.port(Protocol::Tcp, 10_000 + number, None, Some("8080")).build()],
    ]
    .concat()
}

fn endpoints(number: u16, pods: &[usize]) -> Vec<ClusterObject> {
    let s = service(&name(number)).port("http", Protocol::Tcp, 8080, 8080);
    let ends = pods.iter().flat_map(|p| Family::ALL.map(|f| pod(*p, f)));
    ends.fold(s, |s, address| s.ready(&address)).build()
}

fn many(count: u16) -> Vec<ClusterObject> {
    (0..count).flat_map(one).collect()
}

/// Chains that were put (`+`) or deleted (`-`) in nat of a family; anything else is an error.
fn chains(transactions: &[Transaction], family: Family) -> BTreeSet<String> {
    let nat = |f| Domain::Xtables(XtTableId { family: f, table: XtTable::Nat });
    let others = transactions.iter().find(|t| !Family::ALL.iter().any(|f| t.domain == nat(*f)));
    assert_eq!(others, None, "only nat is concerned");
    let of_family: Vec<_> = transactions.iter().filter(|t| t.domain == nat(family)).collect();
    assert!(of_family.len() <= 1, "one step a table: {of_family:?}");
    let told: Vec<String> = of_family
        .iter()
        .flat_map(|t| &t.ops)
        .map(|op| match op {
            NetworkOp::PutChain { chain, .. } => format!("+{chain}"),
            NetworkOp::DeleteChain { chain } => format!("-{chain}"),
            other => panic!("{other:?}"),
        })
        .collect();
    let set: BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(set.len(), told.len(), "nothing twice: {told:?}");
    set
}

fn of_mapping(sign: char, number: u16) -> [String; 2] {
    let key = ObjectKey::new("default", name(number));
    let ports = PortRange::single(10_000 + number).expect("a port");
    let port = names::port_chain(&key, Protocol::Tcp, ports);
    [format!("{sign}{}", names::mapping_chain(&key)), format!("{sign}{port}")]
}

fn of_address(family: Family) -> String {
    let address = EXTERNAL.map(ip).into_iter().find(|a| Family::of(a) == family);
    format!("+{}", names::address_chain(address.expect("one a family")))
}

/// Without nftables, which has other objects.
#[test]
fn a_thousand_mappings_cost_what_changes() {
    if smartnat::lab::available() {
        [Ruleset::IptablesNft, Ruleset::IptablesLegacy].into_iter().for_each(costs_what_changes);
    }
}

fn costs_what_changes(ruleset: Ruleset) {
    let few = Rig::start(&single(), RigOptions::new(ruleset), many(10)).1;
    let (mut rig, first) = Rig::start(&single(), RigOptions::new(ruleset), many(1000));
    assert!(few.status.in_sync && first.status.in_sync, "{:?}", first.events);
    assert_eq!(first.status.mappings.len(), 1000);
    assert_eq!(first.processes, few.processes, "processes of the first sync");

    let unchanged = rig.sync(many(1000));
    assert_eq!((unchanged.operations, unchanged.processes), (0, 0), "nothing changed");

    // An endpoint comes: the port's chain of either family, and nothing else.
    let endpoint = rig.sync(endpoints(500, &[1, 2]));
    let [_, port] = of_mapping('+', 500);
    for family in Family::ALL {
        assert_eq!(chains(&endpoint.transactions, family), BTreeSet::from([port.clone()]));
    }

    let added = rig.sync(one(1000));
    for family in Family::ALL {
        let [own, port] = of_mapping('+', 1000);
        let expected = BTreeSet::from([of_address(family), own, port]);
        assert_eq!(chains(&added.transactions, family), expected);
    }
    assert!(added.processes <= few.processes, "{} processes", added.processes);

    let deleted = rig.sync(vec![without_mapping(&name(7))]);
    for family in Family::ALL {
        let [own, port] = of_mapping('-', 7);
        let expected = BTreeSet::from([of_address(family), own, port]);
        assert_eq!(chains(&deleted.transactions, family), expected);
    }

    let again = rig.restart(
        [many(1001), endpoints(500, &[1, 2])]
            .concat()
            .into_iter()
            .filter(|o| !matches!(o, ClusterObject::Mapping(m) if *m.key.name == *name(7)))
            .collect(),
    );
    assert_eq!((again.operations, again.transactions), (0, vec![]), "after a restart");
}
