//! The exposed ports of a Mapping.

use crate::model::{MappingPort, PortRange, PortReference, Protocol};

use super::spec::is_dns_label;
use super::{AdmittedPort, Problem};

const A_PORT: &str = "is no port; write a number from 1 to 65535";

/// One entry of `spec.ports` as far as it could be read.
struct Entry {
    protocol: Option<Protocol>,
    ports: Option<PortRange>,
    service_port: Option<PortReference>,
}

/// Parses `spec.ports` and fills in its defaults; what is wrong goes to `problems`.
pub(super) fn parse(
    entries: &[MappingPort],
    max_ports: usize,
    problems: &mut Vec<Problem>,
) -> Vec<AdmittedPort> {
    if entries.is_empty() {
        problems.push(Problem::missing("spec.ports", "is empty; list at least one port"));
    }
    if entries.len() > max_ports {
        problems.push(Problem::new(
            "spec.ports",
            format_args!("{} entries", entries.len()),
            format!(
                "are more than the limit of {max_ports}; join neighbouring ports into a range \
                 with endPort or split the Mapping"
            ),
        ));
    }
    let parsed: Vec<Entry> = entries
        .iter()
        .enumerate()
        .map(|(i, e)| parse_entry(&format!("spec.ports[{i}]"), e, problems))
        .collect();
    report_overlaps(&parsed, problems);
    parsed.into_iter().filter_map(Entry::complete).collect()
}

impl Entry {
    fn complete(self) -> Option<AdmittedPort> {
        Some(AdmittedPort {
            protocol: self.protocol?,
            ports: self.ports?,
            service_port: self.service_port?,
        })
    }
}

fn parse_entry(field: &str, entry: &MappingPort, problems: &mut Vec<Problem>) -> Entry {
    let ports = parse_range(field, entry, problems);
    let protocol = parse_protocol(field, entry.protocol.as_deref(), problems);
    let service_port = parse_service_port(field, entry.service_port.as_ref(), ports, problems);
    Entry { protocol, ports, service_port }
}

fn parse_range(field: &str, entry: &MappingPort, problems: &mut Vec<Problem>) -> Option<PortRange> {
    let mut number = |name: &str, value: i64| {
        let port = port_number(value);
        if port.is_none() {
            problems.push(Problem::new(format!("{field}.{name}"), value, A_PORT));
        }
        port
    };
    let first = entry.port.map(|value| number("port", value));
    let last = entry.end_port.map(|value| number("endPort", value));
    let Some(first) = first else {
        problems.push(Problem::missing(
            format!("{field}.port"),
            "is missing; write the external port, since none is allocated by itself",
        ));
        return None;
    };
    let (first, last) = (first?, last.unwrap_or(first)?);
    let range = PortRange::new(first, last);
    if range.is_none() {
        problems.push(Problem::new(
            format!("{field}.endPort"),
            last,
            format!("lies before port {first}; write the lower one as port"),
        ));
    }
    range
}

/// An empty protocol counts as absent: clients written in Go write absent strings so.
fn parse_protocol(
    field: &str,
    text: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<Protocol> {
    let text = text.filter(|t| !t.is_empty()).unwrap_or("tcp");
    let protocol = text.parse().ok();
    if protocol.is_none() {
        problems.push(Problem::new(
            format!("{field}.protocol"),
            text,
            "is no protocol that can be exposed; write tcp, udp or sctp",
        ));
    }
    protocol
}

fn parse_service_port(
    field: &str,
    reference: Option<&PortReference>,
    ports: Option<PortRange>,
    problems: &mut Vec<Problem>,
) -> Option<PortReference> {
    let field = || format!("{field}.servicePort");
    let problem = match reference {
        None => return ports.map(|p| PortReference::Number(p.first().into())),
        Some(PortReference::Name(name)) => {
            name_problem(name).map(|message| Problem::new(field(), name, message))
        }
        Some(PortReference::Number(number)) => match port_number(*number) {
            None => Some(Problem::new(field(), number, A_PORT)),
            Some(first) => ports
                .and_then(|ports| last_port_problem(first, ports))
                .map(|message| Problem::new(field(), number, message)),
        },
    };
    let accepted = problem.is_none();
    problems.extend(problem);
    reference.filter(|_| accepted).cloned()
}

/// Names of Service ports are DNS labels; one of digits alone is a number in quotes.
fn name_problem(name: &str) -> Option<&'static str> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        Some("is a number in quotes; write it without them")
    } else if is_dns_label(name) {
        None
    } else {
        Some(
            "is no name of a Service port; write a number, or at most 63 lower-case letters, \
             digits and inner hyphens",
        )
    }
}

fn last_port_problem(first: u16, ports: PortRange) -> Option<String> {
    let highest = 65_536 - ports.count();
    (u32::from(first) > highest).then(|| {
        format!(
            "starts a range of {} ports that ends beyond 65535; write at most {highest} or \
             shorten the range",
            ports.count()
        )
    })
}

/// Reports each entry that shares a port with an earlier one of the same protocol.
fn report_overlaps(entries: &[Entry], problems: &mut Vec<Problem>) {
    let mut ranges: Vec<(Protocol, PortRange, usize)> =
        entries.iter().enumerate().filter_map(|(i, e)| Some((e.protocol?, e.ports?, i))).collect();
    ranges.sort_unstable();
    let mut overlaps = Vec::new();
    let mut reaching: Option<(Protocol, PortRange, usize)> = None;
    for range in ranges {
        match reaching {
            Some(before) if before.0 == range.0 && before.1.overlaps(range.1) => {
                // Named at the later entry of the two: the earlier one was there first.
                let (earlier, later) =
                    if before.2 < range.2 { (before, range) } else { (range, before) };
                overlaps.push((later, earlier));
                if range.1.last() > before.1.last() {
                    reaching = Some(range);
                }
            }
            _ => reaching = Some(range),
        }
    }
    overlaps.sort_unstable_by_key(|(later, earlier)| (later.2, earlier.2));
    problems.extend(overlaps.into_iter().map(|((protocol, ports, i), (_, other, j))| {
        Problem::new(
            format!("spec.ports[{i}]"),
            format_args!("{protocol}/{ports}"),
            format!("shares a port with spec.ports[{j}] ({protocol}/{other}); list each port once"),
        )
    }));
}

fn port_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
