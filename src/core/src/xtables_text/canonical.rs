//! The one form of a rule among all that mean the same.

use ipnet::IpNet;

use crate::objects::{PortMapping, XtMatch, XtRule, XtTarget};

/// The form in which the kernel gives the rule back: networks without host bits, none of prefix
/// length 0, what concerns the transport header together (the nft flavour keeps one match for it),
/// a shifted range of one port as that port. An unknown rule is its text alone.
pub fn canonical(rule: &XtRule) -> XtRule {
    if let XtTarget::Unknown(text) = &rule.target {
        return XtRule::new(XtTarget::Unknown(text.clone()));
    }
    XtRule {
        source: canonical_network(rule.source),
        destination: canonical_network(rule.destination),
        in_interface: rule.in_interface.clone(),
        out_interface: rule.out_interface.clone(),
        protocol: rule.protocol,
        matches: canonical_matches(&rule.matches),
        target: canonical_target(&rule.target),
    }
}

fn canonical_network(network: Option<IpNet>) -> Option<IpNet> {
    network.map(|n| n.trunc()).filter(|n| n.prefix_len() > 0)
}

fn canonical_target(target: &XtTarget) -> XtTarget {
    match target {
        XtTarget::DestinationNat { address, ports: PortMapping::Shift { first, last, .. } }
            if first == last =>
        {
            XtTarget::DestinationNat { address: *address, ports: PortMapping::To(*first) }
        }
        other => other.clone(),
    }
}

/// Moves all matches of the transport header to the place of the first of them.
fn canonical_matches(matches: &[XtMatch]) -> Vec<XtMatch> {
    let mut header: Vec<&XtMatch> =
        matches.iter().filter(|m| header_position(m).is_some()).collect();
    header.sort_by_key(|m| header_position(m));
    let mut header = Some(header);
    let mut result = Vec::with_capacity(matches.len());
    for m in matches {
        if header_position(m).is_none() {
            result.push(m.clone());
        } else if let Some(group) = header.take() {
            result.extend(group.into_iter().cloned());
        }
    }
    result
}

/// Position within `-m tcp|udp|sctp`; `None` for a match of another module.
pub(super) fn header_position(m: &XtMatch) -> Option<u8> {
    match m {
        XtMatch::SourcePort(_) => Some(0),
        XtMatch::DestinationPorts(ranges) if ranges.len() == 1 => Some(1),
        XtMatch::TcpSyn { .. } => Some(2),
        _ => None,
    }
}
