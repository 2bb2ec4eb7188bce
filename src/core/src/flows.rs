//! Which connections the dataplane permits, and which it no longer does (T9, T10, T13).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::dataplane::{Before, Dataplane, EgressPlane, Exposure, MappingPlane, PortPlane};
use crate::lower::quarantine_set;
use crate::marks::MarkLayout;
use crate::model::{Backend, Family, Protocol, ServiceEndpoint};
use crate::names;
use crate::objects::nft::{NftElement, NftKey, NftValue, fields};
use crate::objects::{Flow, FlowTuple, Layer4, SetElement};
use crate::ops::{Domain, NetworkOp, NftOp, Transaction};
use crate::resolve::Keeps;

/// What a dataplane permits, with an index for judging many connections.
pub struct Permissions<'a> {
    dataplane: &'a Dataplane,
    exposure: Cow<'a, Exposure>,
}

impl<'a> Permissions<'a> {
    /// Indexes a dataplane.
    pub fn new(dataplane: &'a Dataplane) -> Self {
        Self { dataplane, exposure: Cow::Owned(Exposure::new(dataplane)) }
    }

    /// With the index of `dataplane` that there is.
    pub(crate) fn indexed(dataplane: &'a Dataplane, exposure: &'a Exposure) -> Self {
        Self { dataplane, exposure: Cow::Borrowed(exposure) }
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

    fn exposed(
        &self,
        address: IpAddr,
        protocol: Protocol,
        number: u16,
    ) -> Option<(&MappingPlane, &PortPlane)> {
        let exposed = self.exposure.find(address, protocol, number)?;
        let mapping = self.dataplane.mappings.get(&exposed.mapping)?;
        Some((mapping, mapping.ports.get(exposed.position)?))
    }

    fn permits_translated(&self, flow: &Flow) -> bool {
        let external = &flow.key.original;
        let Some(protocol) = Protocol::from_number(external.protocol) else { return false };
        let number = external.destination_port();
        let Some((mapping, port)) = self.exposed(external.destination, protocol, number) else {
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

/// Whether anything that `old` permits is not permitted by `new`: then a sweep is due.
pub fn withdraws(old: &Dataplane, new: &Dataplane) -> bool {
    withdrawn(&Before::between(old.clone(), new), new)
}

/// Whether anything that was permitted before is not permitted by `new`.
pub(crate) fn withdrawn(before: &Before, new: &Dataplane) -> bool {
    let same_numbers = before.uplinks.iter().all(|(name, number)| {
        number.is_none() || new.uplinks.get(name).map(|u| u.number) == *number
    });
    let mappings_kept = before.mappings.iter().all(|(key, before)| {
        let Some(before) = before else { return true };
        new.mappings.get(key).is_some_and(|after| before == after || covers(after, before))
    });
    let egress_kept = before
        .pods
        .iter()
        .all(|(pod, exit)| exit.as_ref().is_none_or(|exit| new.lets_out(*pod, exit)));
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
    backend: Backend,
) -> Vec<Transaction> {
    let leaves = |flow: &Flow| {
        let pod = flow.key.original.source;
        marks.is_egress(flow.mark) && egress.values().any(|plane| plane.pods.contains(&pod))
    };
    let escaping = flows.iter().filter(|flow| !leaves(flow));
    let held_back = escaping.filter_map(|flow| inside_end(flow, marks));
    let held_back = match backend {
        Backend::Nftables => in_table(held_back),
        Backend::Iptables | Backend::Simulated => {
            let ops: Vec<NetworkOp> = held_back.map(|end| end.in_set()).collect();
            (!ops.is_empty())
                .then_some(Transaction { domain: Domain::Sets, ops })
                .into_iter()
                .collect()
        }
    };
    let deleted: Vec<NetworkOp> = flows.iter().map(|f| NetworkOp::DeleteFlow(f.key)).collect();
    let deleted =
        (!deleted.is_empty()).then_some(Transaction { domain: Domain::Flows, ops: deleted });
    held_back.into_iter().chain(deleted).collect()
}

/// What an inside host goes on to send of an ended connection.
struct InsideEnd {
    source: IpAddr,
    protocol: Protocol,
    port: u16,
    destination: IpAddr,
}

impl InsideEnd {
    fn in_set(&self) -> NetworkOp {
        let Self { source, protocol, port, destination } = *self;
        NetworkOp::AddElement {
            set: names::quarantine_set(Family::of(&source)),
            element: SetElement::IpPortIp { ip: source, protocol, port, other: destination },
        }
    }

    fn in_table(&self) -> NetworkOp {
        let [source, destination] = [self.source, self.destination].map(fields::address);
        let port = self.port.to_be_bytes();
        let key = fields::join([&source, &[self.protocol.number()], &port, &destination]);
        NetworkOp::Nft(NftOp::AddElement {
            set: quarantine_set(Family::of(&self.source)),
            key: NftKey::exact(key),
            element: NftElement { value: NftValue::Nothing, comment: None },
        })
    }
}

/// So many at a time: what no longer fits the set takes no more of the others with it.
const HELD_BACK_AT_ONCE: usize = 1024;

fn in_table(ends: impl Iterator<Item = InsideEnd>) -> Vec<Transaction> {
    let ops: Vec<NetworkOp> = ends.map(|end| end.in_table()).collect();
    let parts = ops.chunks(HELD_BACK_AT_ONCE);
    parts.map(|ops| Transaction { domain: Domain::Nftables, ops: ops.to_vec() }).collect()
}

/// The packets that an inside host goes on to send. With masquerade they are addressed to this
/// host, which answers with a reset; without, they would be routed on.
fn inside_end(flow: &Flow, marks: MarkLayout) -> Option<InsideEnd> {
    let inside: FlowTuple = if marks.is_egress(flow.mark) { flow.key.original } else { flow.reply };
    let client = flow.key.original.source;
    if marks.is_translated(flow.mark) && flow.reply.destination != client {
        return None;
    }
    let protocol = Protocol::from_number(inside.protocol)?;
    let Layer4::Ports { source, .. } = inside.layer4 else { return None };
    let (source, port, destination) = (inside.source, source, inside.destination);
    Some(InsideEnd { source, protocol, port, destination })
}
