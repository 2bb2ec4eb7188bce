//! `-j TARGET` with its options.

use std::net::IpAddr;

use super::Words;
use crate::model::Family;
use crate::objects::{ChainName, PortMapping, RejectWith, SetName, XtTarget};

/// What follows `-j`.
pub(super) fn parse(words: &mut Words<'_>, is_chain: impl Fn(&str) -> bool) -> Option<XtTarget> {
    let name = words.next()?;
    if is_chain(name) {
        return Some(XtTarget::Jump(ChainName(name.to_owned())));
    }
    match name {
        "ACCEPT" => Some(XtTarget::Accept),
        "DROP" => Some(XtTarget::Drop),
        "RETURN" => Some(XtTarget::Return),
        "MASQUERADE" => Some(XtTarget::Masquerade),
        "REJECT" => reject(words),
        "DNAT" => {
            words.expect("--to-destination")?;
            destination(words)
        }
        "SNAT" => {
            words.expect("--to-source")?;
            let address = words.next()?;
            words.address(address).map(|address| XtTarget::SourceNat { address })
        }
        "MARK" => {
            words.expect("--set-xmark")?;
            words.mark().map(|(value, mask)| XtTarget::SetMark { value, mask })
        }
        "CONNMARK" => connmark(words),
        "CT" => {
            words.expect("--notrack")?;
            Some(XtTarget::NoTrack)
        }
        "SET" => {
            words.expect("--add-set")?;
            let set = SetName(words.next()?.to_owned());
            words.expect("src")?;
            words.expect("--exist")?;
            Some(XtTarget::AddSourceToSet { set })
        }
        _ => None,
    }
}

fn reject(words: &mut Words<'_>) -> Option<XtTarget> {
    words.expect("--reject-with")?;
    let with = match (words.next()?, words.family) {
        ("tcp-reset", _) => RejectWith::TcpReset,
        ("icmp-port-unreachable", Family::V4) | ("icmp6-port-unreachable", Family::V6) => {
            RejectWith::PortUnreachable
        }
        _ => return None,
    };
    Some(XtTarget::Reject(with))
}

fn connmark(words: &mut Words<'_>) -> Option<XtTarget> {
    if words.take("--set-xmark") {
        return words.mark().map(|(value, mask)| XtTarget::SetConnMark { value, mask });
    }
    words.expect("--restore-mark")?;
    words.expect("--nfmask")?;
    let mask = words.mask()?;
    words.expect("--ctmask")?;
    (words.mask()? == mask).then_some(XtTarget::RestoreMark { mask })
}

fn destination(words: &mut Words<'_>) -> Option<XtTarget> {
    let text = words.next()?;
    let (host, ports) = split_destination(text, words.family)?;
    let address: IpAddr = words.address(host)?;
    let ports = ports.map_or(Some(PortMapping::Keep), port_mapping)?;
    Some(XtTarget::DestinationNat { address, ports })
}

/// `HOST[:PORTS]`, an IPv6 host with ports in brackets.
fn split_destination(text: &str, family: Family) -> Option<(&str, Option<&str>)> {
    match family {
        Family::V4 => {
            Some(text.split_once(':').map_or((text, None), |(host, ports)| (host, Some(ports))))
        }
        Family::V6 => match text.strip_prefix('[') {
            None => Some((text, None)),
            Some(rest) => match rest.split_once(']')? {
                (host, "") => Some((host, None)),
                (host, ports) => Some((host, Some(ports.strip_prefix(':')?))),
            },
        },
    }
}

/// `PORT` or `FIRST-LAST/BASE`.
fn port_mapping(text: &str) -> Option<PortMapping> {
    let Some((range, base)) = text.split_once('/') else {
        return text.parse().ok().map(PortMapping::To);
    };
    let base = base.parse().ok()?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some(PortMapping::Shift { first: first.parse().ok()?, last: last.parse().ok()?, base })
}
