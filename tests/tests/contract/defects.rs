//! What the Go version did wrong: each of its defects that concerns one instance, by name.
//!
//! Of two more, a refused source that falls through to the host's sockets and a segment that routes
//! into the cluster, the variants that T2 and T4 leave open are here.

use smartnat::lab::traffic::Outcome;
use smartnat::lab::{Direction, Packet};
use smartnat_cluster::manifests::ManifestStore;
use smartnat_core::gateway::EventKind;
use smartnat_core::model::{ClusterObject, Family, GatewayConfig, ObjectKey, ObjectKind, Protocol};
use smartnat_core::objects::nft::{NftChain, NftExpr, NftName, NftRule, NftVerdict};
use smartnat_core::objects::{XtTable, XtTableId};
use smartnat_core::ops::{NetworkOp, NftOp};
use smartnat_core::status::reason;
use smartnat_sim::scenario::{MappingBuilder, mapping, service, without_mapping, without_service};
use smartnat_sim::topology::{StandardOptions, single, standard};
use smartnat_tests::Ruleset;
use smartnat_tests::arm::{Arm, Damage, Foreign, config};
use smartnat_tests::{
    Rig, RigOptions, Step, on_both_arms, on_both_arms_of_iptables, on_both_arms_of_nftables,
};

use super::common::{
    SIDES, USUAL, ask, at, echo_on, echo_service, first_network, ip, on_all_sides, pod,
    serve_in_pods, switch_forwarding_on,
};
use super::rulesets::all_rulesets;
use super::topologies::{ANYCAST, external, three_uplinks};

fn open_to_all(name: &str) -> MappingBuilder {
    on_all_sides(name).service("echo")
}

fn position(step: &Step, what: impl Fn(&NetworkOp) -> bool) -> Vec<usize> {
    let ops = step.transactions.iter().flat_map(|t| &t.ops);
    ops.enumerate().filter(|(_, op)| what(op)).map(|(at, _)| at).collect()
}

/// What is recognisably ours, or refers to it, on the gateway's host; elements count with their set.
fn of_ours(arm: &impl Arm) -> Vec<String> {
    let mut lines = arm.host_lines();
    lines.retain(|line| {
        let of_routing = ["lookup 70", "table 70", "table: 70"].iter().any(|t| line.contains(t));
        of_routing || (line.to_lowercase().contains("smartnat") && !line.starts_with("add "))
    });
    lines.sort_unstable();
    lines
}

/// Everybody is answered by this server.
#[track_caller]
fn assert_served_by(arm: &mut impl Arm, sides: &[super::common::Side], server: &str) {
    for side in sides {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert_eq!(outcome.server(), Some(server), "{side:?} {protocol}: {outcome}");
        }
    }
}

/// A Mapping with sources, affinity and egress.
fn with_every_kind_of_object() -> Vec<ClusterObject> {
    let m = SIDES.iter().fold(open_to_all("echo"), |m, s| m.source(s.source));
    let service = echo_service().affinity(60).ready(&pod(1, Family::V4)).build();
    [service, vec![m.tcp(8080).egress(true).build()]].concat()
}

on_both_arms_of_iptables!(clean_up_destroys_sets_after_the_rules_that_refer_to_them, |arms| {
    let mut arm = arms.build(&single());
    arm.start(config(), with_every_kind_of_object());
    let step = arm.clean_up();
    let kinds: Vec<EventKind> = step.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::CleanedUp], "{:?}", step.events);
    let chains = position(&step, |op| matches!(op, NetworkOp::DeleteChain { .. }));
    let sets = position(&step, |op| matches!(op, NetworkOp::DestroySet { .. }));
    assert!(sets.len() > 4 && chains.len() > 10, "{sets:?} {chains:?}");
    assert!(chains.last() < sets.first(), "{:?}", step.transactions);
    assert_eq!(of_ours(&arm), [""; 0]);
});

on_both_arms_of_iptables!(
    clean_up_goes_on_past_what_others_refer_to_and_reports_all_of_it,
    |arms| {
        let objects = [echo_on(&[1]), vec![open_to_all("echo").tcp(8080).build()]].concat();
        let mut arm = arms.build(&single());
        arm.start(config(), objects);
        let [filter, nat] =
            [XtTable::Filter, XtTable::Nat].map(|table| XtTableId { family: Family::V4, table });
        let rule = "-m set --match-set smartnat-x4 dst -j ACCEPT";
        arm.put(&Foreign::Rule { table: filter, chain: "INPUT", rule });
        arm.put(&Foreign::Chain { table: nat, name: "THEIRS" });
        arm.put(&Foreign::Rule { table: nat, chain: "THEIRS", rule: "-j SMARTNAT-REFUSE" });
        let step = arm.clean_up();
        let told = step.events.iter().find(|e| e.kind == EventKind::CleanUpIncomplete);
        let told = &told.expect("an event").message;
        assert!(told.contains("smartnat-x4") && told.contains("SMARTNAT-REFUSE"), "{told}");
        // The two objects that are referred to, without content, and the two rules that refer to them.
        let left = of_ours(&arm);
        assert_eq!(left.len(), 4, "{left:?}");
        for (name, rule) in [("smartnat-x4", "-A INPUT "), ("SMARTNAT-REFUSE", "-A THEIRS ")] {
            let of_name: Vec<_> = left.iter().filter(|line| line.contains(name)).collect();
            assert_eq!(of_name.len(), 2, "{left:?}");
            assert_eq!(of_name.iter().filter(|line| line.contains("-A ")).count(), 1, "{left:?}");
            assert!(of_name.iter().any(|line| line.contains(rule)), "{left:?}");
        }
    }
);

on_both_arms_of_nftables!(clean_up_is_one_operation_whatever_refers_to_what, |arms| {
    let mut arm = arms.build(&single());
    arm.start(config(), with_every_kind_of_object());
    // Somebody has a chain in our table that leads to each of ours.
    let table = arm.table().expect("our table");
    let below = table.chains.iter().filter(|(_, chain)| chain.base.is_none());
    let jump = |name: &NftName| NftRule {
        expressions: vec![NftExpr::Verdict(NftVerdict::Jump(name.clone()))],
        comment: None,
    };
    let rules: Vec<_> = below.map(|(name, _)| jump(name)).collect();
    assert!(rules.len() > 10, "{rules:?}");
    let chain = NftChain { base: None, rules };
    let changes = [NftOp::PutChain { name: "theirs".into(), chain }];
    arm.damage(&Damage::Table { changes: &changes });
    let step = arm.clean_up();
    let kinds: Vec<EventKind> = step.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::CleanedUp], "{:?}", step.events);
    let ops = step.transactions.iter().flat_map(|t| &t.ops);
    let of_table: Vec<_> = ops.filter(|op| matches!(op, NetworkOp::Nft(_))).collect();
    assert_eq!(of_table, [&NetworkOp::Nft(NftOp::DeleteTable)]);
    assert_eq!(of_ours(&arm), [""; 0]);
});

on_both_arms!(a_recreated_service_does_not_keep_the_old_target, |arms| {
    let objects = [echo_on(&[1]), vec![open_to_all("echo").tcp(8080).udp(5353).build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    // As one change, as two, and under the same name with another target port.
    let again = |number| {
        let s = service("echo").port("http", Protocol::Tcp, 8080, 9090).port(
            "dns",
            Protocol::Udp,
            5353,
            7000,
        );
        s.ready(&pod(number, Family::V4)).ready(&pod(number, Family::V6)).build()
    };
    assert_served_by(&mut arm, &first_network(), "pod1");
    arm.sync([without_service("echo"), again(2)].concat());
    assert_served_by(&mut arm, &first_network(), "pod2");
    arm.sync(without_service("echo"));
    arm.sync(again(3));
    assert_served_by(&mut arm, &first_network(), "pod3");
    let rules = arm.host_lines();
    for stale in ["10.244.1.11", "10.244.1.12", "fd00:244:1::11", "fd00:244:1::12", ":8080"] {
        assert!(!rules.iter().any(|line| line.contains(stale)), "{stale} in {rules:?}");
    }
});

/// Conversations of the clients of [`three_uplinks`] on every uplink with the same pod, all from the
/// same address and port.
fn converse_on_all<A: Arm>(
    arm: &mut A,
    protocol: Protocol,
    family: Family,
    port: u16,
) -> Vec<A::Conversation> {
    let from = at(ANYCAST[usize::from(family == Family::V6)], 40_000);
    (1..=3)
        .map(|n| {
            arm.converse(protocol, &format!("client{n}"), from, at(&external(n, family), port))
        })
        .collect()
}

fn serve_in_two_pods(arm: &mut impl Arm) {
    for pod in ["pod1", "pod2"] {
        arm.serve(pod, pod, &[], &USUAL);
    }
}

on_both_arms!(marks_of_two_uplinks_never_combine_into_a_third, |arms| {
    for masquerade in [true, false] {
        let everywhere = (1..=3).flat_map(|n| Family::ALL.map(|f| external(n, f)));
        let m = everywhere.fold(mapping("echo"), |m, a| m.address(&a)).tcp(8080).udp(5353);
        let objects = [echo_on(&[1]), vec![m.masquerade(masquerade).build()]].concat();
        let mut arm = arms.start(&three_uplinks(), config(), objects);
        serve_in_two_pods(&mut arm);
        let watches: Vec<_> = (1..=3).map(|n| arm.watch("gateway", &format!("ext{n}"))).collect();
        for family in Family::ALL {
            for (protocol, port) in USUAL {
                let mut open = converse_on_all(&mut arm, protocol, family, port);
                for _ in 0..4 {
                    for (n, conversation) in open.iter_mut().enumerate() {
                        let outcome = arm.ask_on(conversation);
                        let uplink = n + 1;
                        assert_eq!(
                            outcome.server(),
                            Some("pod1"),
                            "ext{uplink} {protocol}: {outcome}"
                        );
                    }
                }
            }
        }
        for (n, watch) in watches.iter().enumerate() {
            let own = Family::ALL.map(|f| ip(&external(n + 1, f)));
            let reply = |p: &Packet| {
                p.direction == Direction::Out && ANYCAST.map(ip).contains(&p.destination)
            };
            let recorded = arm.wait_until(|arm| {
                let replies = arm.packets(watch).into_iter().filter(reply);
                (replies.count() >= 20).then_some(())
            });
            assert!(recorded.is_some(), "on ext{}", n + 1);
            let mut replies = arm.packets(watch).into_iter().filter(reply);
            assert_eq!(replies.find(|p| !own.contains(&p.source)), None, "on ext{}", n + 1);
        }
    }
});

on_both_arms!(a_pod_behind_two_uplinks_answers_through_each, |arms| {
    // Two Mappings of one Service, and one client that uses both uplinks from one port at once.
    let own = |n: usize| {
        let m = mapping(&format!("on{n}")).service("echo");
        let m = Family::ALL.iter().fold(m, |m, f| m.address(&external(n, *f)));
        m.tcp(8080).udp(5353).egress(true).build()
    };
    let objects = [echo_on(&[1]), (1..=3).map(own).collect()].concat();
    let mut arm = arms.start(&three_uplinks(), config(), objects);
    serve_in_two_pods(&mut arm);
    for family in Family::ALL {
        for (protocol, port) in USUAL {
            let mut open = converse_on_all(&mut arm, protocol, family, port);
            // One of them goes; the others go on.
            arm.sync(vec![without_mapping("on2")]);
            for n in [1, 3] {
                let outcome = arm.ask_on(&mut open[n - 1]);
                assert!(outcome.is_answered(), "ext{n} {protocol} {family}: {outcome}");
            }
            let outcome = arm.ask_on_briefly(&mut open[1]);
            assert!(!outcome.is_answered(), "ext2 {protocol} {family}: {outcome}");
            arm.sync(vec![own(2)]);
        }
    }
});

on_both_arms!(a_conflict_across_namespaces_is_seen, |arms| {
    let of = |namespace: &str, created: u64, number: usize| {
        let s = echo_service().namespace(namespace);
        let s = s.ready(&pod(number, Family::V4)).ready(&pod(number, Family::V6));
        let m = open_to_all("echo").namespace(namespace).created(created).tcp(8080).udp(5353);
        [s.build(), vec![m.build()]].concat()
    };
    // The younger is seen first and sorts first.
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), of("a", 20, 1));
    serve_in_pods(&mut arm);
    let both = arm.sync(of("b", 10, 2));
    let loser = &both.status.mappings[&ObjectKey::new("a", "echo")];
    let accepted = loser.conditions.iter().find(|c| c.kind == reason::ACCEPTED);
    let accepted = accepted.expect("a condition");
    assert_eq!((accepted.status, &*accepted.reason), (false, reason::CONFLICT), "{loser:?}");
    assert!(accepted.message.contains("b/echo"), "{}", accepted.message);
    assert_served_by(&mut arm, &SIDES, "pod2");
    arm.sync(vec![ClusterObject::Deleted(ObjectKind::Mapping, ObjectKey::new("b", "echo"))]);
    assert_served_by(&mut arm, &SIDES, "pod1");
});

on_both_arms!(a_mapping_that_vanished_while_we_were_down_leaves_nothing, |arms| {
    let stays = || [echo_on(&[1]), vec![open_to_all("stays").tcp(8080).build()]].concat();
    let goes = open_to_all("goes").port(Protocol::Tcp, 9000, None, Some("http"));
    let goes = goes.source("192.0.2.0/24").egress(true).build();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), stays());
    serve_in_pods(&mut arm);
    let without = sorted(&arm);
    arm.sync(vec![goes]);
    assert_ne!(sorted(&arm), without);
    let side = SIDES[0];
    let [mut gone, mut kept] = [9000, 8080].map(|port| {
        let to = at(side.external, port);
        arm.converse(Protocol::Tcp, side.client, at(side.source, 0), to)
    });
    arm.restart(stays());
    assert_eq!(sorted(&arm), without);
    let outcome = arm.ask_on_briefly(&mut gone);
    assert!(!outcome.is_answered(), "a connection of a Mapping that is gone");
    assert!(arm.ask_on(&mut kept).is_answered(), "a connection of the other");
});

fn sorted(arm: &impl Arm) -> Vec<String> {
    let mut lines = arm.host_lines();
    lines.sort();
    lines
}

on_both_arms!(a_refused_source_does_not_reach_the_hosts_sockets, |arms| {
    // Even where the guard is off, the host answers that port itself, nobody is home and others accept all.
    let m = SIDES.iter().fold(open_to_all("echo"), |m, s| m.source(s.source)).tcp(8080).udp(5353);
    let mut arm = arms.build(&standard(StandardOptions::default()));
    for family in Family::ALL {
        let table = XtTableId { family, table: XtTable::Filter };
        for chain in ["INPUT", "FORWARD"] {
            arm.put(&Foreign::Rule { table, chain, rule: "-j ACCEPT" });
        }
    }
    let config = GatewayConfig { guard: false, ..config() };
    let first = arm.start(config, [echo_service().build(), vec![m.build()]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    arm.serve("gateway", "host", &SIDES.map(|s| ip(s.external)), &USUAL);
    let refused: Vec<_> = SIDES
        .iter()
        .flat_map(|s| USUAL.map(|(p, port)| (p, s.client, s.refused, at(s.external, port))))
        .collect();
    arm.assert_silence(&refused);
    arm.sync(echo_on(&[1]));
    arm.assert_silence(&refused);
    assert_eq!(arm.deliveries("host"), 0, "a socket of the host was reached");
});

on_both_arms!(nobody_on_the_uplinks_segment_routes_into_the_cluster, |arms| {
    // While the pod is exposed and its replies to other clients leave by that very segment.
    let mut arm = arms.build(&standard(StandardOptions::default()));
    switch_forwarding_on(&mut arm);
    arm.add_route("neighbour", "10.244.1.0/24", "198.51.100.10");
    arm.add_route("neighbour", "fd00:244:1::/64", "2001:db8:51::10");
    let m = open_to_all("echo").tcp(8080).udp(5353).masquerade(false).egress(true);
    let first = arm.start(config(), [echo_on(&[1]), vec![m.build()]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    serve_in_pods(&mut arm);
    let neighbour = ["198.51.100.77", "2001:db8:51::77"];
    for (from, to) in neighbour.into_iter().zip(["198.51.100.10", "2001:db8:51::10"]) {
        let outcome = arm.ask((Protocol::Udp, "neighbour", from, at(to, 5353)));
        assert_eq!(outcome.server(), Some("pod1"), "{outcome}");
    }
    let targets = |number| neighbour.into_iter().zip(Family::ALL.map(|f| pod(number, f)));
    let sneaking: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(targets)
        .flat_map(|(from, to)| USUAL.map(|(p, port)| (p, "neighbour", from, at(&to, port))))
        .collect();
    let reached = |arm: &A| ["pod1", "pod2"].map(|owner| arm.deliveries(owner));
    let before = reached(&arm);
    arm.assert_silence(&sneaking);
    assert_eq!(reached(&arm), before, "an answer might be dropped where the question was not");
});

on_both_arms!(two_addresses_of_one_instance_in_one_mapping_work, |arms| {
    let both = ["198.51.100.10", "198.51.100.11", "2001:db8:51::10", "2001:db8:51::11"];
    let m = both.iter().fold(mapping("echo"), |m, a| m.address(a)).tcp(8080).udp(5353);
    let mut arm = arms.build(&single());
    let first = arm.start(config(), [echo_on(&[1]), vec![m.build()]].concat());
    let status = &first.status.mappings[&ObjectKey::new("default", "echo")];
    assert_eq!(status.invalid, "no");
    assert_eq!(status.configured_addresses.len(), 4, "{status:?}");
    arm.serve("pod1", "pod1", &[], &USUAL);
    for to in both {
        let from = if to.contains('.') { "192.0.2.10" } else { "2001:db8:2::10" };
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, "client1", from, at(to, port)));
            assert_eq!(outcome.server(), Some("pod1"), "{to} {protocol}: {outcome}");
        }
    }
});

/// Two subsets: one pod a target port, one of a single family.
const SUBSETS: &str = r#"
apiVersion: smartnat.aureacentral.com/v1alpha1
kind: Mapping
metadata: {name: echo}
spec:
  addresses: ["198.51.100.10", "2001:db8:51::10"]
  serviceName: echo
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  clusterIP: 10.96.0.9
  ports: [{name: http, port: 80, targetPort: web}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: echo}
subsets:
- addresses: [{ip: 10.244.1.11}, {ip: "fd00:244:1::11"}]
  ports: [{name: http, port: 8080}]
- addresses: [{ip: 10.244.1.12}]
  notReadyAddresses: [{ip: 10.244.1.13}]
  ports: [{name: http, port: 9090}]
"#;

on_both_arms!(endpoints_with_several_subsets_work, |arms| {
    let (_, loaded) = ManifestStore::from_texts([("echo.yaml", SUBSETS)]);
    assert_eq!(loaded.problems, []);
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), loaded.changes);
    arm.serve("pod1", "pod1", &[], &[(Protocol::Tcp, 8080)]);
    arm.serve("pod2", "pod2", &[], &[(Protocol::Tcp, 9090)]);
    for (side, expected) in first_network().into_iter().zip([&["pod1", "pod2"][..], &["pod1"]]) {
        let mut served = std::collections::BTreeSet::new();
        // Both miss one of two in 40 attempts once in 10^12 runs.
        for _ in 0..40 {
            let to = at(side.external, 80);
            let outcome = arm.ask((Protocol::Tcp, side.client, side.source, to));
            let server = outcome.server().unwrap_or_else(|| panic!("{side:?}: {outcome}"));
            served.insert(server.to_owned());
        }
        assert_eq!(served.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{side:?}");
    }
});

// On Linux alone: a simulated kernel needs no processes.
all_rulesets!(one_mapping_costs_no_process_of_its_own, |ruleset: Ruleset| {
    let (mut rig, _) = Rig::start(&single(), RigOptions::new(ruleset), echo_on(&[1]));
    let one = |n: u16| {
        let m = mapping(&format!("m{n}"))
            .service("echo")
            .address("198.51.100.10")
            .address("2001:db8:51::10");
        m.port(Protocol::Tcp, 1000 + n, None, Some("http"))
            .source(&format!("192.0.2.{n}/32"))
            .build()
    };
    let single = rig.sync(vec![one(0)]);
    let twenty = rig.sync((1..=20).map(one).collect());
    assert!(single.status.in_sync && twenty.status.in_sync);
    assert_eq!(single.processes, twenty.processes);
    let outcome = ask(&rig.lab, Protocol::Tcp, "client1", "192.0.2.10", at("198.51.100.10", 1010));
    assert_eq!(outcome, Outcome::Refused, "the pod without a server says so");
});
