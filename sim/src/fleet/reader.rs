//! An instance's view of the API server: lists and watches, each as late as it is.

use std::collections::{BTreeMap, BTreeSet};

use smartnat_core::coordination::{LeaseName, LeaseRecord, MappingRecord};
use smartnat_core::model::{ClusterObject, ObjectKey};

use super::link::Link;
use crate::api_server::{ApiServer, Key, Kind, Object};

/// A list that is older than what was seen already is asked for again after this time.
const LIST_AGAIN_MILLIS: u64 = 500;

/// What is known of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// A list is due, from so many steps before the latest.
    list: Option<PendingList>,
    synced: bool,
    /// Steps of the history that were seen.
    position: usize,
    /// The latest version that was seen.
    version: u64,
    known: BTreeSet<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingList {
    at: u64,
    steps_back: usize,
}

/// What an instance hears at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) leases: Option<BTreeMap<LeaseName, Option<LeaseRecord>>>,
    pub(super) mappings: Option<BTreeMap<ObjectKey, Option<MappingRecord>>>,
    pub(super) objects: Vec<ClusterObject>,
}

impl News {
    /// Nothing is said of a kind that has just synced and is empty, yet it has synced.
    fn note_kind(&mut self, kind: Kind) {
        match kind {
            Kind::Leases => drop(self.leases.get_or_insert_default()),
            Kind::Mappings => drop(self.mappings.get_or_insert_default()),
            Kind::Services | Kind::Slices => {}
        }
    }

    fn note(&mut self, key: &Key, object: Option<&Object>) {
        match (key, object) {
            (Key::Lease(name), Some(Object::Lease(lease))) => {
                self.leases.get_or_insert_default().insert(name.clone(), Some(lease.clone()));
            }
            (Key::Lease(name), _) => {
                self.leases.get_or_insert_default().insert(name.clone(), None);
            }
            (Key::Mapping(name), Some(Object::Mapping(mapping))) => {
                let record = Some(mapping.record.clone());
                self.mappings.get_or_insert_default().insert(name.clone(), record);
            }
            (Key::Mapping(name), _) => {
                self.mappings.get_or_insert_default().insert(name.clone(), None);
            }
            _ => {}
        }
        self.objects.extend(object.map_or_else(|| key.deleted(), Object::for_gateway));
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Lists and watches of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    views: BTreeMap<Kind, View>,
}

impl Reader {
    /// Lists everything first; `steps_back`: how stale that list is.
    pub(super) fn new(now: u64, steps_back: &BTreeMap<Kind, usize>) -> Self {
        let view = |kind: Kind| View {
            list: Some(PendingList {
                at: now,
                steps_back: steps_back.get(&kind).copied().unwrap_or_default(),
            }),
            ..View::default()
        };
        Self { views: Kind::ALL.map(|kind| (kind, view(kind))).into() }
    }

    /// The watch of a kind is cut and what happens until the next list is not told. That list is
    /// from so many steps before the latest.
    pub(super) fn cut(&mut self, kind: Kind, now: u64, steps_back: usize) {
        self.view(kind).list = Some(PendingList { at: now, steps_back });
    }

    pub(super) fn synced(&self) -> bool {
        self.views.values().all(|view| view.synced)
    }

    /// When there is something to hear, if nothing happens before.
    pub(super) fn next(&self, server: &ApiServer, link: &Link) -> Option<u64> {
        if !link.reachable {
            return None;
        }
        let of = |(kind, view): (&Kind, &View)| match view.list {
            Some(list) => Some(list.at + link.lag_of(*kind)),
            None => server.history(*kind).get(view.position).map(|c| c.at + link.lag_of(*kind)),
        };
        self.views.iter().filter_map(of).min()
    }

    /// All that can be heard now.
    pub(super) fn poll(&mut self, server: &ApiServer, link: &Link, now: u64) -> News {
        let mut news = News::default();
        for kind in Kind::ALL.into_iter().filter(|_| link.reachable) {
            let view = self.view(kind);
            let lag = link.lag_of(kind);
            if let Some(list) = view.list.filter(|list| list.at + lag <= now) {
                view.read_list(kind, server, list, now, &mut news);
            }
            if view.list.is_none() {
                view.read_changes(kind, server, now.saturating_sub(lag), &mut news);
            }
        }
        news
    }

    fn view(&mut self, kind: Kind) -> &mut View {
        self.views.get_mut(&kind).expect("there is a view of each kind")
    }
}

impl View {
    fn read_list(
        &mut self,
        kind: Kind,
        server: &ApiServer,
        list: PendingList,
        now: u64,
        news: &mut News,
    ) {
        let history = server.history(kind);
        let steps = history.len().saturating_sub(list.steps_back);
        let version = steps.checked_sub(1).map_or(0, |last| history[last].version);
        if version < self.version {
            // The next one comes from a server that has caught up.
            self.list = Some(PendingList { at: now + LIST_AGAIN_MILLIS, steps_back: 0 });
            return;
        }
        let objects = server.list(kind, steps);
        news.note_kind(kind);
        for key in self.known.iter().filter(|key| !objects.contains_key(*key)) {
            news.note(key, None);
        }
        for (key, object) in &objects {
            news.note(key, Some(object));
        }
        let known = objects.into_keys().collect();
        *self = Self { list: None, synced: true, position: steps, version, known };
    }

    fn read_changes(&mut self, kind: Kind, server: &ApiServer, until: u64, news: &mut News) {
        let changes = server.history(kind)[self.position..].iter();
        for change in changes.take_while(|change| change.at <= until) {
            news.note(&change.key, change.object.as_ref());
            if change.object.is_some() {
                self.known.insert(change.key.clone());
            } else {
                self.known.remove(&change.key);
            }
            self.position += 1;
            self.version = change.version;
        }
    }
}
