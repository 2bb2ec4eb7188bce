//! Which routing rules and tables are the Go version's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use smartnat_core::model::Family;
use smartnat_core::objects::ROUTE_PROTOCOL;

use crate::routing::{MAIN_TABLE, destination, next_hops};

/// Its mark of an interface is this and the interface's index.
const FIRST_MARK: u32 = 0x800;
/// Indexes of interfaces that are gone are believed only up to here.
const MAX_INDEX: u32 = 0x7ff;
/// `default`, `main` and `local`, which belong to the system.
const SYSTEM_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// What a rule looks like, as far as a rule of the Go version has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SimpleRule {
    pub(super) priority: u32,
    pub(super) mark: Option<u32>,
    pub(super) source: Option<IpAddr>,
    pub(super) table: u32,
}

impl SimpleRule {
    /// `None` for a rule that has anything else.
    pub(super) fn decode(message: &RuleMessage) -> Option<Self> {
        let header = &message.header;
        let plain = header.action == RuleAction::ToTable
            && header.dst_len == 0
            && header.tos == 0
            && !header.flags.contains(RuleFlags::Invert);
        let mut rule =
            Self { priority: 0, mark: None, source: None, table: u32::from(header.table) };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
                RuleAttribute::Source(ip) if header.src_len == 32 => rule.source = Some(*ip),
                RuleAttribute::FwMask(u32::MAX)
                | RuleAttribute::SuppressPrefixLen(u32::MAX)
                | RuleAttribute::L3MDev(false)
                // Whatever a newer kernel tells of beside these says nothing about whose it is.
                | RuleAttribute::Other(_) => {}
                RuleAttribute::Protocol(protocol) if u8::from(*protocol) != ROUTE_PROTOCOL => {}
                _ => return None,
            }
        }
        let usable = plain && rule.table != 0 && !SYSTEM_TABLES.contains(&rule.table);
        usable.then_some(rule)
    }

    /// As `ip rule` writes it.
    pub(super) fn describe(&self, table_names: &BTreeMap<u32, String>) -> String {
        let mut text = format!("rule {}", self.priority);
        // Writing to a string cannot fail.
        if let Some(source) = self.source {
            let _ = write!(text, " from {source}");
        }
        if let Some(mark) = self.mark {
            let _ = write!(text, " fwmark {mark:#x}");
        }
        let _ = match table_names.get(&self.table) {
            Some(name) => write!(text, " lookup {name} (IPv4)"),
            None => write!(text, " lookup {} (IPv4)", self.table),
        };
        text
    }
}

/// What speaks for or against a rule by mark being the Go version's.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// Marks that its chains set.
    pub(super) marks: BTreeSet<u32>,
    /// Whether chains or sets of it are there.
    pub(super) has_netfilter: bool,
    /// Names of interfaces by index.
    pub(super) interfaces: BTreeMap<u32, String>,
    /// Names of routing tables.
    pub(super) table_names: BTreeMap<u32, String>,
}

impl Evidence {
    /// Whether a rule with `mark` that leads to `table` with these routes is the Go version's.
    pub(super) fn convicts(&self, rule: &SimpleRule, routes: &[RouteMessage]) -> bool {
        let Some(index) = rule.mark.and_then(|mark| mark.checked_sub(FIRST_MARK)) else {
            return false;
        };
        if rule.source.is_some() || index == 0 {
            return false;
        }
        if rule.mark.is_some_and(|mark| self.marks.contains(&mark)) {
            return true;
        }
        let used: BTreeSet<u32> =
            routes.iter().flat_map(next_hops).map(|hop| hop.interface).collect();
        if let Some(interface) = self.interfaces.get(&index) {
            let name_fits = self.table_names.get(&rule.table).is_none_or(|name| name == interface);
            return name_fits && used.iter().all(|i| *i == index);
        }
        // The interface is gone, and with it the routes.
        self.has_netfilter && index <= MAX_INDEX && used.is_empty()
    }
}

/// Names that `ip` knows routing tables by.
pub(super) fn table_names() -> BTreeMap<u32, String> {
    let files = ["/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables"];
    let texts = files.iter().filter_map(|path| match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%path, %error, "names of routing tables cannot be read");
            }
            None
        }
    });
    texts.flat_map(|text| parse_table_names(&text)).collect()
}

/// Lines `NUMBER NAME`, with comments.
pub(super) fn parse_table_names(text: &str) -> Vec<(u32, String)> {
    let entry = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        Some((number, words.next()?.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// A route as `ip route` writes it.
pub(super) fn describe_route(
    message: &RouteMessage,
    table: u32,
    evidence: &Evidence,
) -> Option<String> {
    let destination = destination(Family::V4, message)?;
    let mut text = match destination.prefix_len() {
        0 => "route default".to_owned(),
        _ => format!("route {destination}"),
    };
    for hop in next_hops(message) {
        if let Some(gateway) = hop.gateway {
            let _ = write!(text, " via {gateway}");
        }
        if let Some(name) = evidence.interfaces.get(&hop.interface) {
            let _ = write!(text, " dev {name}");
        }
    }
    let _ = match evidence.table_names.get(&table) {
        Some(name) => write!(text, " table {name} (IPv4)"),
        None => write!(text, " table {table} (IPv4)"),
    };
    debug_assert_ne!(table, MAIN_TABLE, "a system table is never a leftover");
    Some(text)
}
