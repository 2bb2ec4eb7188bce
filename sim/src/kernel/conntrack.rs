//! Connection tracking: the table of entries, found by the tuple of either direction.

mod entry;

use std::collections::BTreeMap;

use smartnat_core::model::Timestamp;
use smartnat_core::objects::{Flow, FlowFilter, FlowKey, FlowTuple};

pub(crate) use entry::inverse;
pub use entry::{Direction, Entry, Progress, SctpState, TcpKind, TcpProgress, TcpState};

/// Source address, protocol, source port.
type SourceEnd = (std::net::IpAddr, u8, u16);

/// Conntrack entries by their id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    entries: BTreeMap<u32, Entry>,
    by_tuple: BTreeMap<FlowTuple, (u32, Direction)>,
    /// Entries whose source port was translated to another, by their original source.
    moved_sources: BTreeMap<SourceEnd, Vec<u32>>,
    last_id: u32,
}

impl Conntrack {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.entries.values().map(|entry| &entry.flow)
    }

    /// All entries with the state of their protocols.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A new entry with an id of its own, as a successor with an equal tuple gets one too. It never expires.
    pub(super) fn add(&mut self, original: FlowTuple, reply: FlowTuple, mark: u32) -> FlowKey {
        self.insert(Entry::made_by_hand(original, reply, mark))
    }

    /// Takes an entry in under a new id.
    pub(crate) fn insert(&mut self, mut entry: Entry) -> FlowKey {
        self.last_id += 1;
        entry.flow.key.id = self.last_id;
        let Flow { key, reply, .. } = entry.flow;
        self.by_tuple.insert(key.original, (key.id, Direction::Original));
        self.by_tuple.insert(reply, (key.id, Direction::Reply));
        if let Some(end) = moved_source(&entry) {
            self.moved_sources.entry(end).or_default().push(key.id);
        }
        self.entries.insert(key.id, entry);
        key
    }

    /// The living entry that a packet with this tuple belongs to.
    pub(crate) fn find(&self, tuple: &FlowTuple, now: Timestamp) -> Option<(&Entry, Direction)> {
        let (id, direction) = self.by_tuple.get(tuple)?;
        let entry = self.entries.get(id).filter(|entry| entry.lives(now))?;
        Some((entry, *direction))
    }

    /// Living entries from the same source end whose source port was moved, the youngest first.
    pub(crate) fn moved_from(
        &self,
        tuple: &FlowTuple,
        now: Timestamp,
    ) -> impl Iterator<Item = &Entry> {
        let end = (tuple.source, tuple.protocol, tuple.source_port());
        let ids = self.moved_sources.get(&end).into_iter().flatten().rev();
        ids.filter_map(|id| self.entries.get(id)).filter(move |entry| entry.lives(now))
    }

    /// Writes back what changes during the life of an entry; its tuples do not.
    pub(crate) fn update(&mut self, entry: &Entry) {
        if let Some(held) = self.entries.get_mut(&entry.flow.key.id) {
            *held = *entry;
        }
    }

    /// Entries with `mark & filter.mask == filter.mark`.
    pub(super) fn select(&self, filter: FlowFilter) -> Vec<Flow> {
        self.iter().filter(|f| f.mark & filter.mask == filter.mark).copied().collect()
    }

    /// Deletes exactly this entry, if it is there.
    pub(crate) fn delete(&mut self, key: &FlowKey) {
        if self.entries.get(&key.id).is_some_and(|entry| entry.flow.key == *key) {
            self.remove(key.id);
        }
    }

    /// Deletes the entries whose time is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over: Vec<u32> =
            self.entries.values().filter(|e| !e.lives(now)).map(|e| e.flow.key.id).collect();
        for id in over {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u32) {
        let Some(entry) = self.entries.remove(&id) else { return };
        for tuple in [entry.flow.key.original, entry.flow.reply] {
            // A younger entry with an equal tuple keeps its place.
            if self.by_tuple.get(&tuple).is_some_and(|(held, _)| *held == id) {
                self.by_tuple.remove(&tuple);
            }
        }
        if let Some(end) = moved_source(&entry)
            && let Some(ids) = self.moved_sources.get_mut(&end)
        {
            ids.retain(|held| *held != id);
            if ids.is_empty() {
                self.moved_sources.remove(&end);
            }
        }
    }
}

fn moved_source(entry: &Entry) -> Option<SourceEnd> {
    let (original, reply) = (&entry.flow.key.original, &entry.flow.reply);
    let end = (original.source, original.protocol, original.source_port());
    (reply.destination_port() != original.source_port()).then_some(end)
}
