//! Full nodes: a B-tree that grew by one entry after the other in ascending order has nodes that
//! are hardly half full. After a compilation of everything they are laid out anew.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

/// Lays out a map anew.
pub(crate) fn pack_map<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = take(map).into_iter().collect();
}

/// Lays out a set anew.
pub(crate) fn pack_set<T: Ord>(set: &mut BTreeSet<T>) {
    *set = take(set).into_iter().collect();
}
