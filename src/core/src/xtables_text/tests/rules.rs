//! One rule: typed, text, typed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, PortRange, Protocol};
use crate::objects::{
    ChainName, ConnectionStates, InterfaceMatch, L4Match, PortMapping, RejectWith, SetDirection,
    SetName, XtMatch, XtRule, XtTarget,
};
use crate::xtables_text::{canonical, parse_rule, render_rule};

const CHAIN: &str = "SMARTNAT-B";

fn parse(family: Family, text: &str) -> Option<XtRule> {
    parse_rule(family, text, |name| name == CHAIN)
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ports(first: u16, last: u16) -> PortRange {
    PortRange::new(first, last).expect("a range")
}

fn interface(name: &str, negated: bool) -> InterfaceMatch {
    InterfaceMatch { name: name.to_owned(), negated }
}

fn of(protocol: Protocol, matches: Vec<XtMatch>, target: XtTarget) -> XtRule {
    let protocol = Some(L4Match::Transport(protocol));
    XtRule { protocol, matches, ..XtRule::new(target) }
}

fn set(negated: bool, directions: &[SetDirection]) -> XtMatch {
    let name = SetName("smartnat-a".to_owned());
    XtMatch::Set { name, directions: directions.to_vec(), negated }
}

fn comment(text: &str) -> XtMatch {
    XtMatch::Comment(text.to_owned())
}

fn dnat(host: &str, ports: PortMapping) -> XtTarget {
    XtTarget::DestinationNat { address: address(host), ports }
}

/// Rules that both families share, with the text that both flavours print.
fn common_rules() -> Vec<(XtRule, &'static str)> {
    use SetDirection::Source;
    let accept = || XtRule::new(XtTarget::Accept);
    vec![
        (accept(), "-j ACCEPT"),
        (XtRule::new(XtTarget::Jump(ChainName(CHAIN.to_owned()))), "-j SMARTNAT-B"),
        (
            XtRule {
                in_interface: Some(interface("eth0", true)),
                out_interface: Some(interface("eth1.5", false)),
                ..XtRule::new(XtTarget::Drop)
            },
            "! -i eth0 -o eth1.5 -j DROP",
        ),
        (
            of(
                Protocol::Tcp,
                vec![XtMatch::DestinationPorts(vec![ports(80, 80)])],
                XtTarget::Return,
            ),
            "-p tcp -m tcp --dport 80 -j RETURN",
        ),
        (
            of(
                Protocol::Sctp,
                vec![XtMatch::DestinationPorts(vec![ports(1, 65535)])],
                XtTarget::Masquerade,
            ),
            "-p sctp -m sctp --dport 1:65535 -j MASQUERADE",
        ),
        (
            of(
                Protocol::Udp,
                vec![XtMatch::DestinationPorts(vec![ports(80, 80), ports(100, 200)])],
                XtTarget::Accept,
            ),
            "-p udp -m multiport --dports 80,100:200 -j ACCEPT",
        ),
        (
            of(
                Protocol::Udp,
                vec![XtMatch::SourcePort(67), XtMatch::DestinationPorts(vec![ports(68, 68)])],
                XtTarget::Accept,
            ),
            "-p udp -m udp --sport 67 --dport 68 -j ACCEPT",
        ),
        (
            of(
                Protocol::Tcp,
                vec![
                    set(false, &[Source]),
                    XtMatch::DestinationPorts(vec![ports(80, 80)]),
                    XtMatch::TcpSyn { negated: true },
                ],
                XtTarget::Reject(RejectWith::TcpReset),
            ),
            "-p tcp -m set --match-set smartnat-a src -m tcp --dport 80 ! --tcp-flags \
             FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset",
        ),
        (
            of(Protocol::Tcp, vec![XtMatch::TcpSyn { negated: false }], XtTarget::Accept),
            "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
        ),
    ]
}

/// Rules of both families that look at connections, marks and sets.
fn state_rules() -> Vec<(XtRule, &'static str)> {
    use SetDirection::{Destination, Source};
    let accept = || XtRule::new(XtTarget::Accept);
    let states = ConnectionStates { related: true, established: true, ..Default::default() };
    let other_states =
        ConnectionStates { invalid: true, new: true, untracked: true, ..Default::default() };
    vec![
        (
            accept()
                .with(XtMatch::State { states, negated: false })
                .with(XtMatch::Direction { reply: true }),
            "-m conntrack --ctstate RELATED,ESTABLISHED -m conntrack --ctdir REPLY -j ACCEPT",
        ),
        (
            accept()
                .with(XtMatch::State { states: other_states, negated: true })
                .with(XtMatch::Direction { reply: false }),
            "-m conntrack ! --ctstate INVALID,NEW,UNTRACKED -m conntrack --ctdir ORIGINAL \
             -j ACCEPT",
        ),
        (
            accept()
                .with(XtMatch::ConnMark { value: 0x100, mask: 0xff00, negated: true })
                .with(XtMatch::Mark { value: 0, mask: 0xff00, negated: false })
                .with(XtMatch::Mark { value: 5, mask: u32::MAX, negated: false }),
            "-m connmark ! --mark 0x100/0xff00 -m mark --mark 0x0/0xff00 -m mark --mark 0x5 \
             -j ACCEPT",
        ),
        (
            XtRule::new(XtTarget::AddSourceToSet { set: SetName("smartnat-b".to_owned()) })
                .with(set(true, &[Source, Destination, Destination])),
            "-m set ! --match-set smartnat-a src,dst,dst -j SET --add-set smartnat-b src --exist",
        ),
        (accept().with(XtMatch::DestinationLocal), "-m addrtype --dst-type LOCAL -j ACCEPT"),
        (accept().with(XtMatch::Unconfirmed), "-m conntrack ! --ctstatus CONFIRMED -j ACCEPT"),
        (
            accept().with(XtMatch::Random { threshold: 715_827_883 }).with(comment("plain")),
            "-m statistic --mode random --probability 0.33333333349 -m comment --comment plain \
             -j ACCEPT",
        ),
        (
            accept().with(comment("default/echo it's (1)")),
            "-m comment --comment \"default/echo it\\'s (1)\" -j ACCEPT",
        ),
        (accept().with(comment("")), "-m comment --comment \"\" -j ACCEPT"),
        (
            XtRule::new(XtTarget::SetMark { value: 0x100, mask: 0xff00 }),
            "-j MARK --set-xmark 0x100/0xff00",
        ),
        (
            XtRule::new(XtTarget::SetConnMark { value: 0, mask: u32::MAX }),
            "-j CONNMARK --set-xmark 0x0/0xffffffff",
        ),
        (
            XtRule::new(XtTarget::RestoreMark { mask: 0xff00 }),
            "-j CONNMARK --restore-mark --nfmask 0xff00 --ctmask 0xff00",
        ),
    ]
}

fn ipv4_rules() -> Vec<(XtRule, &'static str)> {
    let http = || vec![XtMatch::DestinationPorts(vec![ports(80, 90)])];
    let shift = PortMapping::Shift { first: 8080, last: 8090, base: 80 };
    let icmp = |kind, code| XtRule {
        protocol: Some(L4Match::Icmp),
        ..XtRule::new(XtTarget::Accept).with(XtMatch::IcmpType { kind, code })
    };
    vec![
        (
            XtRule {
                source: Some(net("10.0.0.1/32")),
                destination: Some(net("10.0.1.0/24")),
                ..of(Protocol::Tcp, http(), dnat("10.1.0.7", PortMapping::To(8080)))
            },
            "-s 10.0.0.1/32 -d 10.0.1.0/24 -p tcp -m tcp --dport 80:90 -j DNAT \
             --to-destination 10.1.0.7:8080",
        ),
        (
            of(Protocol::Tcp, http(), dnat("10.1.0.7", shift)),
            "-p tcp -m tcp --dport 80:90 -j DNAT --to-destination 10.1.0.7:8080-8090/80",
        ),
        (XtRule::new(dnat("10.1.0.7", PortMapping::Keep)), "-j DNAT --to-destination 10.1.0.7"),
        (
            XtRule::new(XtTarget::SourceNat { address: address("203.0.113.1") }),
            "-j SNAT --to-source 203.0.113.1",
        ),
        (icmp(3, Some(4)), "-p icmp -m icmp --icmp-type 3/4 -j ACCEPT"),
        (icmp(8, None), "-p icmp -m icmp --icmp-type 8 -j ACCEPT"),
        (
            XtRule::new(XtTarget::Reject(RejectWith::PortUnreachable)),
            "-j REJECT --reject-with icmp-port-unreachable",
        ),
    ]
}

fn ipv6_rules() -> Vec<(XtRule, &'static str)> {
    let http = || vec![XtMatch::DestinationPorts(vec![ports(80, 90)])];
    let shift = PortMapping::Shift { first: 8080, last: 8090, base: 80 };
    let icmp = XtRule { protocol: Some(L4Match::Icmp), ..XtRule::new(XtTarget::Accept) };
    vec![
        (
            XtRule {
                source: Some(net("2001:db8::1/128")),
                destination: Some(net("::ffff:1.2.3.4/128")),
                ..of(Protocol::Tcp, http(), dnat("fd00::1", PortMapping::To(8080)))
            },
            "-s 2001:db8::1/128 -d ::ffff:1.2.3.4/128 -p tcp -m tcp --dport 80:90 -j DNAT \
             --to-destination [fd00::1]:8080",
        ),
        (
            of(Protocol::Tcp, http(), dnat("fd00::1", shift)),
            "-p tcp -m tcp --dport 80:90 -j DNAT --to-destination [fd00::1]:8080-8090/80",
        ),
        (XtRule::new(dnat("fd00::1", PortMapping::Keep)), "-j DNAT --to-destination fd00::1"),
        (icmp.clone(), "-p ipv6-icmp -j ACCEPT"),
        (
            icmp.with(XtMatch::IcmpType { kind: 2, code: None }),
            "-p ipv6-icmp -m icmp6 --icmpv6-type 2 -j ACCEPT",
        ),
        (
            XtRule::new(XtTarget::Reject(RejectWith::PortUnreachable)),
            "-j REJECT --reject-with icmp6-port-unreachable",
        ),
    ]
}

#[test]
fn typed_rules_and_their_text_tell_the_same() {
    let mut cases: Vec<(Family, XtRule, &str)> = Vec::new();
    for family in Family::ALL {
        let common = common_rules().into_iter().chain(state_rules());
        cases.extend(common.map(|(rule, text)| (family, rule, text)));
    }
    cases.extend(ipv4_rules().into_iter().map(|(rule, text)| (Family::V4, rule, text)));
    cases.extend(ipv6_rules().into_iter().map(|(rule, text)| (Family::V6, rule, text)));
    for (family, rule, text) in cases {
        assert_eq!(render_rule(family, &rule), text);
        assert_eq!(canonical(&rule), rule, "a listed rule is canonical: {text}");
        assert_eq!(parse(family, text).as_ref(), Some(&rule), "{text}");
    }
}

#[test]
fn what_means_the_same_has_one_form() {
    // What each flavour prints for a rule that was written in another way.
    let cases = [
        (
            "-p udp -m udp --dport 68 -m udp --sport 67 -j DROP",
            "-p udp -m udp --sport 67 --dport 68 -j DROP",
        ),
        (
            "-p tcp -m tcp --dport 80 -m set --match-set s src -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
            "-p tcp -m tcp --dport 80 ! --tcp-flags FIN,SYN,RST,ACK SYN -m set --match-set s src -j DROP",
        ),
        ("-s 10.0.0.1 -d 0.0.0.0/0 -j DROP", "-s 10.0.0.1/32 -j DROP"),
        ("-p tcp -m tcp -j DROP", "-p tcp -j DROP"),
        ("-p icmp -m icmp --icmp-type any -j DROP", "-p icmp -m icmp --icmp-type 255 -j DROP"),
        (
            "-m conntrack --ctstate ESTABLISHED,RELATED -j DROP",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP",
        ),
        ("-m comment --comment \"a\" -j DROP", "-m comment --comment a -j DROP"),
        ("-j DNAT --to-destination 10.0.0.1:80/8080", "-j DNAT --to-destination 10.0.0.1:80"),
        ("-p udp -m multiport --dports 80 -j DROP", "-p udp -m udp --dport 80 -j DROP"),
    ];
    for (printed, expected) in cases {
        let rule = parse(Family::V4, printed).unwrap_or_else(|| panic!("{printed} parses"));
        assert_eq!(render_rule(Family::V4, &rule), expected);
    }
}

#[test]
fn what_no_rule_of_ours_says_does_not_parse() {
    let texts = [
        "",
        "-p tcp",
        "-j LOG",
        "-g SMARTNAT-B",
        "! -s 10.0.0.0/8 -j DROP",
        "! -p tcp -j DROP",
        "-p esp -j DROP",
        "-s 10.0.0.0/255.0.255.0 -j DROP",
        "-s 2001:db8::1 -j DROP",
        "-i eth+ -j DROP",
        "-f -j DROP",
        "-p tcp -m tcp ! --dport 80 -j DROP",
        "-p tcp -m tcp --tcp-flags SYN,ACK SYN -j DROP",
        "-m tcp --dport 80 -j DROP",
        "-m multiport --dports 80 -j DROP",
        "-p icmp -m multiport --dports 80 -j DROP",
        "-m limit --limit 3/hour -j DROP",
        "-m conntrack --ctstate DNAT -j DROP",
        "-m statistic --mode nth --every 3 -j DROP",
        "-m statistic --mode random --probability 1.5 -j DROP",
        "-m comment -j DROP",
        "-m comment --comment \"open -j DROP",
        "-p icmp -m icmp6 --icmpv6-type 2 -j DROP",
        "-j SNAT --to-source 10.0.0.1-10.0.0.9",
        "-j SNAT --to-source 10.0.0.1:80",
        "-j DNAT --to-destination 10.0.0.1:80-90",
        "-j DNAT --to-destination 10.0.0.1 --random",
        "-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf",
        "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
        "-j REJECT --reject-with icmp-host-prohibited",
        "-j SET --add-set s dst --exist",
        "-j SET --add-set s src --exist --timeout 5",
        "-s 10.0.0.1 -s 10.0.0.2 -j DROP",
        "-j DROP -j DROP",
    ];
    for text in texts {
        assert_eq!(parse(Family::V4, text), None, "{text}");
    }
}

#[test]
fn text_from_outside_cannot_add_a_line_or_an_argument() {
    let rule = XtRule {
        in_interface: Some(interface("a\nCOMMIT", false)),
        ..XtRule::new(XtTarget::Drop).with(comment("x\" -j ACCEPT\n-A Y \\"))
    };
    let text = render_rule(Family::V4, &rule);
    assert_eq!(text.lines().count(), 1);
    let rule = parse(Family::V4, &text).expect("it parses");
    assert_eq!(rule.target, XtTarget::Drop);
    assert_eq!(rule.matches, [comment("x\" -j ACCEPT?-A Y \\")]);
    let unknown = XtRule::new(XtTarget::Unknown("-j DROP\nCOMMIT\n".to_owned()));
    assert_eq!(render_rule(Family::V4, &unknown).lines().count(), 1);
}
