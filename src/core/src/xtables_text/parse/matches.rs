//! `-m MODULE` with its options.

use super::Words;
use crate::model::{Family, PortRange, Protocol};
use crate::objects::{ConnectionStates, L4Match, SetDirection, SetName, XtMatch};
use crate::xtables_text::probability;

/// What follows `-m`; one match an option.
pub(super) fn parse(
    words: &mut Words<'_>,
    protocol: Option<L4Match>,
    found: &mut Vec<XtMatch>,
) -> Option<()> {
    let module = words.next()?;
    if module == "statistic" {
        found.push(random(words)?);
    }
    let mut count = 0_usize;
    while let Some((negated, option)) = words.long_option() {
        found.push(option_match(words, module, option, negated, protocol)?);
        count += 1;
    }
    // The programs print a transport module even where its options match everything.
    let may_be_bare = protocol.is_some_and(|p| transport(p).is_some_and(|p| p.name() == module));
    (count > 0 || may_be_bare || module == "statistic").then_some(())
}

fn transport(protocol: L4Match) -> Option<Protocol> {
    match protocol {
        L4Match::Transport(protocol) => Some(protocol),
        L4Match::Icmp => None,
    }
}

fn option_match(
    words: &mut Words<'_>,
    module: &str,
    option: &str,
    negated: bool,
    protocol: Option<L4Match>,
) -> Option<XtMatch> {
    if protocol.and_then(transport).is_some_and(|p| p.name() == module) {
        return header_match(words, option, negated);
    }
    match (module, option, negated) {
        // A protocol without ports has none to match; its `--dports` could not be written again.
        ("multiport", "--dports", false) if protocol.and_then(transport).is_some() => {
            let ranges = words.next()?.split(',').map(port_range).collect::<Option<_>>()?;
            Some(XtMatch::DestinationPorts(ranges))
        }
        ("icmp", "--icmp-type", false) if words.family == Family::V4 => icmp_type(words),
        ("icmp6", "--icmpv6-type", false) if words.family == Family::V6 => icmp_type(words),
        ("conntrack", "--ctstate", _) => {
            let states = connection_states(words.next()?)?;
            Some(XtMatch::State { states, negated })
        }
        ("conntrack", "--ctdir", false) => match words.next()? {
            "ORIGINAL" => Some(XtMatch::Direction { reply: false }),
            "REPLY" => Some(XtMatch::Direction { reply: true }),
            _ => None,
        },
        ("conntrack", "--ctstatus", true) => {
            words.expect("CONFIRMED")?;
            Some(XtMatch::Unconfirmed)
        }
        ("connmark", "--mark", _) => {
            let (value, mask) = words.mark()?;
            Some(XtMatch::ConnMark { value, mask, negated })
        }
        ("mark", "--mark", _) => {
            let (value, mask) = words.mark()?;
            Some(XtMatch::Mark { value, mask, negated })
        }
        ("set", "--match-set", _) => {
            let name = SetName(words.next()?.to_owned());
            let directions = words.next()?.split(',').map(direction).collect::<Option<_>>()?;
            Some(XtMatch::Set { name, directions, negated })
        }
        ("addrtype", "--dst-type", false) => {
            words.expect("LOCAL")?;
            Some(XtMatch::DestinationLocal)
        }
        ("comment", "--comment", false) => Some(XtMatch::Comment(words.next()?.to_owned())),
        _ => None,
    }
}

fn header_match(words: &mut Words<'_>, option: &str, negated: bool) -> Option<XtMatch> {
    match (option, negated) {
        ("--sport", false) => words.number().map(XtMatch::SourcePort),
        ("--dport", false) => Some(XtMatch::DestinationPorts(vec![port_range(words.next()?)?])),
        ("--tcp-flags", _) => {
            words.expect("FIN,SYN,RST,ACK")?;
            words.expect("SYN")?;
            Some(XtMatch::TcpSyn { negated })
        }
        _ => None,
    }
}

fn port_range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    PortRange::new(first.parse().ok()?, last.parse().ok()?)
}

fn icmp_type(words: &mut Words<'_>) -> Option<XtMatch> {
    let text = words.next()?;
    if text == "any" {
        return Some(XtMatch::IcmpType { kind: u8::MAX, code: None });
    }
    let (kind, code) = match text.split_once('/') {
        None => (text, None),
        Some((kind, code)) => (kind, Some(code.parse().ok()?)),
    };
    Some(XtMatch::IcmpType { kind: kind.parse().ok()?, code })
}

fn connection_states(text: &str) -> Option<ConnectionStates> {
    let mut states = ConnectionStates::default();
    for name in text.split(',') {
        let state = match name {
            "INVALID" => &mut states.invalid,
            "NEW" => &mut states.new,
            "RELATED" => &mut states.related,
            "ESTABLISHED" => &mut states.established,
            "UNTRACKED" => &mut states.untracked,
            _ => return None,
        };
        *state = true;
    }
    Some(states)
}

fn direction(text: &str) -> Option<SetDirection> {
    match text {
        "src" => Some(SetDirection::Source),
        "dst" => Some(SetDirection::Destination),
        _ => None,
    }
}

fn random(words: &mut Words<'_>) -> Option<XtMatch> {
    words.expect("--mode")?;
    words.expect("random")?;
    words.expect("--probability")?;
    let threshold = probability::parse(words.next()?)?;
    Some(XtMatch::Random { threshold })
}
