//! Counts of references.

use std::collections::BTreeMap;

/// How often each object is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct References<K>(BTreeMap<K, usize>);

impl<K: Ord + Clone> References<K> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, key: &K) {
        match self.0.get_mut(key) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(key.clone(), 1);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        let count = self.0.get_mut(key).expect("every reference was counted");
        *count -= 1;
        if *count == 0 {
            self.0.remove(key);
        }
    }

    pub(super) fn holds(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Everything that is referred to.
    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}
