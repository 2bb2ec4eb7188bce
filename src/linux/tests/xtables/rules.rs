//! Every kind of rule: typed, through the kernel, typed again.

use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::{Family, PortRange, Protocol};
use smartnat_core::objects::{
    ConnectionStates, InterfaceMatch, L4Match, PortMapping, RejectWith, SetDirection, SetName,
    XtMatch, XtRule, XtTable, XtTarget,
};
use smartnat_core::xtables_text::canonical;

use super::common::sh;
use super::{chain, for_each, jump, observe, put, table};

fn make_sets(family: Family) {
    let family = match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    sh(&format!(
        "ipset create smartnat-a hash:ip family {family} timeout 30
         ipset create smartnat-n hash:net family {family}
         ipset create smartnat-p hash:ip,port,ip family {family}"
    ));
}

fn address(family: Family) -> IpAddr {
    let text = match family {
        Family::V4 => "10.1.0.7",
        Family::V6 => "fd00::7",
    };
    text.parse().expect("an address")
}

/// A host, a network, the network that is everything, one with host bits, and none.
fn networks(family: Family) -> Vec<Option<IpNet>> {
    let texts = match family {
        Family::V4 => ["203.0.113.1/32", "10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/16"],
        Family::V6 => ["2001:db8::1/128", "::ffff:1.2.3.4/128", "::/0", "2001:db8:1:2::3/48"],
    };
    texts.iter().map(|text| text.parse().ok()).chain([None]).collect()
}

fn ports(first: u16, last: u16) -> PortRange {
    PortRange::new(first, last).expect("a range")
}

fn set(name: &str, directions: &[SetDirection], negated: bool) -> XtMatch {
    XtMatch::Set { name: SetName(name.to_owned()), directions: directions.to_vec(), negated }
}

/// All matches that need no protocol, each in several variants.
fn free_matches() -> Vec<XtMatch> {
    use SetDirection::{Destination, Source};
    let states = |bits: u8| ConnectionStates {
        invalid: bits & 1 != 0,
        new: bits & 2 != 0,
        related: bits & 4 != 0,
        established: bits & 8 != 0,
        untracked: bits & 16 != 0,
    };
    let mut matches = vec![
        XtMatch::Direction { reply: false },
        XtMatch::Direction { reply: true },
        XtMatch::DestinationLocal,
        XtMatch::Unconfirmed,
        XtMatch::Comment("plain".to_owned()),
        XtMatch::Comment(String::new()),
        XtMatch::Comment("-j".to_owned()),
        XtMatch::Comment("it's default/echo (1) [2] {3} #4 $5 !".to_owned()),
        XtMatch::Comment("x y".repeat(85)),
    ];
    for negated in [false, true] {
        matches.extend([
            set("smartnat-a", &[Source], negated),
            set("smartnat-n", &[Destination], negated),
            set("smartnat-p", &[Source, Destination, Destination], negated),
        ]);
        matches.extend((1..32).map(|bits| XtMatch::State { states: states(bits), negated }));
        for (value, mask) in [(0x100, 0xff00), (0, 0xff00), (5, u32::MAX), (0, u32::MAX)] {
            matches.push(XtMatch::Mark { value, mask, negated });
            matches.push(XtMatch::ConnMark { value, mask, negated });
        }
    }
    let fractions = (2..=30).map(|n| (1_u32 << 31) / n);
    let thresholds = fractions.chain([0, 1, 2, 715_827_883, (1 << 31) - 1, 1 << 31]);
    matches.extend(thresholds.map(|threshold| XtMatch::Random { threshold }));
    matches
}

fn header_rules() -> Vec<XtRule> {
    let mut rules = Vec::new();
    for protocol in Protocol::ALL {
        let of = |matches: Vec<XtMatch>| XtRule {
            protocol: Some(L4Match::Transport(protocol)),
            matches,
            ..XtRule::new(XtTarget::Accept)
        };
        let many: Vec<PortRange> = (1..=15).map(|n| ports(n * 100, n * 100)).collect();
        rules.extend([
            of(vec![]),
            of(vec![XtMatch::DestinationPorts(vec![ports(80, 80)])]),
            of(vec![XtMatch::DestinationPorts(vec![ports(1, 65535)])]),
            of(vec![XtMatch::DestinationPorts(vec![ports(80, 80), ports(90, 99)])]),
            of(vec![XtMatch::DestinationPorts(many)]),
            // Not in canonical order, and apart.
            of(vec![
                XtMatch::DestinationPorts(vec![ports(68, 68)]),
                set("smartnat-a", &[SetDirection::Source], false),
                XtMatch::SourcePort(67),
            ]),
        ]);
    }
    for negated in [false, true] {
        let syn = || XtMatch::TcpSyn { negated };
        let of = |matches: Vec<XtMatch>| XtRule {
            protocol: Some(L4Match::Transport(Protocol::Tcp)),
            matches,
            ..XtRule::new(XtTarget::Drop)
        };
        let web = || XtMatch::DestinationPorts(vec![ports(80, 90)]);
        let reply = || XtMatch::Direction { reply: true };
        rules.extend([of(vec![syn()]), of(vec![syn(), reply(), web()]), of(vec![reply(), syn()])]);
    }
    rules
}

fn icmp_rules() -> Vec<XtRule> {
    let of = |matches: Vec<XtMatch>| XtRule {
        protocol: Some(L4Match::Icmp),
        matches,
        ..XtRule::new(XtTarget::Accept)
    };
    let types = [(3, Some(4)), (3, None), (8, None), (2, Some(0)), (0, None), (135, Some(0))];
    let with_type = types.map(|(kind, code)| of(vec![XtMatch::IcmpType { kind, code }]));
    [of(vec![])].into_iter().chain(with_type).collect()
}

fn address_rules(family: Family) -> Vec<XtRule> {
    let interface = |name: &str, negated| Some(InterfaceMatch { name: name.to_owned(), negated });
    let mut rules = Vec::new();
    for source in networks(family) {
        for destination in networks(family) {
            rules.push(XtRule { source, destination, ..XtRule::new(XtTarget::Return) });
        }
    }
    for (first, second) in [(false, false), (true, false), (false, true), (true, true)] {
        rules.push(XtRule {
            in_interface: interface("eth0", first),
            out_interface: interface("a-b_c.123456789", second),
            ..XtRule::new(XtTarget::Return)
        });
    }
    rules
}

fn mark_targets() -> Vec<XtRule> {
    let mut targets = vec![XtTarget::AddSourceToSet { set: SetName("smartnat-a".to_owned()) }];
    for (value, mask) in [(0x100, 0xff00), (0, 0xff00), (5, u32::MAX), (0, u32::MAX)] {
        targets.extend([
            XtTarget::SetMark { value, mask },
            XtTarget::SetConnMark { value, mask },
            XtTarget::RestoreMark { mask },
        ]);
    }
    targets.into_iter().map(XtRule::new).collect()
}

fn translations(family: Family) -> Vec<XtRule> {
    let address = address(family);
    let shift = |first, last, base| PortMapping::Shift { first, last, base };
    let mappings = [
        PortMapping::Keep,
        PortMapping::To(8080),
        shift(8080, 8090, 80),
        shift(1, 65535, 1),
        shift(80, 80, 8080),
    ];
    let rule = |protocol, ports| XtRule {
        protocol: Some(L4Match::Transport(protocol)),
        ..XtRule::new(XtTarget::DestinationNat { address, ports })
    };
    let all = |protocol| mappings.map(|ports| rule(protocol, ports));
    Protocol::ALL.into_iter().flat_map(all).collect()
}

fn refusals() -> Vec<XtRule> {
    let reset = XtRule {
        protocol: Some(L4Match::Transport(Protocol::Tcp)),
        ..XtRule::new(XtTarget::Reject(RejectWith::TcpReset))
    };
    vec![reset, XtRule::new(XtTarget::Reject(RejectWith::PortUnreachable))]
}

#[test]
fn what_is_written_is_read_back() {
    for_each(|xtables, family| {
        make_sets(family);
        let free = free_matches();
        let mut mangle: Vec<XtRule> =
            free.iter().map(|m| XtRule::new(XtTarget::Accept).with(m.clone())).collect();
        // Several in one rule, of different kinds.
        mangle.extend((0..20).map(|n| XtRule {
            matches: free.iter().skip(n).step_by(20).cloned().collect(),
            ..XtRule::new(XtTarget::Drop)
        }));
        mangle.extend(header_rules());
        mangle.extend(icmp_rules());
        mangle.extend(address_rules(family));
        mangle.extend(mark_targets());
        let source_nat = XtTarget::SourceNat { address: address(family) };
        let contents = [
            (XtTable::Mangle, mangle),
            (XtTable::Filter, refusals()),
            (XtTable::Nat, translations(family)),
        ];
        for (name, rules) in contents {
            let mut ops = vec![put("SMARTNAT-A", rules.clone())];
            if name == XtTable::Nat {
                let rules =
                    vec![XtRule::new(source_nat.clone()), XtRule::new(XtTarget::Masquerade)];
                ops.push(put("SMARTNAT-B", rules));
            }
            ops.push(put("SMARTNAT-C", vec![jump("SMARTNAT-A")]));
            let id = table(family, name);
            xtables.apply(id, &ops).expect("all rules are valid");
            let observed = observe(xtables);
            let state = observed.get(&id).expect("a table of ours");
            let expected: Vec<XtRule> = rules.iter().map(canonical).collect();
            let read = &state.chains[&chain("SMARTNAT-A")];
            for (read, expected) in read.iter().zip(&expected) {
                assert_eq!(read, expected, "{} {family}", xtables.flavour());
            }
            assert_eq!(read.len(), expected.len());
            assert_eq!(state.chains[&chain("SMARTNAT-C")], [jump("SMARTNAT-A")]);
            assert_eq!(state.chains.contains_key(&chain("SMARTNAT-B")), name == XtTable::Nat);
            xtables.apply(id, &ops).expect("all again");
            assert_eq!(observe(xtables), observed);
        }
        let nat = &observe(xtables)[&table(family, XtTable::Nat)];
        let out = &nat.chains[&chain("SMARTNAT-B")];
        assert_eq!(*out, [XtRule::new(source_nat), XtRule::new(XtTarget::Masquerade)]);
    });
}

#[test]
fn a_rule_of_somebody_else_in_a_chain_of_ours_is_seen_as_it_is() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Mangle);
        let rule = || XtRule::new(XtTarget::Return);
        xtables.apply(id, &[put("SMARTNAT-A", vec![rule()])]).expect("applied");
        let program = super::program(xtables.flavour(), family);
        sh(&format!("{program} -t mangle -I SMARTNAT-A -m limit --limit 1/sec -j ACCEPT"));
        let observed = observe(xtables);
        let rules = &observed[&id].chains[&chain("SMARTNAT-A")];
        let [XtRule { target: XtTarget::Unknown(text), .. }, last] = rules.as_slice() else {
            panic!("{rules:?}");
        };
        assert!(text.contains("-m limit"), "{text}");
        assert_eq!(*last, rule());
    });
}
