//! The order of chains of nftables among those of iptables.

use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
use NftChainKind::{Filter, Route};
use smartnat_core::objects::SysctlKey;
use smartnat_core::objects::{RoutingRule, RuleAction};
use smartnat_sim::walk::Step;

use super::*;
use crate::router::{RIGHT, SIDES, dropped, left, router, rules, udp};

/// Where the rules of a trace are, in order.
fn places(trace: &Trace) -> Vec<String> {
    trace
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Rule { place, .. } | Step::NftRule { place, .. } => {
                Some(format!("{} {}", place.table, place.chain))
            }
            Step::Tracked(_) => Some("tracking".into()),
            _ => None,
        })
        .collect()
}

#[test]
fn chains_come_by_priority_and_the_youngest_of_equals_first() {
    for side in SIDES {
        let all = [
            "raw PREROUTING -p udp -j RETURN",
            "mangle PREROUTING -m conntrack --ctstate NEW -j RETURN",
        ];
        let chain = |name, priority| {
            base(name, (Filter, Prerouting, priority), vec![vec![NftExpr::Counter]])
        };
        let mut host = router();
        rules(&mut host, side.family, &all[..1]);
        nft(&mut host, &[chain("older", -150)]);
        rules(&mut host, side.family, &all[1..]);
        let ops = [chain("younger", -150), chain("early", -250), chain("late", 5)];
        nft(&mut host, &ops);
        let trace = receive(&mut host, LEFT, udp((side.client, 1000), (side.server, 53)));
        let ours = |name: &str| format!("inet smartnat {name}");
        let expected = [
            "raw PREROUTING".into(),
            ours("early"),
            "tracking".into(),
            ours("younger"),
            "mangle PREROUTING".into(),
            ours("older"),
            ours("late"),
        ];
        assert_eq!(places(&trace), expected, "{trace}");
    }
}

#[test]
fn an_accept_ends_its_own_chain_alone_and_a_drop_everything() {
    let side = SIDES[0];
    let outcome = |ours: NftExpr, theirs: &str| {
        let mut host = router();
        rules(&mut host, side.family, &[theirs]);
        nft(&mut host, &[base("ours", (Filter, Forward, -150), vec![vec![ours]])]);
        passes(&mut host, udp((side.client, 1000), (side.server, 53)))
    };
    assert!(outcome(accept(), "filter FORWARD -j ACCEPT"));
    assert!(!outcome(accept(), "filter FORWARD -j DROP"));
    assert!(!outcome(drop(), "filter FORWARD -j ACCEPT"));
}

#[test]
fn a_chain_behind_the_translation_of_sources_sees_what_it_made() {
    for side in SIDES {
        let from_inside = |op| {
            let wanted = fields::address(ip(side.inside));
            let number = if side.family == Family::V4 { 2 } else { 10 };
            vec![
                meta(MetaKey::NfProto, 0),
                is(0, &[number]),
                source(side.family, 0),
                is(0, &wanted),
                op,
            ]
        };
        let outcome = |priority| {
            let mut host = router();
            rules(&mut host, side.family, &["nat POSTROUTING -o right -j MASQUERADE"]);
            let place = (Filter, Postrouting, priority);
            nft(&mut host, &[base("leave", place, vec![from_inside(drop())])]);
            let trace = receive(&mut host, LEFT, udp((side.client, 1000), (side.server, 53)));
            // What is dropped here was never known.
            let known = host.kernel.conntrack().len();
            (matches!(trace.outcome, Outcome::Left { .. }), known)
        };
        assert_eq!(outcome(99), (true, 1));
        assert_eq!(outcome(110), (false, 0));
    }
}

#[test]
fn a_chain_of_type_route_routes_again_when_the_mark_changed() {
    for side in SIDES {
        let far = if side.family == Family::V4 { "198.51.100.7" } else { "2001:db8:99::7" };
        let everywhere = if side.family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
        let outcome = |kind| {
            let mut host = router();
            host.kernel.add_host_route(everywhere, Some(side.server), RIGHT);
            host.kernel.foreign_rule(
                RoutingRule {
                    family: side.family,
                    priority: 100,
                    in_interface: None,
                    mark: Some((0x10, 0xff)),
                    destination: None,
                    action: RuleAction::Lookup { table: 7, suppress_prefix: None },
                },
                4,
            );
            let route = smartnat_core::objects::Route {
                table: 7,
                destination: everywhere.parse().expect("a network"),
                gateway: Some(ip(side.client)),
                interface: LEFT.into(),
                onlink: false,
            };
            host.kernel.foreign_route(route, 4);
            nft(&mut host, &[base("output", (kind, Output, -150), vec![set_mark(0x10, 0xff)])]);
            let sent = host.send(udp((side.external, 1000), (far, 53))).expect("known");
            let (by, packet) = left(&sent);
            (by.to_owned(), packet.mark)
        };
        assert_eq!(outcome(Route), (LEFT.to_owned(), 0x10));
        assert_eq!(outcome(Filter), (RIGHT.to_owned(), 0x10));
    }
}

#[test]
fn a_table_of_others_is_met_too_with_its_policy() {
    for side in SIDES {
        let mut host = router();
        let mut theirs = base("theirs", (Filter, Input, 10), vec![]);
        if let NftOp::PutChain { chain: NftChain { base: Some(base), .. }, .. } = &mut theirs {
            base.drops = true;
        }
        host.kernel.foreign_nft("filter", &[NftOp::CreateTable, theirs]);
        let trace = receive(&mut host, LEFT, udp((side.client, 1000), (side.external, 53)));
        assert_eq!(dropped(&trace).to_string(), "policy of inet filter INPUT");
        let forwarding = SysctlKey::Forwarding(side.family);
        assert_eq!(host.kernel.sysctl(&forwarding).as_deref(), Some("1"));
        assert!(passes(&mut host, udp((side.client, 1000), (side.server, 53))));
    }
}
