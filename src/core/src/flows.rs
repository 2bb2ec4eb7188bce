//! Which connections the dataplane permits, and which it no longer does (T9, T10, T13).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::dataplane::{Dataplane, EgressPlane, MappingPlane, PortPlane};
use crate::marks::MarkLayout;
use crate::model::{Family, Protocol, ServiceEndpoint};
use crate::names;
use crate::objects::{Flow, FlowTuple, Layer4, SetElement};
use crate::ops::{Domain, NetworkOp, Transaction};
use crate::resolve::Keeps;

/// An index of what a dataplane permits, for judging many connections.
pub struct Permissions<'a> {
    dataplane: &'a Dataplane,
    ports: BTreeMap<(IpAddr, Protocol), Vec<(&'a MappingPlane, &'a PortPlane)>>,
}

impl<'a> Permissions<'a> {
    /// Indexes a dataplane.
    pub fn new(dataplane: &'a Dataplane) -> Self {
        let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for mapping in dataplane.mappings.values() {
            for address in &mapping.addresses {
                for port in &mapping.ports {
                    ports.entry((*address, port.protocol)).or_default().push((mapping, port));
                }
            }
        }
        for list in ports.values_mut() {
            list.sort_by_key(|(_, port)| port.ports);
        }
        Self { dataplane, ports }
    }

    /// Whether the dataplane permits a connection that carries our flag.
    pub fn permits(&self, flow: &Flow) -> bool {
        let marks = self.dataplane.marks;
        if marks.is_translated(flow.mark) {
            self.permits_translated(flow)
        } else if marks.is_egress(flow.mark) {
            self.permits_egress(flow)
        } else {
            true
        }
    }

    fn permits_translated(&self, flow: &Flow) -> bool {
        let external = &flow.key.original;
        let Some(protocol) = Protocol::from_number(external.protocol) else { return false };
        let number = external.destination_port();
        let Some((mapping, port)) = self
            .ports
            .get(&(external.destination, protocol))
            .and_then(|list| find_port(list, number))
        else {
            return false;
        };
        let offset = number - port.ports.first();
        let family = Family::of(&external.destination);
        let keeps = flow
            .reply
            .source_port()
            .checked_sub(offset)
            .map(|port| ServiceEndpoint { address: flow.reply.source, port })
            .and_then(|endpoint| port.endpoints.get(&family)?.listed.get(&endpoint));
        let lives_on = match keeps {
            Some(Keeps::All) => true,
            Some(Keeps::TcpOnly) => protocol == Protocol::Tcp,
            None => false,
        };
        lives_on && mapping.sources.allows(external.source)
    }

    /// Egress that stayed inside the cluster concerns nobody: it has no external address, but at
    /// most one that others' masquerading gave it.
    fn permits_egress(&self, flow: &Flow) -> bool {
        let left_with = flow.reply.destination;
        if left_with == flow.key.original.source
            || self.dataplane.inside_addresses.contains(&left_with)
        {
            return true;
        }
        self.dataplane.egress.get(&left_with).is_some_and(|plane| {
            let number = self.dataplane.uplinks.get(&plane.uplink).map(|u| u.number);
            plane.pods.contains(&flow.key.original.source)
                && number == Some(self.dataplane.marks.uplink_number(flow.mark))
        })
    }
}

fn find_port<'a>(
    list: &[(&'a MappingPlane, &'a PortPlane)],
    number: u16,
) -> Option<(&'a MappingPlane, &'a PortPlane)> {
    let after = list.partition_point(|(_, port)| port.ports.first() <= number);
    let found = list.get(after.checked_sub(1)?)?;
    found.1.ports.contains(number).then_some(*found)
}

/// Whether anything that `old` permits is not permitted by `new`: then a sweep is due.
pub fn withdraws(old: &Dataplane, new: &Dataplane) -> bool {
    let same_numbers = old
        .uplinks
        .iter()
        .all(|(name, uplink)| new.uplinks.get(name).is_some_and(|n| n.number == uplink.number));
    let mappings_kept = old.mappings.iter().all(|(key, before)| {
        new.mappings.get(key).is_some_and(|after| before == after || covers(after, before))
    });
    let egress_kept = old.egress.iter().all(|(address, before)| {
        new.egress.get(address).is_some_and(|after| {
            after.uplink == before.uplink && after.pods.is_superset(&before.pods)
        })
    });
    !(same_numbers && mappings_kept && egress_kept)
}

fn covers(after: &MappingPlane, before: &MappingPlane) -> bool {
    after.addresses.is_superset(&before.addresses)
        && Family::ALL.into_iter().all(|family| {
            let wide = after.sources.of(family);
            before.sources.of(family).iter().all(|net| wide.iter().any(|w| w.contains(net)))
        })
        && before.ports.iter().all(|old| {
            after.ports.iter().any(|new| {
                new.protocol == old.protocol && new.ports == old.ports && keeps_endpoints(new, old)
            })
        })
}

fn keeps_endpoints(after: &PortPlane, before: &PortPlane) -> bool {
    before.endpoints.iter().all(|(family, set)| {
        set.listed.iter().all(|(endpoint, keeps)| {
            let now = after.endpoints.get(family).and_then(|s| s.listed.get(endpoint));
            now.is_some_and(|now| now >= keeps)
        })
    })
}

/// The transactions that end connections: first their packets are held back, so that none
/// escapes untranslated, then their entries go (T10).
///
/// `egress` is what pods leave with from now on: such a pod's packets are translated anew.
pub fn end_flows(
    flows: &[Flow],
    marks: MarkLayout,
    egress: &BTreeMap<IpAddr, EgressPlane>,
) -> Vec<Transaction> {
    let leaves = |flow: &Flow| {
        let pod = flow.key.original.source;
        marks.is_egress(flow.mark) && egress.values().any(|plane| plane.pods.contains(&pod))
    };
    let escaping = flows.iter().filter(|flow| !leaves(flow));
    let held_back: Vec<NetworkOp> = escaping.filter_map(|f| quarantine(f, marks)).collect();
    let deleted: Vec<NetworkOp> = flows.iter().map(|f| NetworkOp::DeleteFlow(f.key)).collect();
    [(Domain::Sets, held_back), (Domain::Flows, deleted)]
        .into_iter()
        .filter(|(_, ops)| !ops.is_empty())
        .map(|(domain, ops)| Transaction { domain, ops })
        .collect()
}

/// The packets that an inside host goes on to send. With masquerade they are addressed to this
/// host, which answers with a reset; without, they would be routed on.
fn quarantine(flow: &Flow, marks: MarkLayout) -> Option<NetworkOp> {
    let inside: FlowTuple = if marks.is_egress(flow.mark) { flow.key.original } else { flow.reply };
    let client = flow.key.original.source;
    if marks.is_translated(flow.mark) && flow.reply.destination != client {
        return None;
    }
    let protocol = Protocol::from_number(inside.protocol)?;
    let Layer4::Ports { source, .. } = inside.layer4 else { return None };
    Some(NetworkOp::AddElement {
        set: names::quarantine_set(Family::of(&inside.source)),
        element: SetElement::IpPortIp {
            ip: inside.source,
            protocol,
            port: source,
            other: inside.destination,
        },
    })
}
