//! Connection tracking: a table of flows.

use std::collections::BTreeMap;

use smartnat_core::objects::{Flow, FlowFilter, FlowKey, FlowTuple};

/// Conntrack entries by what names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    flows: BTreeMap<FlowKey, Flow>,
    last_id: u32,
}

impl Conntrack {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// A new entry with an id of its own, as a successor with an equal tuple gets one too.
    pub(super) fn add(&mut self, original: FlowTuple, reply: FlowTuple, mark: u32) -> FlowKey {
        self.last_id += 1;
        let key = FlowKey { original, id: self.last_id };
        self.flows.insert(key, Flow { key, reply, mark });
        key
    }

    /// Entries with `mark & filter.mask == filter.mark`.
    pub(super) fn select(&self, filter: FlowFilter) -> Vec<Flow> {
        self.flows.values().filter(|f| f.mark & filter.mask == filter.mark).copied().collect()
    }

    /// Deletes exactly this entry, if it is there.
    pub(super) fn delete(&mut self, key: &FlowKey) {
        self.flows.remove(key);
    }
}
