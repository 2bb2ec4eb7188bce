//! Table nat: the first packet of a connection finds its endpoint here, or a verdict.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::TableBuilder;
use super::rules::{Narrow, accept, comment, rule, source_in, source_not_in};
use crate::dataplane::{Dataplane, MappingPlane, PortPlane};
use crate::marks::{MarkLayout, connmark};
use crate::model::{Family, ObjectKey, PortRange, Protocol, ServiceEndpoint};
use crate::names::{self, fixed_chain};
use crate::objects::{
    BuiltinHook, ChainName, PortMapping, XtMatch, XtRule, XtTableState, XtTarget,
};

const DNAT: &str = "DNAT";
const SNAT: &str = "SNAT";
const REFUSE: &str = "REFUSE";
const NOBODY_HOME: &str = "NOBODY-HOME";
const HAIRPIN: &str = "HAIRPIN";

/// `-m multiport` takes 15 ports; a range counts as two.
const MULTIPORT_SLOTS: usize = 15;
/// `-m comment` takes 255 bytes; namespace and name may have 63 and 253.
const MAX_COMMENT: usize = 255;

pub(super) fn table(dataplane: &Dataplane, family: Family) -> XtTableState {
    let marks = dataplane.marks;
    let mut table = TableBuilder::default();
    let mut exposed: BTreeMap<IpAddr, Vec<XtRule>> = BTreeMap::new();
    for (key, mapping) in &dataplane.mappings {
        let mut local = mapping.addresses.iter().filter(|a| Family::of(a) == family).peekable();
        if local.peek().is_none() {
            continue;
        }
        for address in local {
            exposed.entry(*address).or_default().extend(jumps_to_mapping(key, mapping));
        }
        add_mapping(&mut table, marks, family, key, mapping);
    }
    let (name, rules) = dispatch(exposed.keys());
    for (address, rules) in exposed {
        table.chain(names::address_chain(address), rules);
    }
    let entries = [BuiltinHook::Prerouting, BuiltinHook::Output];
    table.hooked_chain(&entries, name, rules);
    let (name, rules) = source_translation(dataplane, family);
    table.hooked_chain(&[BuiltinHook::Postrouting], name, rules);
    add_verdicts(&mut table, marks);
    table.0
}

/// The chain that finds the chain of an address.
pub(in crate::lower) fn dispatch<'a>(
    exposed: impl Iterator<Item = &'a IpAddr>,
) -> (ChainName, Vec<XtRule>) {
    let jump = |address: &IpAddr| {
        let mut jump = rule(XtTarget::Jump(names::address_chain(*address)));
        jump.destination = Some(IpNet::from(*address));
        jump
    };
    (fixed_chain(DNAT), exposed.map(jump).collect())
}

/// The chains of one Mapping in one family; none without an address of it.
pub(in crate::lower) fn chains_of_mapping(
    marks: MarkLayout,
    family: Family,
    key: &ObjectKey,
    mapping: &MappingPlane,
) -> BTreeMap<ChainName, Vec<XtRule>> {
    let mut table = TableBuilder::default();
    if mapping.addresses.iter().any(|a| Family::of(a) == family) {
        add_mapping(&mut table, marks, family, key, mapping);
    }
    table.0.chains
}

/// Verdicts are bits of the packet mark: filtering is not for the nat table.
fn add_verdicts(table: &mut TableBuilder, marks: MarkLayout) {
    let verdict = |bit| {
        let mask = marks.ours | marks.masquerade;
        vec![rule(XtTarget::SetMark { value: bit, mask }), accept()]
    };
    table.chain(fixed_chain(REFUSE), verdict(marks.masquerade));
    table.chain(fixed_chain(NOBODY_HOME), verdict(marks.ours));
    // A pod with egress that connects to an external endpoint is a client like any other (T12).
    let routing = marks.routing();
    table.chain(
        fixed_chain(HAIRPIN),
        vec![
            rule(XtTarget::SetConnMark {
                value: marks.masquerade,
                mask: routing | marks.masquerade | marks.ours,
            }),
            rule(XtTarget::SetMark { value: 0, mask: routing }),
        ],
    );
}

/// The jumps of an address's chain to one Mapping.
pub(in crate::lower) fn jumps_to_mapping(key: &ObjectKey, mapping: &MappingPlane) -> Vec<XtRule> {
    Protocol::ALL
        .into_iter()
        .flat_map(|protocol| {
            let ports: Vec<PortRange> =
                mapping.ports.iter().filter(|p| p.protocol == protocol).map(|p| p.ports).collect();
            groups(&ports).into_iter().map(move |group| {
                rule(XtTarget::Jump(names::mapping_chain(key)))
                    .protocol(protocol)
                    .all([XtMatch::DestinationPorts(group), mapping_comment(key)])
            })
        })
        .collect()
}

/// What a comment cannot hold is replaced: no name of an object may keep a table from its rules.
fn mapping_comment(key: &ObjectKey) -> XtMatch {
    let plain = |c: char| (' '..='~').contains(&c) && !matches!(c, '"' | '\\');
    let text: String =
        key.to_string().chars().map(|c| if plain(c) { c } else { '?' }).take(MAX_COMMENT).collect();
    comment(&text)
}

/// Splits ports into what one `multiport` takes.
fn groups(ports: &[PortRange]) -> Vec<Vec<PortRange>> {
    let mut groups: Vec<Vec<PortRange>> = Vec::new();
    let mut room = 0;
    for port in ports {
        let slots = if port.is_single() { 1 } else { 2 };
        match groups.last_mut() {
            Some(group) if room >= slots => group.push(*port),
            _ => {
                groups.push(vec![*port]);
                room = MULTIPORT_SLOTS;
            }
        }
        room -= slots;
    }
    groups
}

fn add_mapping(
    table: &mut TableBuilder,
    marks: MarkLayout,
    family: Family,
    key: &ObjectKey,
    mapping: &MappingPlane,
) {
    let networks = mapping.sources.of(family);
    let mut rules = Vec::new();
    if networks.is_empty() {
        rules.push(rule(XtTarget::Jump(fixed_chain(REFUSE))));
        table.chain(names::mapping_chain(key), rules);
        return;
    }
    if !mapping.sources.is_everyone(family) {
        let set = names::source_set(family, networks);
        rules.push(rule(XtTarget::Jump(fixed_chain(REFUSE))).with(source_not_in(set)));
    }
    for from_inside in [connmark(0, marks.routing()), marks.egress_connection()] {
        rules.push(rule(XtTarget::Jump(fixed_chain(HAIRPIN))).with(from_inside));
    }
    for port in &mapping.ports {
        let endpoints = port.endpoints.get(&family).map_or(&[][..], |e| &e.active);
        let target = if endpoints.is_empty() {
            fixed_chain(NOBODY_HOME)
        } else {
            add_port(table, marks, key, mapping, port, endpoints);
            names::port_chain(key, port.protocol, port.ports)
        };
        rules.push(
            rule(XtTarget::Jump(target))
                .protocol(port.protocol)
                .with(XtMatch::DestinationPorts(vec![port.ports])),
        );
    }
    table.chain(names::mapping_chain(key), rules);
}

fn add_port(
    table: &mut TableBuilder,
    marks: MarkLayout,
    key: &ObjectKey,
    mapping: &MappingPlane,
    port: &PortPlane,
    endpoints: &[ServiceEndpoint],
) {
    let flags = if mapping.masquerade { marks.ours | marks.masquerade } else { marks.ours };
    let mut rules = vec![rule(XtTarget::SetConnMark { value: flags, mask: flags })];
    let mut affine = Vec::new();
    let mut spread = Vec::new();
    for (position, endpoint) in endpoints.iter().enumerate() {
        let translate = translation(port, endpoint);
        let choice = match port.affinity_seconds {
            None => translate,
            Some(seconds) => {
                let set = names::affinity_set(key, port.protocol, port.ports, endpoint, seconds);
                let chain = names::endpoint_chain(key, port.protocol, port.ports, endpoint);
                let jump = rule(XtTarget::Jump(chain.clone()));
                affine.push(jump.clone().with(source_in(set.clone())));
                table.chain(chain, vec![rule(XtTarget::AddSourceToSet { set }), translate]);
                jump
            }
        };
        spread.push(match threshold(endpoints.len() - position) {
            Some(threshold) => choice.with(XtMatch::Random { threshold }),
            None => choice,
        });
    }
    rules.extend(affine);
    rules.extend(spread);
    table.chain(names::port_chain(key, port.protocol, port.ports), rules);
}

/// One of `left` endpoints that are left, of 2^31, to the nearest; `None` when there is one (T8).
fn threshold(left: usize) -> Option<u32> {
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    (left > 1).then(|| ((1 << 31) + left / 2) / left)
}

fn translation(port: &PortPlane, endpoint: &ServiceEndpoint) -> XtRule {
    let base = port.ports.first();
    let ports = if endpoint.port == base {
        PortMapping::Keep
    } else if port.ports.is_single() {
        PortMapping::To(endpoint.port)
    } else {
        let last = endpoint.port + (port.ports.last() - base);
        PortMapping::Shift { first: endpoint.port, last, base }
    };
    rule(XtTarget::DestinationNat { address: endpoint.address, ports }).protocol(port.protocol)
}

/// POSTROUTING: the gateway's address towards endpoints (T7), an external one for egress (T13).
pub(in crate::lower) fn source_translation(
    dataplane: &Dataplane,
    family: Family,
) -> (ChainName, Vec<XtRule>) {
    let marks = dataplane.marks;
    let mut rules = vec![
        rule(XtTarget::Masquerade).with(marks.translated_masquerade()),
        // Without masquerade nobody else's rule may hide the client either.
        accept().with(marks.translated()),
    ];
    for (address, plane) in dataplane.egress.iter().filter(|(a, _)| Family::of(a) == family) {
        let Some(uplink) = dataplane.uplinks.get(&plane.uplink) else { continue };
        let value = marks.uplink_mark(uplink.number) | marks.egress;
        let bit = marks.masquerade;
        let steps = [
            XtTarget::SetConnMark { value: bit, mask: bit },
            XtTarget::SourceNat { address: *address },
        ];
        rules.extend(steps.map(|target| {
            rule(target)
                .to_interface(&plane.uplink)
                .all([connmark(value, marks.routing()), source_in(names::egress_set(*address))])
        }));
    }
    (fixed_chain(SNAT), rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiport_groups_take_fifteen_slots_and_keep_every_port() {
        let single = |p| PortRange::single(p).unwrap();
        let range = |p| PortRange::new(p, p + 1).unwrap();
        let ports: Vec<PortRange> = (1..=14).map(single).chain([range(100), single(200)]).collect();
        let groups = groups(&ports);
        assert_eq!(groups.concat(), ports);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [14, 2]);
    }

    /// T8: every endpoint gets an equal share at every number of endpoints.
    #[test]
    fn thresholds_spread_evenly() {
        for count in [1_usize, 2, 3, 7, 100, 1000] {
            let mut left = 1.0;
            for position in 0..count {
                let p = threshold(count - position)
                    .map_or(1.0, |t| f64::from(t) / f64::from(1 << 30) / 2.0);
                let share = left * p;
                let even = 1.0 / f64::from(u32::try_from(count).unwrap());
                assert!(
                    (share - even).abs() < even * 1e-3,
                    "{count} endpoints, {position}: {share}"
                );
                left -= share;
            }
        }
    }
}
