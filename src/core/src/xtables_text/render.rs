//! A rule as the arguments of `iptables`.

use std::fmt::Display;
use std::net::IpAddr;

use super::canonical::{canonical, header_position};
use super::{probability, words};
use crate::model::{Family, PortRange};
use crate::objects::{
    ConnectionStates, InterfaceMatch, L4Match, PortMapping, RejectWith, SetDirection, XtMatch,
    XtRule, XtTarget,
};

/// The rule's arguments as `iptables-save` orders them, without `-A CHAIN`. An unknown rule is its
/// text.
pub fn render_rule(family: Family, rule: &XtRule) -> String {
    if let XtTarget::Unknown(text) = &rule.target {
        return text.replace(['\r', '\n', '\0'], " ");
    }
    let rule = canonical(rule);
    let mut line = Line::default();
    for (option, network) in [("-s", rule.source), ("-d", rule.destination)] {
        if let Some(network) = network {
            line.option(option, network);
        }
    }
    for (option, interface) in [("-i", &rule.in_interface), ("-o", &rule.out_interface)] {
        if let Some(InterfaceMatch { name, negated }) = interface {
            line.negation(*negated).option(option, name);
        }
    }
    if let Some(protocol) = rule.protocol {
        line.option("-p", protocol_name(family, protocol));
    }
    render_matches(&mut line, family, &rule);
    render_target(&mut line, family, &rule.target);
    line.0
}

/// A line under construction.
#[derive(Default)]
struct Line(String);

impl Line {
    fn word(&mut self, word: impl Display) -> &mut Self {
        words::push(&mut self.0, &word.to_string());
        self
    }

    fn option(&mut self, option: &str, value: impl Display) -> &mut Self {
        self.flag(option).word(value)
    }

    /// An option, never quoted.
    fn flag(&mut self, option: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(option);
        self
    }

    fn negation(&mut self, negated: bool) -> &mut Self {
        if negated { self.flag("!") } else { self }
    }
}

fn protocol_name(family: Family, protocol: L4Match) -> &'static str {
    match (protocol, family) {
        (L4Match::Transport(protocol), _) => protocol.name(),
        (L4Match::Icmp, Family::V4) => "icmp",
        (L4Match::Icmp, Family::V6) => "ipv6-icmp",
    }
}

fn render_matches(line: &mut Line, family: Family, rule: &XtRule) {
    let mut in_header = false;
    for m in &rule.matches {
        let header = header_position(m).is_some();
        if header
            && !in_header
            && let Some(L4Match::Transport(protocol)) = rule.protocol
        {
            line.option("-m", protocol);
        }
        in_header = header;
        render_match(line, family, m);
    }
}

fn render_match(line: &mut Line, family: Family, m: &XtMatch) {
    match m {
        XtMatch::DestinationPorts(ranges) => render_ports(line, ranges),
        XtMatch::SourcePort(port) => drop(line.option("--sport", port)),
        XtMatch::TcpSyn { negated } => {
            line.negation(*negated).option("--tcp-flags", "FIN,SYN,RST,ACK").word("SYN");
        }
        XtMatch::IcmpType { kind, code } => {
            let (module, option) = match family {
                Family::V4 => ("icmp", "--icmp-type"),
                Family::V6 => ("icmp6", "--icmpv6-type"),
            };
            let value = code.map_or_else(|| kind.to_string(), |code| format!("{kind}/{code}"));
            line.option("-m", module).option(option, value);
        }
        XtMatch::State { states, negated } => {
            let line = line.option("-m", "conntrack").negation(*negated);
            line.option("--ctstate", state_list(*states));
        }
        XtMatch::Direction { reply } => {
            let direction = if *reply { "REPLY" } else { "ORIGINAL" };
            line.option("-m", "conntrack").option("--ctdir", direction);
        }
        XtMatch::Unconfirmed => {
            line.option("-m", "conntrack").negation(true).option("--ctstatus", "CONFIRMED");
        }
        XtMatch::ConnMark { value, mask, negated } => {
            line.option("-m", "connmark").negation(*negated).option("--mark", mark(*value, *mask));
        }
        XtMatch::Mark { value, mask, negated } => {
            line.option("-m", "mark").negation(*negated).option("--mark", mark(*value, *mask));
        }
        XtMatch::Set { name, directions, negated } => {
            let directions: Vec<&str> = directions.iter().map(|d| direction_name(*d)).collect();
            let line = line.option("-m", "set").negation(*negated);
            line.option("--match-set", name).word(directions.join(","));
        }
        XtMatch::DestinationLocal => {
            line.option("-m", "addrtype").option("--dst-type", "LOCAL");
        }
        XtMatch::Random { threshold } => {
            let line = line.option("-m", "statistic").option("--mode", "random");
            line.option("--probability", probability::render(*threshold));
        }
        XtMatch::Comment(text) => drop(line.option("-m", "comment").option("--comment", text)),
    }
}

fn render_ports(line: &mut Line, ranges: &[PortRange]) {
    let port = |range: &PortRange| {
        let (first, last) = (range.first(), range.last());
        if range.is_single() { first.to_string() } else { format!("{first}:{last}") }
    };
    if let [range] = ranges {
        line.option("--dport", port(range));
    } else {
        let list: Vec<String> = ranges.iter().map(port).collect();
        line.option("-m", "multiport").option("--dports", list.join(","));
    }
}

fn state_list(states: ConnectionStates) -> String {
    let names: Vec<&str> = [
        (states.invalid, "INVALID"),
        (states.new, "NEW"),
        (states.related, "RELATED"),
        (states.established, "ESTABLISHED"),
        (states.untracked, "UNTRACKED"),
    ]
    .into_iter()
    .filter_map(|(held, name)| held.then_some(name))
    .collect();
    names.join(",")
}

fn direction_name(direction: SetDirection) -> &'static str {
    match direction {
        SetDirection::Source => "src",
        SetDirection::Destination => "dst",
    }
}

/// A mark to match; the full mask is not spelled out.
fn mark(value: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{value:#x}") } else { full_mark(value, mask) }
}

fn full_mark(value: u32, mask: u32) -> String {
    format!("{value:#x}/{mask:#x}")
}

fn render_target(line: &mut Line, family: Family, target: &XtTarget) {
    match target {
        XtTarget::Jump(chain) => drop(line.option("-j", chain)),
        XtTarget::Accept => drop(line.option("-j", "ACCEPT")),
        XtTarget::Drop => drop(line.option("-j", "DROP")),
        XtTarget::Return => drop(line.option("-j", "RETURN")),
        XtTarget::Reject(with) => {
            let with = match (with, family) {
                (RejectWith::TcpReset, _) => "tcp-reset",
                (RejectWith::PortUnreachable, Family::V4) => "icmp-port-unreachable",
                (RejectWith::PortUnreachable, Family::V6) => "icmp6-port-unreachable",
            };
            line.option("-j", "REJECT").option("--reject-with", with);
        }
        XtTarget::DestinationNat { address, ports } => {
            let to = destination(*address, *ports);
            line.option("-j", "DNAT").option("--to-destination", to);
        }
        XtTarget::SourceNat { address } => {
            line.option("-j", "SNAT").option("--to-source", address);
        }
        XtTarget::Masquerade => drop(line.option("-j", "MASQUERADE")),
        XtTarget::SetMark { value, mask } => {
            line.option("-j", "MARK").option("--set-xmark", full_mark(*value, *mask));
        }
        XtTarget::SetConnMark { value, mask } => {
            line.option("-j", "CONNMARK").option("--set-xmark", full_mark(*value, *mask));
        }
        XtTarget::RestoreMark { mask } => {
            let mask = format!("{mask:#x}");
            let line = line.option("-j", "CONNMARK").flag("--restore-mark");
            line.option("--nfmask", &mask).option("--ctmask", &mask);
        }
        XtTarget::AddSourceToSet { set } => {
            let line = line.option("-j", "SET").option("--add-set", set);
            line.word("src").flag("--exist");
        }
        XtTarget::NoTrack => drop(line.option("-j", "CT").flag("--notrack")),
        XtTarget::Unknown(text) => drop(line.flag(text)),
    }
}

fn destination(address: IpAddr, ports: PortMapping) -> String {
    let host = match address {
        IpAddr::V6(v6) if ports != PortMapping::Keep => format!("[{v6}]"),
        other => other.to_string(),
    };
    match ports {
        PortMapping::Keep => host,
        PortMapping::To(port) => format!("{host}:{port}"),
        PortMapping::Shift { first, last, base } => format!("{host}:{first}-{last}/{base}"),
    }
}
