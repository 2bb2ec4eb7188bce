//! What must never happen, whatever goes wrong: looked at when a write begins and when the
//! server has done it, against the kernels themselves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smartnat_core::coordination::{
    FINALIZER, LeaseName, MappingRecord, Truth, Write, WriteError, Written,
};
use smartnat_core::model::{ClusterState, Family, Mapping, ObjectKey, PortRange, Protocol};
use smartnat_core::names::{address_chain, mapping_chain};
use smartnat_core::objects::nft::{NftKey, fields};
use smartnat_core::objects::{L4Match, XtMatch, XtRule, XtTable, XtTableId, XtTarget};
use smartnat_core::status::{MappingStatus, StatusReport, reason};

use super::Host;
use crate::SimKernel;
use crate::api_server::{ApiServer, Kind, Object, StoredMapping};
use crate::kernel::{HeldElement, HeldTable};

/// What can be seen from above.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) now: u64,
    pub(super) hosts: &'a BTreeMap<String, Host>,
    pub(super) server: &'a ApiServer,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    violations: Vec<String>,
    /// So long a lapsed instance holds up a deletion.
    patience: u64,
    /// When the server last took a renewal of an instance.
    renewals: BTreeMap<String, (u64, u64)>,
}

impl Judge {
    pub(super) fn new(patience: u64) -> Self {
        Self { patience, ..Self::default() }
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn write_begins(
        &mut self,
        now: u64,
        name: &str,
        host: &Host,
        server: &ApiServer,
        write: &Write,
    ) {
        match write {
            Write::Entries { instance, .. } if *instance == host.instance => {}
            Write::Entries { .. } | Write::Summary { .. } | Write::Finalizers { .. } => {
                let holder = server.lease(&LeaseName::Leader).map(|l| l.holder.as_str());
                if holder != Some(name) {
                    let text =
                        format!("{name} writes as the leader, which is {holder:?}: {write:?}");
                    self.violations.push(format!("{now} ms: {text}"));
                }
            }
            Write::Lease { .. } => {}
        }
    }

    /// What was wrong with reports and writes when they were made.
    pub(super) fn told(&mut self, now: u64, name: &str, wrong: Vec<String>) {
        self.violations.extend(wrong.into_iter().map(|w| format!("{now} ms: {name}: T21: {w}")));
    }

    pub(super) fn written(
        &mut self,
        look: Look<'_>,
        write: &Write,
        before: Option<&StoredMapping>,
        result: &Result<Written, WriteError>,
    ) {
        match (write, before, result) {
            (
                Write::Lease { name: LeaseName::Instance(instance), duration_millis, .. },
                _,
                Ok(_),
            ) => {
                self.renewals.insert(instance.clone(), (look.now, *duration_millis));
            }
            (Write::Finalizers { finalizers, .. }, Some(before), Ok(_))
                if before.record.deleting && !finalizers.iter().any(|f| f == FINALIZER) =>
            {
                self.removed(look, before);
            }
            _ => {}
        }
    }

    /// T20: nobody holds anything of what goes, but who lapsed and was waited for.
    fn removed(&mut self, look: Look<'_>, mapping: &StoredMapping) {
        let Look { now, hosts, server } = look;
        let (uid, patience) = (&mapping.record.uid, self.patience);
        let deleted =
            server.history(Kind::Mappings).iter().find_map(|change| match &change.object {
                Some(Object::Mapping(m)) if m.record.uid == *uid && m.record.deleting => {
                    Some(change.at)
                }
                _ => None,
            });
        let waited = now.saturating_sub(deleted.unwrap_or(now));
        for (name, host) in hosts {
            let concerned = is_concerned(server, &mapping.record, &host.instance);
            if !concerned || !holds_anything_of(&host.kernel, mapping.key()) {
                continue;
            }
            let (renewed, lease) = self.renewals.get(&host.instance).copied().unwrap_or_default();
            let silent = now.saturating_sub(renewed);
            let excused =
                silent >= lease && (waited >= patience || silent >= lease.saturating_add(patience));
            if !excused {
                let text = format!(
                    "{} goes while {name} holds something of it: renewed {silent} ms ago, deleted {waited} ms ago",
                    mapping.key()
                );
                self.violations.push(format!("{now} ms: T20: {text}"));
            }
        }
    }
}

/// Whether an instance publishes an address of a Mapping, or has said something of it. One whose
/// Lease somebody deleted is none until it has made it anew.
fn is_concerned(server: &ApiServer, mapping: &MappingRecord, instance: &str) -> bool {
    let lease = server.lease(&LeaseName::Instance(instance.to_owned()));
    let has_said = mapping.entries.iter().any(|e| e.instance == instance);
    lease.is_some_and(|l| has_said || !l.addresses.is_disjoint(&mapping.addresses))
}

/// T21: a write that says Programmed of what this host did not last report as read back.
pub(super) fn unreported(report: Option<&StatusReport>, write: &Write) -> Option<String> {
    let Write::Entries { mapping, uid, instance, entries } = write else { return None };
    let report = report.filter(|report| report.instance == *instance)?;
    let said = entries.iter().find(|entry| {
        let programmed = entry.conditions.iter().find(|c| c.kind == reason::PROGRAMMED);
        let is_said = programmed.filter(|c| c.truth == Truth::True);
        is_said.is_some_and(|c| {
            !report.mappings.get(mapping).is_some_and(|status| {
                (&status.uid, status.observed_generation) == (uid, c.generation)
                    && status.configured_addresses.contains_key(&entry.address)
                    && is_programmed(status)
            })
        })
    })?;
    Some(format!("{mapping} is said to be served on {}, which was not reported", said.address))
}

/// T21: a report that a Mapping is served which the kernel does not serve, or as it was before.
pub(super) fn untrue(
    report: &StatusReport,
    told: &ClusterState,
    kernel: &SimKernel,
) -> Option<String> {
    let served = report.mappings.iter().filter(|(_, status)| is_programmed(status));
    served.into_iter().find_map(|(key, status)| {
        let of_this =
            |m: &&Arc<Mapping>| (&m.uid, m.generation) == (&status.uid, status.observed_generation);
        let mapping = told.mappings.get(key).filter(of_this);
        let mut addresses = status.configured_addresses.keys();
        let is_true = mapping.is_some_and(|m| addresses.all(|a| serves(kernel, *a, m)));
        (!is_true).then(|| format!("{key} is reported as read back and served"))
    })
}

fn is_programmed(status: &MappingStatus) -> bool {
    status.conditions.iter().any(|c| c.kind == reason::PROGRAMMED && c.status)
}

/// Whether all ports of a Mapping are exposed on an address.
fn serves(kernel: &SimKernel, address: IpAddr, mapping: &Mapping) -> bool {
    mapping.spec.ports.iter().all(|port| {
        let text = port.protocol.as_deref().unwrap_or("tcp").to_lowercase();
        let protocol = Protocol::ALL.into_iter().find(|p| p.name() == text);
        let number = port.port.and_then(|p| u16::try_from(p).ok()).and_then(PortRange::single);
        let (Some(protocol), Some(ports)) = (protocol, number) else { return false };
        exposes(kernel, address, protocol, ports.first(), &mapping.key)
    })
}

/// Whether a kernel sends what arrives for an external endpoint to a Mapping.
pub fn exposes(
    kernel: &SimKernel,
    address: IpAddr,
    protocol: Protocol,
    port: u16,
    key: &ObjectKey,
) -> bool {
    let external =
        fields::join([&fields::address(address), &[protocol.number()], &port.to_be_bytes()]);
    let of_endpoint = |(element, _): &(&NftKey, _)| element.first == external;
    elements_of(kernel, key).any(|found| of_endpoint(&found))
        || chains_expose(kernel, address, protocol, port, key)
}

/// The same of chains of iptables.
fn chains_expose(
    kernel: &SimKernel,
    address: IpAddr,
    protocol: Protocol,
    port: u16,
    key: &ObjectKey,
) -> bool {
    let id = XtTableId { family: Family::of(&address), table: XtTable::Nat };
    let table = kernel.xtables().table(id);
    let chain = table.and_then(|t| t.chain(&address_chain(address)));
    let target = XtTarget::Jump(mapping_chain(key));
    let has_port = |rule: &XtRule| {
        rule.matches.iter().any(|m| match m {
            XtMatch::DestinationPorts(ports) => ports.iter().any(|p| p.contains(port)),
            _ => false,
        })
    };
    let first = chain
        .into_iter()
        .flatten()
        .find(|rule| rule.protocol == Some(L4Match::Transport(protocol)) && has_port(rule));
    first.is_some_and(|rule| rule.target == target)
}

/// Whether a kernel holds a chain of a Mapping, or an element that names it.
pub fn holds_anything_of(kernel: &SimKernel, key: &ObjectKey) -> bool {
    let chain = mapping_chain(key);
    kernel.xtables().tables().any(|table| table.chain(&chain).is_some())
        || elements_of(kernel, key).next().is_some()
}

/// The elements of our table of nftables that name a Mapping.
fn elements_of<'k>(
    kernel: &'k SimKernel,
    key: &ObjectKey,
) -> impl Iterator<Item = (&'k NftKey, &'k HeldElement)> {
    let name = key.to_string();
    let sets = kernel.nft().ours().into_iter().flat_map(HeldTable::sets);
    let elements = sets.flat_map(|(_, set)| set.elements());
    elements.filter(move |(_, held)| held.element.comment.as_deref() == Some(name.as_str()))
}
