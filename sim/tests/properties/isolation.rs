//! P1, P2, P4, P5: where packets go.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NftExpr, NftRule, NftType, Register, SetUpdate,
};
use smartnat_core::objects::{XtMatch, XtTarget};
use smartnat_sim::SimHost;
use smartnat_sim::oracle::{Expectation, Origin, Probe, ProbeKind};
use smartnat_sim::scenario::{mapping, service};

use crate::common::{EXT1, EXT1_V6, held, ip, net};
use crate::objects::cluster;
use crate::probes;
use crate::setup::{Setup, setups};
use crate::story::{Step, Story, stories};
use crate::traffic::{Connection, Judge};
use crate::world::{World, numbers};
use crate::{cases, told};

/// A story of one change.
fn one_change(setup: &Setup, objects: &[ClusterObject]) -> Story {
    Story { setup: setup.clone(), steps: vec![Step::Cluster(objects.to_vec())], seed: 7 }
}

proptest! {
    #![proptest_config(cases(1))]

    /// P1, P2, P4, P5: throughout any history packets go where the snapshots in force say, and
    /// connections that are permitted live on: A's traffic never reaches B's pods.
    #[test]
    fn p01_packets_meet_what_the_snapshot_says_throughout_any_history(story in stories(1..14)) {
        told(&story, || {
            let mut world = World::after(&story)?;
            world.come_to_rest()?;
            world.assert_connections()?;
            world.judge_probes(60)
        })?;
    }

    /// P2: translated exactly when the source is allowed, at either end of every allowed network
    /// and beyond.
    #[test]
    fn p02_translated_exactly_when_the_source_is_allowed(
        setup in setups(),
        networks in prop::collection::vec(a_network(), 0..6),
    ) {
        let echo = service("echo").port("", Protocol::Tcp, 80, 8080).ready("10.1.0.1");
        let mut open = mapping("echo").address(EXT1).address(EXT1_V6).tcp(80);
        for network in &networks {
            open = open.source(&network.to_string());
        }
        let objects = [echo.ready("fd01::1").build(), vec![open.build()]].concat();
        let story = one_change(&setup, &objects);
        told(&story, || {
            let world = World::after(&story)?;
            let oracle = [world.oracle()];
            let judge = Judge { oracles: &oracle, numbers: None };
            let mut host = SimHost::new(world.driver.kernel.clone(), 7);
            for (n, source) in (1..).zip(edges(&networks)) {
                let destination = ip(if source.is_ipv4() { EXT1 } else { EXT1_V6 });
                let kind = ProbeKind::Transport { protocol: Protocol::Tcp, port: 80 };
                let origin = Origin::Interface("ext1".into());
                judge.probe(&mut host, &Probe { origin, source, destination, kind }, 20_000 + n)?;
            }
            Ok(())
        })?;
    }

    /// P5: whatever the mask and however many uplinks, every rule that sets or compares an
    /// uplink's number does so under the whole field, and all are within our mask.
    #[test]
    fn p05_mark_bits_never_combine_into_anothers(story in stories(1..10)) {
        told(&story, || {
            let mut world = World::after_in_silence(&story);
            world.come_to_rest()?;
            rules_keep_to_their_bits(&world)
        })?;
    }
}

proptest! {
    // Each case walks some thousand packets.
    #![proptest_config(cases(8))]

    /// P1, P2, P4, P5: everybody to everything, after one change.
    #[test]
    fn p01_every_packet_meets_what_the_snapshot_says(setup in setups(), objects in cluster()) {
        let story = one_change(&setup, &objects);
        told(&story, || {
            let world = World::after(&story)?;
            let oracle = [world.oracle()];
            let numbers = (MarkLayout::new(setup.mark_mask), numbers(&world.driver.kernel, &world.config()));
            let judge = Judge { oracles: &oracle, numbers: Some(numbers) };
            let mut host = SimHost::new(world.driver.kernel.clone(), 7);
            let here = |p: &&Probe| probes::can_come(p, &host.kernel);
            let there: Vec<&Probe> = probes::ALL.iter().filter(here).collect();
            for (n, probe) in (1..).zip(there) {
                judge.probe(&mut host, probe, 20_000 + n)?;
            }
            Ok(())
        })?;
    }

    /// P4: replies leave by the ingress uplink with the external address, while clients speak over
    /// all uplinks at once with the same pods.
    #[test]
    fn p04_replies_leave_by_the_ingress_uplink(setup in setups(), objects in cluster()) {
        let setup = Setup { shared_subnet: true, ..setup };
        let story = one_change(&setup, &objects);
        told(&story, || {
            let world = World::after(&story)?;
            let oracle = [world.oracle()];
            let judge = Judge { oracles: &oracle, numbers: None };
            let mut host = SimHost::new(world.driver.kernel.clone(), 7);
            let mut open: Vec<Connection> = Vec::new();
            let let_in = probes::CONNECTIONS
                .iter()
                .filter(|p| probes::can_come(p, &world.driver.kernel))
                .filter(|p| matches!(oracle[0].expect(p), Expectation::Translated { .. }));
            for (n, probe) in (1..).zip(let_in) {
                // One client's port for all uplinks, as far as its addresses differ otherwise.
                open.extend(judge.probe(&mut host, probe, 20_000 + n)?);
            }
            open.iter().chain(open.iter().rev()).try_for_each(|c| c.talk(&mut host))
        })?;
    }
}

/// Networks of all lengths, close together.
fn a_network() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u8>(), 8..=32_u8).prop_map(|(low, length)| format!("192.0.2.{low}/{length}"));
    let v6 = (any::<u16>(), 32..=128_u8)
        .prop_map(|(low, length)| format!("2001:db8:c::{low:x}/{length}"));
    let everyone = prop_oneof![Just("0.0.0.0/0".to_owned()), Just("::/0".to_owned())];
    prop_oneof![6 => v4, 3 => v6, 1 => everyone].prop_map(|text| net(&text).trunc())
}

/// The ends of networks and their neighbours outside, as far as a packet may come from there.
fn edges(networks: &[IpNet]) -> Vec<IpAddr> {
    let mut edges = vec![ip("198.18.0.1"), ip("2001:db8:d::5")];
    for network in networks {
        let (first, last) = (network.network(), network.broadcast());
        edges.extend([first, last, beside(first, false), beside(last, true)]);
    }
    let ours = ["203.0.113.", "198.51.100.", "10.0.0.", "10.1.0.", "2001:db8:1:", "2001:db8:2:"];
    edges.retain(|address| {
        let unicast = match address {
            IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]) && v4.octets()[0] != 127,
            IpAddr::V6(v6) => v6.segments()[0] == 0x2001,
        };
        unicast && !ours.iter().any(|prefix| address.to_string().starts_with(prefix))
    });
    edges
}

fn beside(address: IpAddr, after: bool) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            let moved = if after { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
            std::net::Ipv4Addr::from_bits(moved).into()
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let moved = if after { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
            std::net::Ipv6Addr::from_bits(moved).into()
        }
    }
}

/// The values that a rule of nftables compares marks with or gives them, with the bits that it means.
fn marks_of(rule: &NftRule) -> Vec<(u32, u32)> {
    let mut marks = Vec::new();
    for (at, expression) in rule.expressions.iter().enumerate() {
        let (NftExpr::Meta { key: MetaKey::Mark, .. } | NftExpr::Ct { key: CtKey::Mark, .. }) =
            expression
        else {
            continue;
        };
        match &rule.expressions[at + 1..] {
            [NftExpr::Bitwise { mask, .. }, NftExpr::Compare { value, .. }, ..] => {
                marks.push((number(value), number(mask)));
            }
            [
                NftExpr::Bitwise { mask, xor, .. },
                NftExpr::SetMark { .. } | NftExpr::SetCtMark { .. },
                ..,
            ] => marks.push((number(xor), !number(mask))),
            [NftExpr::Bitwise { mask, .. }, NftExpr::Lookup { .. }, ..] => {
                marks.push((0, number(mask)));
            }
            // The mark is saved, carries a number, and is what it was.
            [
                NftExpr::Lookup { result: LookupResult::Value(number), .. },
                NftExpr::SetMark { from },
                NftExpr::Meta { key: MetaKey::Mark, to },
                NftExpr::SetMark { from: saved },
                ..,
            ] if number == from && from == to && is_in(expression, *saved) => {
                marks.extend([(0, 0); 2]);
            }
            [NftExpr::SetMark { .. }, ..] if marks.ends_with(&[(0, 0); 2]) => {}
            // What is deleted from a map does not depend on it.
            [NftExpr::Dynset { update: SetUpdate::Delete, .. }, ..] => {}
            other => panic!("P5: a mark is used as a whole: {other:?}"),
        }
    }
    let is_set = |e: &&NftExpr| matches!(e, NftExpr::SetMark { .. } | NftExpr::SetCtMark { .. });
    let set = rule.expressions.iter().filter(is_set).count();
    assert!(set <= marks.len(), "P5: a mark is set from nothing: {rule:?}");
    marks
}

fn is_in(read: &NftExpr, register: Register) -> bool {
    matches!(read, NftExpr::Meta { to, .. } if *to == register)
}

/// Four bytes in the host's order.
fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().expect("a mark has four bytes"))
}

/// P5.
fn rules_keep_to_their_bits(world: &World) -> Result<(), String> {
    let mask = world.config().mark_mask;
    let field = MarkLayout::new(mask).uplink;
    let whole = |value: u32, under: u32| {
        under & !mask == 0
            && value & !under == 0
            && (value & field == 0 && under & field == 0 || under & field == field)
    };
    let state = held(&world.driver.kernel);
    for rule in state.xtables.values().flat_map(|t| t.chains.values()).flatten() {
        let compares = rule.matches.iter().all(|m| match m {
            XtMatch::ConnMark { value, mask, .. } | XtMatch::Mark { value, mask, .. } => {
                whole(*value, *mask)
            }
            _ => true,
        });
        let sets = match rule.target {
            XtTarget::SetMark { value, mask } | XtTarget::SetConnMark { value, mask } => {
                whole(value, mask)
            }
            XtTarget::RestoreMark { mask } => whole(0, mask),
            _ => true,
        };
        if !compares || !sets {
            return Err(format!("P5: with mask {mask:#x}: {rule:?}"));
        }
    }
    for rule in state.nft.iter().flat_map(|t| t.chains.values()).flat_map(|chain| &chain.rules) {
        if !marks_of(rule).into_iter().all(|(value, under)| whole(value, under)) {
            return Err(format!("P5: with mask {mask:#x}: {rule:?}"));
        }
    }
    for set in state.nft.iter().flat_map(|t| t.sets.values()) {
        let of_marks = set.spec.key == [NftType::Mark];
        if of_marks && !set.elements.keys().all(|key| whole(number(&key.first), mask)) {
            return Err(format!("P5: with mask {mask:#x}: {set:?}"));
        }
    }
    for rule in &state.rules {
        if rule.mark.is_some_and(|(value, under)| !whole(value, under)) {
            return Err(format!("P5: with mask {mask:#x}: {rule:?}"));
        }
    }
    let numbers = numbers(&world.driver.kernel, &world.config());
    let distinct: std::collections::BTreeSet<u32> = numbers.values().copied().collect();
    assert!(distinct.len() == numbers.len(), "P5: {numbers:?}");
    Ok(())
}
