//! What iptables checks of a single rule. Refusals go beyond the kernel's where a rule would
//! be accepted but do something else than it says, so that the simulation need not model that.

use smartnat_core::model::{PortRange, Protocol};
use smartnat_core::objects::{
    BuiltinHook, ConnectionStates, InterfaceMatch, L4Match, PortMapping, RejectWith, SetDirection,
    SetKind, SetName, XtMatch, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::OpError;

use super::{chain_object, of_family};
use crate::kernel::Actor;
use crate::kernel::error::{invalid, not_found};
use crate::kernel::ipset::Sets;
use crate::kernel::links::is_interface_name;

/// `XT_MULTI_PORTS`.
const MAX_MULTIPORTS: usize = 15;
/// `XT_MAX_COMMENT_LEN` less its NUL; iptables cuts off what is longer.
const MAX_COMMENT: usize = 255;

/// Where a rule goes.
pub(super) struct Place<'p> {
    pub(super) table: XtTableId,
    pub(super) chain: &'p str,
    pub(super) by: Actor,
}

type Verdict = Result<(), &'static str>;

/// Refuses what iptables refuses, whatever the rest of the table holds.
pub(super) fn check(place: &Place, rule: &XtRule, sets: &Sets) -> Result<(), OpError> {
    let object = chain_object(place.table, place.chain);
    for name in rule.sets() {
        // Found by the program's parser, before anything is looked up.
        if name.0.len() > SetName::MAX_LEN {
            return invalid(object, format_args!("setname {name} too long"));
        }
        if sets.get(name).is_none() {
            return not_found(object, format_args!("set {name} doesn't exist"));
        }
    }
    check_header(place, rule)
        .and_then(|()| rule.matches.iter().try_for_each(|m| check_match(place, rule, m, sets)))
        .and_then(|()| check_target(place, rule, sets))
        .or_else(|problem| invalid(object, format_args!("{problem}: {rule:?}")))
}

fn require(condition: bool, problem: &'static str) -> Verdict {
    if condition { Ok(()) } else { Err(problem) }
}

fn check_header(place: &Place, rule: &XtRule) -> Verdict {
    use BuiltinHook::{Input, Output, Postrouting, Prerouting};
    let at = |hooks: [BuiltinHook; 2]| hooks.iter().any(|h| h.name() == place.chain);
    for net in rule.source.iter().chain(&rule.destination) {
        require(of_family(place.table.family, net.addr()), "address of another family")?;
    }
    for interface in rule.in_interface.iter().chain(&rule.out_interface) {
        check_interface(interface)?;
    }
    // In a chain that these jump to, such a match is accepted and never holds.
    require(
        rule.out_interface.is_none() || !at([Prerouting, Input]),
        "can't use -o with PREROUTING and INPUT",
    )?;
    require(
        rule.in_interface.is_none() || !at([Output, Postrouting]),
        "can't use -i with OUTPUT and POSTROUTING",
    )
}

fn check_interface(interface: &InterfaceMatch) -> Verdict {
    require(is_interface_name(&interface.name), "not a valid interface name")?;
    require(!interface.name.ends_with('+'), "a trailing + would match other interfaces")
}

fn check_match(place: &Place, rule: &XtRule, m: &XtMatch, sets: &Sets) -> Verdict {
    let protocol = |wanted| rule.protocol == Some(L4Match::Transport(wanted));
    match m {
        XtMatch::DestinationPorts(ports) => check_ports(rule, ports),
        XtMatch::SourcePort(port) => {
            require(protocol(Protocol::Udp), "a source port requires -p udp")?;
            require(*port != 0, "port 0 is not modelled")
        }
        XtMatch::TcpSyn { .. } => require(protocol(Protocol::Tcp), "TCP match requires -p tcp"),
        XtMatch::IcmpType { .. } => {
            require(rule.protocol == Some(L4Match::Icmp), "ICMP match requires -p icmp")
        }
        XtMatch::State { states, .. } => {
            require(*states != ConnectionStates::default(), "bad ctstate: none is given")
        }
        XtMatch::Random { threshold } => {
            require(*threshold <= 1 << 31, "a probability is at most 1")
        }
        XtMatch::Set { name, directions, .. } => check_set(place, name, directions, sets),
        XtMatch::Comment(text) => {
            require(text.len() <= MAX_COMMENT, "a comment has at most 255 bytes")?;
            let plain = |b: u8| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\';
            require(text.bytes().all(plain), "a comment is plain printable ASCII")
        }
        XtMatch::Direction { .. }
        | XtMatch::Unconfirmed
        | XtMatch::ConnMark { .. }
        | XtMatch::Mark { .. }
        | XtMatch::DestinationLocal => Ok(()),
    }
}

fn check_ports(rule: &XtRule, ports: &[PortRange]) -> Verdict {
    require(has_ports(rule), "ports require -p tcp, udp or sctp")?;
    require(!ports.is_empty(), "no port is given")?;
    let slots: usize = ports.iter().map(|p| if p.is_single() { 1 } else { 2 }).sum();
    require(ports.len() == 1 || slots <= MAX_MULTIPORTS, "too many ports specified")
}

fn has_ports(rule: &XtRule) -> bool {
    matches!(rule.protocol, Some(L4Match::Transport(_)))
}

/// The kernel takes up to six directions whatever the set has (`IPSET_DIM_MAX`); a packet that meets a
/// rule with another number than its set's is not modelled.
fn check_set(place: &Place, name: &SetName, directions: &[SetDirection], sets: &Sets) -> Verdict {
    let spec = sets.get(name).ok_or("the set doesn't exist")?.spec;
    require(spec.family == place.table.family, "the protocol family of the set is not applicable")?;
    require((1..=6).contains(&directions.len()), "one to six directions are needed")
}

fn check_target(place: &Place, rule: &XtRule, sets: &Sets) -> Verdict {
    let table = place.table.table;
    match &rule.target {
        XtTarget::Jump(_) | XtTarget::Accept | XtTarget::Return => Ok(()),
        XtTarget::SetMark { .. } | XtTarget::SetConnMark { .. } | XtTarget::RestoreMark { .. } => {
            Ok(())
        }
        XtTarget::Drop => {
            require(table != XtTable::Nat, "the nat table is not intended for filtering")
        }
        XtTarget::Reject(with) => {
            require(table == XtTable::Filter, "REJECT is for table filter alone")?;
            let tcp = rule.protocol == Some(L4Match::Transport(Protocol::Tcp));
            require(*with != RejectWith::TcpReset || tcp, "tcp-reset requires -p tcp")
        }
        XtTarget::DestinationNat { address, ports } => {
            require(table == XtTable::Nat, "DNAT is for table nat alone")?;
            require(of_family(place.table.family, *address), "bad IP address")?;
            check_port_mapping(rule, *ports)
        }
        XtTarget::SourceNat { address } => {
            require(table == XtTable::Nat, "SNAT is for table nat alone")?;
            require(of_family(place.table.family, *address), "bad IP address")
        }
        XtTarget::Masquerade => require(table == XtTable::Nat, "MASQUERADE is for table nat alone"),
        XtTarget::NoTrack => require(table == XtTable::Raw, "CT is for table raw alone"),
        XtTarget::AddSourceToSet { set } => {
            check_set(place, set, &[SetDirection::Source], sets)?;
            let three = sets.get(set).is_some_and(|set| set.spec.kind == SetKind::HashIpPortIp);
            require(!three, "adding to a set of three dimensions is not modelled")
        }
        XtTarget::Unknown(_) => {
            require(place.by == Actor::Others, "a rule that is not understood cannot be written")
        }
    }
}

fn check_port_mapping(rule: &XtRule, ports: PortMapping) -> Verdict {
    match ports {
        PortMapping::Keep => return Ok(()),
        PortMapping::To(port) => require(port != 0, "port 0 is not modelled")?,
        PortMapping::Shift { first, last, base } => {
            require(first <= last, "port range is reversed")?;
            require(first != 0 && base != 0, "port 0 is not modelled")?;
        }
    }
    // iptables lets `-p icmp` pass with ports.
    require(has_ports(rule), "need TCP, UDP or SCTP with port specification")
}

/// Whether the rule makes the kernel track connections.
pub(super) fn needs_tracking(rule: &XtRule) -> bool {
    let by_match = |m: &XtMatch| {
        matches!(
            m,
            XtMatch::State { .. }
                | XtMatch::Direction { .. }
                | XtMatch::Unconfirmed
                | XtMatch::ConnMark { .. }
        )
    };
    rule.matches.iter().any(by_match)
        || matches!(rule.target, XtTarget::SetConnMark { .. } | XtTarget::RestoreMark { .. })
}
