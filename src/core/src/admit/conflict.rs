//! One external endpoint, one Mapping (T19).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{ObjectKey, PortRange, Protocol};

use super::problem::MAX_SENTENCES;
use super::{Admission, AdmittedMapping, ConflictProblem, Rejection};

/// Accepts `valid` Mappings greedily by age into `admission`; a loser is rejected whole and
/// stands in nobody's way. The order of `valid` does not matter.
pub(super) fn settle(mut valid: Vec<AdmittedMapping>, admission: &mut Admission) {
    valid.sort_by(|a, b| age(a).cmp(&age(b)));
    let mut owners = Owners::default();
    let verdicts: Vec<_> = valid.iter().map(|mapping| owners.claim(mapping)).collect();
    for (mapping, verdict) in valid.into_iter().zip(verdicts) {
        match verdict {
            Ok(()) => {
                admission.accepted.insert(mapping.key.clone(), mapping);
            }
            Err(conflicts) => {
                admission.rejected.insert(mapping.key, Rejection::Conflict(conflicts));
            }
        }
    }
}

/// The order in which Mappings claim: by creation time, none last, then by key.
fn age(mapping: &AdmittedMapping) -> impl Ord {
    (mapping.created.is_none(), mapping.created, &mapping.key)
}

/// The external endpoints that are taken.
#[derive(Default)]
struct Owners<'a> {
    taken: BTreeMap<(IpAddr, Protocol), DisjointRanges<'a>>,
}

/// Disjoint ranges by their first port, with the Mapping that owns each.
type DisjointRanges<'a> = BTreeMap<u16, (PortRange, &'a ObjectKey)>;

impl<'a> Owners<'a> {
    /// Takes all endpoints of `mapping`, or none if one of them is taken.
    fn claim(&mut self, mapping: &'a AdmittedMapping) -> Result<(), Vec<ConflictProblem>> {
        // One more than is printed, so that it can be said that there are more; a range may
        // meet thousands of owners.
        let conflicts: Vec<_> = endpoints(mapping)
            .flat_map(|(key, ports)| self.conflicts(key, ports))
            .take(MAX_SENTENCES + 1)
            .collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        for (key, ports) in endpoints(mapping) {
            self.taken.entry(key).or_default().insert(ports.first(), (ports, &mapping.key));
        }
        Ok(())
    }

    /// Owners of any of `ports`, by port.
    fn conflicts(
        &self,
        (address, protocol): (IpAddr, Protocol),
        ports: PortRange,
    ) -> impl Iterator<Item = ConflictProblem> {
        let ranges = self.taken.get(&(address, protocol));
        ranges.into_iter().flat_map(move |ranges| overlapping(ranges, ports)).map(
            move |(ports, winner)| ConflictProblem {
                address,
                protocol,
                ports,
                winner: winner.clone(),
            },
        )
    }
}

/// The endpoints that `mapping` wants, in the order of its specification.
pub(super) fn endpoints(
    mapping: &AdmittedMapping,
) -> impl Iterator<Item = ((IpAddr, Protocol), PortRange)> {
    mapping
        .addresses
        .iter()
        .flat_map(|address| mapping.ports.iter().map(|p| ((*address, p.protocol), p.ports)))
}

/// The parts of `ports` that are taken, by port: the range that begins before it, if it
/// reaches so far, and all that begin inside.
fn overlapping<'a>(
    ranges: &DisjointRanges<'a>,
    ports: PortRange,
) -> impl Iterator<Item = (PortRange, &'a ObjectKey)> {
    let before = ranges.range(..ports.first()).next_back();
    let inside = ranges.range(ports.first()..=ports.last());
    before.into_iter().chain(inside).filter_map(move |(_, (taken, owner))| {
        let first = taken.first().max(ports.first());
        PortRange::new(first, taken.last().min(ports.last())).map(|common| (common, *owner))
    })
}

#[cfg(test)]
mod tests;
