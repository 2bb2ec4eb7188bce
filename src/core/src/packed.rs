//! Maps and sets without room to spare. A B-tree that grew by one entry after the other in ascending
//! order has nodes that are hardly half full: after a compilation of everything it is laid out anew.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use litemap::LiteMap;

/// Lays out a map anew.
pub(crate) fn pack_map<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = take(map).into_iter().collect();
}

/// Lays out a set anew.
pub(crate) fn pack_set<T: Ord>(set: &mut BTreeSet<T>) {
    *set = take(set).into_iter().collect();
}

/// A flat map with room for these entries alone; one that grew by itself has room for four.
pub(crate) fn flat_map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> LiteMap<K, V> {
    let entries: Vec<(K, V)> = entries.into_iter().collect();
    let mut map = LiteMap::with_capacity(entries.len());
    for (key, value) in entries {
        map.insert(key, value);
    }
    map
}
