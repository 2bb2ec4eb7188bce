//! The newest known state of each object of one resource (T22).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smartnat_core::model::ObjectKey;

use super::version::{Deletions, Version};

#[derive(Debug)]
struct Held<T> {
    version: Version,
    value: T,
}

/// A list under way.
#[derive(Debug)]
struct Listing {
    seen: BTreeSet<Arc<ObjectKey>>,
    /// The server went back in time for good: what it lists replaces what is newer here.
    resets: bool,
}

/// The newest known state of each object of one resource. What is older than that, repeated or
/// about an object that was deleted, is refused, whatever the order in which it comes.
#[derive(Debug)]
pub(super) struct Versions<T> {
    held: BTreeMap<Arc<ObjectKey>, Held<T>>,
    deletions: Deletions,
    listing: Option<Listing>,
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), deletions: Deletions::default(), listing: None }
    }
}

impl<T: Default> Versions<T> {
    /// Whether `version` of the object is news. If so it is the newest one from now on, and
    /// [`Self::get_mut`] has a value for the object.
    pub(super) fn admit(&mut self, key: &ObjectKey, version: Version) -> bool {
        let shared = self.share(key);
        let resets = self.listing.as_ref().is_some_and(|listing| listing.resets);
        if let Some(listing) = &mut self.listing {
            listing.seen.insert(Arc::clone(&shared));
        }
        match self.held.get_mut(key) {
            Some(held) if resets || version.is_after(&held.version) => held.version = version,
            Some(_) => return false,
            None if self.deletions.cover(&version) => return false,
            None => {
                self.held.insert(shared, Held { version, value: T::default() });
            }
        }
        true
    }

    /// Takes over `version` of an object that is known already, unless it is older than the known
    /// one; says whether it was. The same version is good: it is read again for its contents.
    pub(super) fn confirm(&mut self, key: &ObjectKey, version: Version) -> bool {
        match self.held.get_mut(key) {
            Some(held) if !version.is_before(&held.version) => {
                held.version = version;
                true
            }
            _ => false,
        }
    }

    /// The server says that the object was deleted. Returns what was known of it, if that is gone
    /// now: a deletion of an earlier object of the name leaves a later one alone.
    pub(super) fn delete(&mut self, key: &ObjectKey, version: &Version) -> Option<T> {
        self.deletions.note(version);
        self.held.get(key).filter(|held| version.ends(&held.version))?;
        self.held.remove(key).map(|held| held.value)
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.held.get(key).map(|held| &held.value)
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut T> {
        self.held.get_mut(key).map(|held| &mut held.value)
    }

    /// The key as it is kept here, so that others need not keep it a second time.
    pub(super) fn share(&self, key: &ObjectKey) -> Arc<ObjectKey> {
        let known = self.held.get_key_value(key);
        known.map_or_else(|| Arc::new(key.clone()), |(key, _)| Arc::clone(key))
    }

    /// A list begins. With `resets`, it holds even where newer states are known.
    pub(super) fn begin_list(&mut self, resets: bool) {
        if resets {
            self.deletions.forget();
        }
        self.listing = Some(Listing { seen: BTreeSet::new(), resets });
    }

    /// The list did not come to its end, so that what is missing in it may still exist.
    pub(super) fn abandon_list(&mut self) {
        self.listing = None;
    }

    /// The list is complete: returns what is known and was not listed, which is gone. Its deletion
    /// has no version, so nothing is remembered that could refuse a later state.
    pub(super) fn end_list(&mut self) -> Vec<(Arc<ObjectKey>, T)> {
        let Some(listing) = self.listing.take() else { return Vec::new() };
        self.held
            .extract_if(.., |key, _| !listing.seen.contains(key))
            .map(|(k, h)| (k, h.value))
            .collect()
    }
}

#[cfg(test)]
mod tests;
