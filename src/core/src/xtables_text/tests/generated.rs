//! Every typed rule, and text of every kind.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::model::{Family, PortRange, Protocol};
use crate::objects::{
    ChainName, ConnectionStates, InterfaceMatch, L4Match, PortMapping, RejectWith, SetDirection,
    SetName, XtMatch, XtRule, XtTable, XtTableId, XtTarget,
};
use crate::ops::NetworkOp;
use crate::xtables_text::{
    canonical, parse_rule, parse_save, probability, render_rule, render_transaction,
};

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<u32>().prop_map(|n| IpAddr::V4(n.into())).boxed(),
        Family::V6 => any::<u128>().prop_map(|n| IpAddr::V6(n.into())).boxed(),
    }
}

fn network(family: Family) -> impl Strategy<Value = IpNet> {
    (address(family), 0..=family.bits())
        .prop_map(|(address, length)| IpNet::new(address, length).expect("a valid length"))
}

fn interface() -> impl Strategy<Value = InterfaceMatch> {
    ("[!-~]{0,14}[!-*,-~]", any::<bool>())
        .prop_map(|(name, negated)| InterfaceMatch { name, negated })
}

fn ports() -> impl Strategy<Value = PortRange> {
    (1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).expect("a range"))
}

fn states() -> impl Strategy<Value = ConnectionStates> {
    (1_u8..32).prop_map(|bits| ConnectionStates {
        invalid: bits & 1 != 0,
        new: bits & 2 != 0,
        related: bits & 4 != 0,
        established: bits & 8 != 0,
        untracked: bits & 16 != 0,
    })
}

fn set_name() -> impl Strategy<Value = SetName> {
    "[!-~]{1,31}".prop_map(SetName)
}

/// A match that needs no protocol.
fn free_match() -> impl Strategy<Value = XtMatch> {
    let direction = prop_oneof![Just(SetDirection::Source), Just(SetDirection::Destination)];
    prop_oneof![
        (states(), any::<bool>()).prop_map(|(states, negated)| XtMatch::State { states, negated }),
        any::<bool>().prop_map(|reply| XtMatch::Direction { reply }),
        any::<(u32, u32, bool)>().prop_map(|(value, mask, negated)| XtMatch::ConnMark {
            value,
            mask,
            negated
        }),
        any::<(u32, u32, bool)>().prop_map(|(value, mask, negated)| XtMatch::Mark {
            value,
            mask,
            negated
        }),
        (set_name(), vec(direction, 1..4), any::<bool>())
            .prop_map(|(name, directions, negated)| XtMatch::Set { name, directions, negated }),
        Just(XtMatch::DestinationLocal),
        Just(XtMatch::Unconfirmed),
        (0..=1_u32 << 31).prop_map(|threshold| XtMatch::Random { threshold }),
        "[ -~]{0,255}".prop_map(XtMatch::Comment),
    ]
}

fn protocol_match(protocol: L4Match) -> BoxedStrategy<XtMatch> {
    match protocol {
        L4Match::Icmp => any::<(u8, Option<u8>)>()
            .prop_map(|(kind, code)| XtMatch::IcmpType { kind, code })
            .boxed(),
        L4Match::Transport(_) => prop_oneof![
            vec(ports(), 1..8).prop_map(XtMatch::DestinationPorts),
            any::<u16>().prop_map(XtMatch::SourcePort),
            any::<bool>().prop_map(|negated| XtMatch::TcpSyn { negated }),
        ]
        .boxed(),
    }
}

fn target(family: Family) -> impl Strategy<Value = XtTarget> {
    let mapping = prop_oneof![
        Just(PortMapping::Keep),
        any::<u16>().prop_map(PortMapping::To),
        any::<(u16, u16, u16)>().prop_map(|(first, last, base)| PortMapping::Shift {
            first,
            last,
            base
        }),
    ];
    prop_oneof![
        "SMARTNAT-[A-Z0-9-]{1,19}".prop_map(|name| XtTarget::Jump(ChainName(name))),
        Just(XtTarget::Accept),
        Just(XtTarget::Drop),
        Just(XtTarget::Return),
        Just(XtTarget::Reject(RejectWith::TcpReset)),
        Just(XtTarget::Reject(RejectWith::PortUnreachable)),
        (address(family), mapping)
            .prop_map(|(address, ports)| XtTarget::DestinationNat { address, ports }),
        address(family).prop_map(|address| XtTarget::SourceNat { address }),
        Just(XtTarget::Masquerade),
        Just(XtTarget::NoTrack),
        any::<(u32, u32)>().prop_map(|(value, mask)| XtTarget::SetMark { value, mask }),
        any::<(u32, u32)>().prop_map(|(value, mask)| XtTarget::SetConnMark { value, mask }),
        any::<u32>().prop_map(|mask| XtTarget::RestoreMark { mask }),
        set_name().prop_map(|set| XtTarget::AddSourceToSet { set }),
    ]
}

fn rule(family: Family) -> impl Strategy<Value = XtRule> {
    let protocol = prop_oneof![
        Just(L4Match::Icmp),
        prop::sample::select(&Protocol::ALL[..]).prop_map(L4Match::Transport),
    ];
    let with_protocol = protocol
        .prop_flat_map(|p| {
            let m = prop_oneof![free_match().boxed(), protocol_match(p)];
            (Just(Some(p)), vec(m, 0..6))
        })
        .boxed();
    let without = (Just(None), vec(free_match(), 0..6)).boxed();
    let head = (
        option::of(network(family)),
        option::of(network(family)),
        option::of(interface()),
        option::of(interface()),
    );
    (head, prop_oneof![with_protocol, without], target(family)).prop_map(
        |((source, destination, in_interface, out_interface), (protocol, matches), target)| {
            XtRule { source, destination, in_interface, out_interface, protocol, matches, target }
        },
    )
}

fn any_rule() -> impl Strategy<Value = (Family, XtRule)> {
    prop::sample::select(&Family::ALL[..]).prop_flat_map(|family| (Just(family), rule(family)))
}

/// What looks enough like the programs' output to get past the first checks.
fn almost_saved() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(
            &[
                "*nat",
                "*filter",
                "COMMIT",
                ":PREROUTING ACCEPT [0:0]",
                ":SMARTNAT-A - [0:0]",
                "-A",
                "SMARTNAT-A",
                "PREROUTING",
                "-j",
                "-g",
                "-m",
                "-p",
                "tcp",
                "!",
                "--dport",
                "set",
                "--match-set",
                "statistic",
                "--mode",
                "random",
                "--probability",
                "0.5",
                "DNAT",
                "--to-destination",
                "[::]:5-6/7",
                "1.2.3.4:1-2/3",
                "\"",
                "\\",
                "# Table `nat' is",
                "conntrack",
                "--ctstate",
                "NEW,",
                "[1:2] -A",
                "MARK",
                "--set-xmark",
                "0x1/0x",
            ][..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ];
    vec((word, prop::sample::select(&[" ", "\n"][..])), 0..40)
        .prop_map(|words| words.into_iter().map(|(word, end)| word + end).collect())
}

proptest! {
    #[test]
    fn a_rendered_rule_parses_to_its_canonical_form((family, rule) in any_rule()) {
        let text = render_rule(family, &rule);
        let parsed = parse_rule(family, &text, |name| name.starts_with("SMARTNAT-"));
        let expected = canonical(&rule);
        prop_assert_eq!(parsed, Some(expected), "{}", text);
        prop_assert_eq!(canonical(&canonical(&rule)), canonical(&rule));
    }

    #[test]
    fn a_chain_is_read_back_from_a_save((family, rule) in any_rule()) {
        let id = XtTableId { family, table: XtTable::Mangle };
        let chain = ChainName("SMARTNAT-A".to_owned());
        let mut rules = vec![canonical(&rule)];
        if let Some(target) = rule.jump_target() {
            rules.push(XtRule::new(XtTarget::Jump(target.clone())));
        }
        let mut ops = vec![NetworkOp::PutChain { chain: chain.clone(), rules: rules.clone() }];
        if let Some(target) = rule.jump_target().filter(|t| **t != chain) {
            ops.push(NetworkOp::PutChain { chain: target.clone(), rules: Vec::new() });
        }
        let text = render_transaction(id, &ops).text;
        let saved = parse_save(family, &text).expect("a restore input reads like a save");
        let ours = saved.ours.get(&XtTable::Mangle).expect("a table of ours");
        prop_assert_eq!(ours.chains.get(&chain), Some(&rules));
    }

    #[test]
    fn any_text_is_read_without_panic(text in prop_oneof![almost_saved(), ".{0,200}"]) {
        for family in Family::ALL {
            let _ = parse_save(family, &text);
            if let Some(rule) = parse_rule(family, &text, |_| true) {
                let again = parse_rule(family, &render_rule(family, &rule), |_| true);
                prop_assert_eq!(again, Some(rule));
            }
        }
    }

    #[test]
    fn a_probability_keeps_all_that_the_kernel_holds(threshold in 0..=1_u32 << 31) {
        prop_assert_eq!(probability::parse(&probability::render(threshold)), Some(threshold));
    }
}
