//! The status of an instance for people.

use std::fmt::Write;

use smartnat_core::status::{MappingStatus, PortStatus, StatusReport, reason};

use super::Table;

/// Uplinks, Mappings and everything that calls for attention.
pub fn status_text(report: &StatusReport) -> String {
    let mut text = String::new();
    for line in &report.degraded {
        let _ = writeln!(text, "Degraded: {line}");
    }
    let mut uplinks = Table::new(&["UPLINK", "NUMBER", "ADDRESSES", "GATEWAYS", "GUARD"]);
    for (name, uplink) in &report.uplinks {
        uplinks.row([
            name.clone(),
            uplink.number.to_string(),
            joined(&uplink.addresses),
            joined(&uplink.gateways),
            if uplink.guarded { "on".into() } else { "off".into() },
        ]);
    }
    let mut mappings =
        Table::new(&["MAPPING", "ACCEPTED", "PROGRAMMED", "ADDRESSES", "PORTS", "ENDPOINTS"]);
    let mut remarks = String::new();
    for (key, status) in &report.mappings {
        let addresses: Vec<_> = status.configured_addresses.keys().collect();
        mappings.row([
            key.to_string(),
            condition(status, reason::ACCEPTED),
            condition(status, reason::PROGRAMMED),
            joined(&addresses),
            joined(&status.ports.iter().map(|port| &port.port).collect::<Vec<_>>()),
            joined(&status.ports.iter().map(endpoints).collect::<Vec<_>>()),
        ]);
        for remark in remarks_of(status) {
            let _ = writeln!(remarks, "{key}: {remark}");
        }
    }
    let _ = write!(text, "\n{uplinks}\n{mappings}");
    if !remarks.is_empty() {
        let _ = write!(text, "\n{remarks}");
    }
    text
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn condition(status: &MappingStatus, kind: &str) -> String {
    match status.conditions.iter().find(|condition| condition.kind == kind) {
        Some(condition) if condition.status => "yes".into(),
        Some(condition) => format!("no ({})", condition.reason),
        None => "?".into(),
    }
}

/// How many endpoints serve a port, the same for each address or all of them.
fn endpoints(port: &PortStatus) -> String {
    let mut counts: Vec<usize> = port.endpoints.values().map(Vec::len).collect();
    counts.dedup();
    match counts.as_slice() {
        [] => "0".into(),
        counts => counts.iter().map(ToString::to_string).collect::<Vec<_>>().join("/"),
    }
}

fn remarks_of(status: &MappingStatus) -> Vec<String> {
    let failed = status.conditions.iter().filter(|condition| !condition.status);
    // What follows from another condition is no news.
    let failed = failed.filter(|condition| condition.reason != reason::NOT_ACCEPTED);
    let failed = failed.map(|condition| condition.message.to_string());
    let waiting = status.ports.iter().filter_map(|port| {
        port.waiting.as_ref().map(|waiting| format!("port {} waits: {waiting}", port.port))
    });
    failed.chain(waiting).chain(status.remarks.iter().cloned()).collect()
}

#[cfg(test)]
mod tests;
