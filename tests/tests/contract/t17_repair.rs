//! T17: what somebody flushes, edits or deletes of ours is back at the next look, and an event says so.

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_core::objects::nft::{
    NftChain, NftData, NftExpr, NftKey, NftName, NftRule, NftSetSpec, NftTable, NftType, NftVerdict,
};
use smartnat_core::objects::{SysctlKey, XtTable, XtTableId};
use smartnat_core::ops::NftOp;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::{Arm, Damage, Foreign, config};
use smartnat_tests::{on_both_arms, on_both_arms_of_iptables, on_both_arms_of_nftables};

use super::common::{SIDES, at, echo_on, on_all_sides, serve_in_pods};

const FILTER4: XtTableId = XtTableId { family: Family::V4, table: XtTable::Filter };
const NAT4: XtTableId = XtTableId { family: Family::V4, table: XtTable::Nat };
const NAT6: XtTableId = XtTableId { family: Family::V6, table: XtTable::Nat };
const MANGLE4: XtTableId = XtTableId { family: Family::V4, table: XtTable::Mangle };
const MANGLE6: XtTableId = XtTableId { family: Family::V6, table: XtTable::Mangle };

/// What somebody did, and that it is put right.
#[track_caller]
fn assert_repaired(arm: &mut impl Arm, wanted: &[String], what: &str) {
    assert_ne!(sorted(arm), wanted, "{what}");
    let repair = arm.kernel_changed();
    let told = repair.events.iter().any(|e| e.kind == EventKind::DriftRepaired);
    assert!(told, "{what}: {:?}", repair.events);
    assert_eq!(sorted(arm), wanted, "{what}");
}

/// Sets and routes are listed in the order of their creation.
fn sorted(arm: &impl Arm) -> Vec<String> {
    let mut lines = arm.host_lines();
    lines.sort();
    lines
}

/// Clients of a Mapping that has a list of sources and egress.
fn restricted() -> Vec<ClusterObject> {
    let all = SIDES.iter().fold(on_all_sides("echo"), |m, s| m.source(s.source));
    [echo_on(&[1]), vec![all.tcp(8080).egress(true).build()]].concat()
}

#[track_caller]
fn assert_served(arm: &mut impl Arm) {
    for side in SIDES {
        let to = at(side.external, 8080);
        let outcome = arm.ask((Protocol::Tcp, side.client, side.source, to));
        assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
    }
}

on_both_arms_of_iptables!(every_kind_of_object_is_put_back, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), restricted());
    serve_in_pods(&mut arm);
    let wanted = sorted(&arm);
    for damage in [
        Damage::FlushChain { table: NAT4, chain: "SMARTNAT-DNAT" },
        Damage::FlushChain { table: NAT6, chain: "SMARTNAT-DNAT" },
        Damage::FlushTable { table: NAT4 },
        Damage::FlushChain { table: NAT4, chain: "PREROUTING" },
        Damage::InsertRule { table: MANGLE4, chain: "SMARTNAT-TRANSIT", rule: "-j ACCEPT" },
        Damage::DeleteFirstRule { table: MANGLE6, chain: "SMARTNAT-GUARD" },
        Damage::InsertRule {
            table: FILTER4,
            chain: "FORWARD",
            rule: "-m comment --comment SmartNat -j SMARTNAT-FORWARD",
        },
        Damage::FlushSet { name: "smartnat-x4" },
        Damage::AddElement { set: "smartnat-x6", element: "2001:db8::bad" },
        Damage::DeleteRoutingRules { family: Family::V4 },
        Damage::DeleteRoutes { family: Family::V6, table: 7001 },
    ] {
        arm.damage(&damage);
        assert_repaired(&mut arm, &wanted, &format!("{damage:?}"));
    }
    for stray in [
        Foreign::Chain { table: NAT4, name: "SMARTNAT-STRAY" },
        Foreign::Set { name: "smartnat-stray" },
    ] {
        arm.put(&stray);
        assert_repaired(&mut arm, &wanted, &format!("{stray:?}"));
    }
    arm.set_sysctl("gateway", &SysctlKey::Forwarding(Family::V4), "0");
    assert_repaired(&mut arm, &wanted, "forwarding");
    assert_served(&mut arm);
});

on_both_arms_of_nftables!(every_kind_of_object_of_the_table_is_put_back, |arms| {
    let start = || {
        let mut arm = arms.start(&standard(StandardOptions::default()), config(), restricted());
        serve_in_pods(&mut arm);
        let table = arm.table().expect("our table");
        (arm, table)
    };
    // Who does more than so much in a few seconds waits for the next look.
    for some in damages(&start().1).chunks(16) {
        let (mut arm, _) = start();
        let wanted = sorted(&arm);
        for changes in some {
            arm.damage(&Damage::Table { changes });
            assert_repaired(&mut arm, &wanted, &format!("{changes:?}"));
        }
        assert_served(&mut arm);
    }
});

/// What somebody may do to the table, each by itself.
fn damages(table: &NftTable) -> Vec<Vec<NftOp>> {
    let put = |name: &NftName, chain| NftOp::PutChain { name: name.clone(), chain };
    let empty = |base| NftChain { base, rules: Vec::new() };
    let accept = NftRule {
        expressions: vec![NftExpr::Verdict(NftVerdict::Accept)],
        comment: Some("theirs".into()),
    };
    let (based, chain) = table
        .chains
        .iter()
        .find(|(_, chain)| chain.base.is_some() && chain.rules.len() > 1)
        .expect("a base chain");
    let with = |rules: Vec<NftRule>| put(based, NftChain { base: chain.base, rules });
    let behind = [&chain.rules[..], std::slice::from_ref(&accept)].concat();
    let before = [std::slice::from_ref(&accept), &chain.rules[..]].concat();
    let elements =
        table.sets.iter().filter_map(|(name, set)| Some((name, set.elements.iter().next()?)));
    let taken = elements
        .map(|(set, (key, _))| vec![NftOp::DeleteElement { set: set.clone(), key: key.clone() }]);
    let stray: NftName = "stray".into();
    let spec = NftSetSpec::exact([NftType::Mark], NftData::Nothing);
    let (external, set) = table
        .sets
        .iter()
        .find(|(_, set)| set.spec == NftSetSpec::exact([NftType::Ipv4], NftData::Nothing))
        .expect("a set of addresses");
    let (_, like) = set.elements.iter().next().expect("an address");
    let foreign = NftOp::AddElement {
        set: external.clone(),
        key: NftKey::exact([192, 0, 2, 99]),
        element: like.clone(),
    };
    let others = [
        vec![with(Vec::new())],
        vec![with(chain.rules[1..].to_vec())],
        vec![with(behind)],
        vec![with(before)],
        vec![put(&stray, empty(None))],
        vec![NftOp::CreateSet { name: stray, spec }],
        vec![foreign],
        vec![NftOp::DeleteChain { name: based.clone() }],
        vec![NftOp::DeleteTable],
    ];
    taken.chain(others).collect()
}

on_both_arms!(another_position_among_foreign_rules_is_no_drift, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    // With nftables ours is there only beside others'.
    arm.put(&Foreign::Rule {
        table: FILTER4,
        chain: "FORWARD",
        rule: "-s 192.0.2.98/32 -j ACCEPT",
    });
    let start = arm.start(config(), Vec::new());
    assert!(start.status.in_sync, "{:?}", start.events);
    let rule = "-s 192.0.2.99/32 -j ACCEPT";
    arm.damage(&Damage::InsertRule { table: FILTER4, chain: "FORWARD", rule });
    let look = arm.kernel_changed();
    assert_eq!((look.transactions, look.events), (vec![], vec![]));
});
