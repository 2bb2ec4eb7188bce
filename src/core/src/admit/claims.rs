//! Who owns which external endpoint (T19), kept from change to change: only the claims that a
//! change can touch are settled anew. [`super::admit`] settles all of them and is the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::conflict::endpoints;
use super::problem::MAX_SENTENCES;
use super::{AdmittedMapping, ConflictProblem};
use crate::model::{ObjectKey, PortRange, Protocol, Timestamp};
use crate::packed::{pack_map, pack_set};

/// Ports have 16 bits: a block of them is one of 17 sizes.
const BLOCK_SIZES: u32 = 17;

/// An external endpoint without its port.
type Place = (IpAddr, Protocol);

/// Ports of a place, by the first of them and by the power of two that they are.
type Block = (Place, u16, u32);

/// The order in which Mappings claim: by creation time, none last, then by key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Age {
    unknown: bool,
    created: Option<Timestamp>,
    key: ObjectKey,
}

impl Age {
    /// Of a Mapping.
    pub(crate) fn of(mapping: &AdmittedMapping) -> Self {
        Self {
            unknown: mapping.created.is_none(),
            created: mapping.created,
            key: mapping.key.clone(),
        }
    }

    /// The Mapping.
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }
}

/// What one valid Mapping wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Claim {
    age: Age,
    endpoints: Vec<(Place, PortRange)>,
    /// It owns all of them; else none.
    owns: bool,
}

impl Claim {
    fn of(mapping: &AdmittedMapping) -> Self {
        let endpoints = endpoints(mapping).collect();
        Self { age: Age::of(mapping), endpoints, owns: false }
    }
}

/// All claims of valid Mappings, and who owns what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Claims {
    of: BTreeMap<ObjectKey, Claim>,
    /// Who wants any of a block's ports: a block is 2^n ports that begin at a multiple of 2^n, and
    /// a range is the blocks that it consists of, so that ranges which overlap are found without
    /// a look at those which do not.
    /// Flat, since most blocks are wanted by one.
    wanted: BTreeSet<(Block, ObjectKey)>,
    /// Disjoint ranges by their first port.
    #[serde(with = "crate::objects::pairs")]
    owned: BTreeMap<(Place, u16), (PortRange, ObjectKey)>,
    /// Claims to be settled, the oldest first.
    open: BTreeSet<Age>,
}

impl Claims {
    /// Whether a Mapping owns what it wants.
    pub(crate) fn owns(&self, key: &ObjectKey) -> bool {
        self.of.get(key).is_some_and(|claim| claim.owns)
    }

    /// What of a Mapping's endpoints older ones own, the first few.
    pub(crate) fn conflicts(&self, key: &ObjectKey) -> Vec<ConflictProblem> {
        let Some(claim) = self.of.get(key) else { return Vec::new() };
        let overlaps = claim.endpoints.iter().flat_map(|(place, ports)| {
            self.owners(*place, *ports).map(move |(ports, winner)| (*place, ports, winner))
        });
        overlaps
            .filter(|(.., winner)| self.of[*winner].age < claim.age)
            .take(MAX_SENTENCES + 1)
            .map(|((address, protocol), ports, winner)| ConflictProblem {
                address,
                protocol,
                ports,
                winner: winner.clone(),
            })
            .collect()
    }

    /// A Mapping that was not known is valid, and is settled to own what it wants, or to own none.
    pub(crate) fn adopt(&mut self, mapping: &AdmittedMapping, owns: bool) {
        let claim = Claim { owns, ..Claim::of(mapping) };
        if owns {
            for (place, ports) in &claim.endpoints {
                self.owned.insert((*place, ports.first()), (*ports, mapping.key.clone()));
            }
        }
        self.want(claim);
    }

    /// Takes as little memory as it can.
    pub(crate) fn pack(&mut self) {
        pack_map(&mut self.of);
        pack_set(&mut self.wanted);
        pack_map(&mut self.owned);
    }

    /// A Mapping is valid now and wants this, or is no longer valid. [`Self::settle`] must follow.
    pub(crate) fn replace(&mut self, key: &ObjectKey, mapping: Option<&AdmittedMapping>) {
        let wanted = mapping.map(Claim::of);
        let same = match (self.of.get(key), &wanted) {
            (Some(old), Some(new)) => old.age == new.age && old.endpoints == new.endpoints,
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        if let Some(old) = self.of.remove(key) {
            for (place, ports) in &old.endpoints {
                self.forget(*place, *ports, key);
            }
            self.open.remove(&old.age);
            if old.owns {
                self.release(&old);
                self.reopen(&old);
            }
        }
        if let Some(claim) = wanted {
            self.open.insert(claim.age.clone());
            self.want(claim);
        }
    }

    fn want(&mut self, claim: Claim) {
        let key = claim.age.key.clone();
        for (place, ports) in &claim.endpoints {
            for (first, size) in blocks(*ports) {
                self.wanted.insert(((*place, first, size), key.clone()));
            }
        }
        self.of.insert(key, claim);
    }

    /// Settles what is open, greedily by age. Returns the Mappings that were looked at: no other
    /// has another verdict than before.
    pub(crate) fn settle(&mut self) -> BTreeSet<ObjectKey> {
        let mut settled = BTreeSet::new();
        while let Some(age) = self.open.pop_first() {
            let key = age.key;
            let Some(claim) = self.of.get(&key).cloned() else { continue };
            if claim.owns {
                self.release(&claim);
            }
            let owns = self.conflicts(&key).is_empty();
            if owns {
                self.take(&key, &claim);
            }
            if let Some(kept) = self.of.get_mut(&key) {
                kept.owns = owns;
            }
            // A loser stands in nobody's way: only who came to own, or owned, changes others.
            if owns != claim.owns {
                self.reopen(&claim);
            }
            settled.insert(key);
        }
        settled
    }

    /// Takes all endpoints from whoever is younger.
    fn take(&mut self, key: &ObjectKey, claim: &Claim) {
        for (place, ports) in &claim.endpoints {
            let younger: Vec<ObjectKey> =
                self.owners(*place, *ports).map(|(_, owner)| owner.clone()).collect();
            for owner in younger {
                let Some(loser) = self.of.get_mut(&owner) else { continue };
                loser.owns = false;
                let loser = loser.clone();
                self.release(&loser);
                // Who lost to it alone may own now.
                self.reopen(&loser);
                self.open.insert(loser.age);
            }
            self.owned.insert((*place, ports.first()), (*ports, key.clone()));
        }
    }

    fn release(&mut self, claim: &Claim) {
        for (place, ports) in &claim.endpoints {
            let at = (*place, ports.first());
            if self.owned.get(&at).is_some_and(|(_, owner)| *owner == claim.age.key) {
                self.owned.remove(&at);
            }
        }
    }

    /// Whoever is younger than `claim` and wants any of the same.
    fn reopen(&mut self, claim: &Claim) {
        for (place, ports) in &claim.endpoints {
            for key in self.wanting(*place, *ports) {
                let age = &self.of[&key].age;
                if *age > claim.age {
                    self.open.insert(age.clone());
                }
            }
        }
    }

    fn forget(&mut self, place: Place, ports: PortRange, key: &ObjectKey) {
        for (first, size) in blocks(ports) {
            self.wanted.remove(&((place, first, size), key.clone()));
        }
    }

    /// Everyone that wants any of `ports`: the blocks that begin among them, and those that begin
    /// before and reach so far.
    fn wanting(&self, place: Place, ports: PortRange) -> BTreeSet<ObjectKey> {
        let (first, last) = (ports.first(), ports.last());
        let inside = self.wanting_blocks((place, first, 0), (place, last, BLOCK_SIZES));
        let before = (0..BLOCK_SIZES).filter_map(|size| {
            let begins = block_of(first, size);
            (begins < first).then_some((place, begins, size))
        });
        let before = before.flat_map(|block| self.wanting_blocks(block, block));
        inside.chain(before).cloned().collect()
    }

    /// Who wants any of the blocks from `first` to `last`.
    fn wanting_blocks(&self, first: Block, last: Block) -> impl Iterator<Item = &ObjectKey> {
        let begin = (first, ObjectKey::new("", ""));
        let blocks = self.wanted.range(begin..).take_while(move |(block, _)| *block <= last);
        blocks.map(|(_, key)| key)
    }

    /// The parts of `ports` that are owned, by port: the range that begins before, if it reaches
    /// so far, and all that begin among them.
    fn owners(
        &self,
        place: Place,
        ports: PortRange,
    ) -> impl Iterator<Item = (PortRange, &ObjectKey)> {
        let before = self.owned.range((place, 0)..(place, ports.first())).next_back();
        let inside = self.owned.range((place, ports.first())..=(place, ports.last()));
        before.into_iter().chain(inside).filter_map(move |(_, (taken, owner))| {
            let first = taken.first().max(ports.first());
            PortRange::new(first, taken.last().min(ports.last())).map(|common| (common, owner))
        })
    }
}

/// The first port of the block of 2^size ports that `port` is in.
fn block_of(port: u16, size: u32) -> u16 {
    u16::try_from((u32::from(port) >> size) << size).unwrap_or(port)
}

/// The largest blocks that a range consists of, by first port and size: at most 30.
fn blocks(ports: PortRange) -> impl Iterator<Item = (u16, u32)> {
    let end = u32::from(ports.last()) + 1;
    let mut next = u32::from(ports.first());
    std::iter::from_fn(move || {
        let left = end.checked_sub(next).filter(|left| *left > 0)?;
        let size = next.trailing_zeros().min(left.ilog2());
        let first = u16::try_from(next).ok()?;
        next += 1 << size;
        Some((first, size))
    })
}

#[cfg(test)]
mod tests;
