//! Brings together what the watches tell, and decides when it is handed on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use tokio::time::Instant;

use super::holdings::Holdings;
use super::leases::Leases;
use super::trouble::{WatchTrouble, WatchedResource};
use super::watch::Step;
use super::window::Window;
use super::{SourceEvent, SourceOptions};

/// Changes wait for the end of a list, since what it lacks is known only then; but no longer than
/// this for a server that takes its time.
const LONGEST_LIST: Duration = Duration::from_secs(5);
/// So many notices may wait for their receiver before the watches wait, too.
const MOST_NOTICES: usize = 64;

/// What the watches tell.
pub(super) enum Input {
    Mapping(Step<DynamicObject>),
    Service(Step<Service>),
    Slice(Step<EndpointSlice>),
    Lease(Step<Lease>),
}

/// What is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    Watching,
    Fetching,
}

/// What a watch tells of objects.
enum Change<K> {
    Applied(Vec<K>),
    Deleted(K),
    Nothing,
}

/// Everything that is known and has yet to be told.
pub(super) struct Hub {
    pub(super) holdings: Holdings,
    leases: Leases,
    /// For what the core is told.
    objects: Window,
    /// For changes of Mappings that do not concern the core.
    metadata: Window,
    /// What was listed completely once.
    synced: BTreeSet<WatchedResource>,
    /// Lists under way, and since when.
    lists: BTreeMap<WatchedResource, Instant>,
    /// Whether the first changes were handed on.
    started: bool,
    /// Likewise the first Leases.
    leases_started: bool,
    notices: VecDeque<SourceEvent>,
    troubled: BTreeSet<(WatchedResource, Activity)>,
}

impl Hub {
    pub(super) fn new(options: &SourceOptions) -> Self {
        let window = || Window::new(options.shortest_window, options.longest_window);
        Self {
            holdings: Holdings::default(),
            leases: Leases::default(),
            objects: window(),
            metadata: window(),
            synced: BTreeSet::new(),
            lists: BTreeMap::new(),
            started: false,
            leases_started: false,
            notices: VecDeque::new(),
            troubled: BTreeSet::new(),
        }
    }

    /// Whether a resource was listed completely once.
    pub(super) fn has_synced(&self, resource: WatchedResource) -> bool {
        self.synced.contains(&resource)
    }

    /// Whether the watches may tell more.
    pub(super) fn has_room(&self) -> bool {
        self.notices.len() < MOST_NOTICES
    }

    /// Takes over what a watch tells.
    pub(super) fn absorb(&mut self, input: Input, now: Instant) {
        match input {
            Input::Mapping(step) => match self.step(WatchedResource::Mappings, step, now) {
                Change::Applied(mappings) => {
                    for mapping in mappings {
                        self.holdings.mapping_applied(mapping);
                    }
                }
                Change::Deleted(mapping) => self.holdings.mapping_deleted(&mapping),
                Change::Nothing => {}
            },
            Input::Service(step) => match self.step(WatchedResource::Services, step, now) {
                Change::Applied(services) => {
                    for service in &services {
                        self.holdings.service_applied(service);
                    }
                }
                Change::Deleted(service) => self.holdings.service_deleted(&service),
                Change::Nothing => {}
            },
            Input::Slice(step) => match self.step(WatchedResource::EndpointSlices, step, now) {
                Change::Applied(slices) => {
                    for slice in &slices {
                        self.holdings.slice_applied(slice);
                    }
                }
                Change::Deleted(slice) => self.holdings.slice_deleted(&slice),
                Change::Nothing => {}
            },
            Input::Lease(step) => match self.step(WatchedResource::Leases, step, now) {
                Change::Applied(leases) => {
                    for lease in leases {
                        self.leases.applied(lease);
                    }
                }
                Change::Deleted(lease) => self.leases.deleted(&lease),
                Change::Nothing => {}
            },
        }
        self.note_changes(now);
    }

    /// Opens the windows for what has yet to be told.
    pub(super) fn note_changes(&mut self, now: Instant) {
        if self.holdings.has_staged() {
            self.objects.changed(now);
        }
        if self.holdings.has_changed_mappings() {
            self.metadata.changed(now);
        }
    }

    /// What is alike for all resources.
    fn step<K>(&mut self, resource: WatchedResource, step: Step<K>, now: Instant) -> Change<K> {
        match step {
            Step::Page(objects) => return Change::Applied(objects),
            Step::Applied(object) => return Change::Applied(vec![*object]),
            Step::Deleted(object) => return Change::Deleted(*object),
            Step::ListBegan { resets } => {
                self.lists.insert(resource, now);
                if resets {
                    self.notices.push_back(SourceEvent::Reset);
                }
                self.holdings.begin_list(resource, resets);
                if resource == WatchedResource::Leases {
                    self.leases.begin_list(resets);
                }
            }
            Step::ListAbandoned => {
                self.lists.remove(&resource);
                self.holdings.abandon_list(resource);
                if resource == WatchedResource::Leases {
                    self.leases.abandon_list();
                }
            }
            Step::Listed => self.listed(resource),
            Step::Trouble(trouble) => self.trouble(Activity::Watching, trouble),
            Step::Well => self.well(resource, Activity::Watching),
        }
        Change::Nothing
    }

    fn listed(&mut self, resource: WatchedResource) {
        self.lists.remove(&resource);
        self.holdings.end_list(resource);
        if resource == WatchedResource::Leases {
            self.leases.end_list();
        }
        if !self.synced.insert(resource) {
            self.notices.push_back(SourceEvent::Relisted(resource));
        }
    }

    pub(super) fn trouble(&mut self, activity: Activity, trouble: WatchTrouble) {
        self.troubled.insert((trouble.resource, activity));
        self.notices.push_back(SourceEvent::Trouble(trouble));
    }

    pub(super) fn well(&mut self, resource: WatchedResource, activity: Activity) {
        let was_troubled = self.troubled.remove(&(resource, activity));
        if was_troubled && !self.troubled.iter().any(|(troubled, _)| *troubled == resource) {
            self.notices.push_back(SourceEvent::Recovered(resource));
        }
    }

    /// When the next event is to be sent, if there is one.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.notices.is_empty() || self.has_leases() {
            return Some(now);
        }
        self.changes_due(now)
    }

    fn has_leases(&self) -> bool {
        if self.leases_started {
            return self.leases.has_changed();
        }
        self.has_synced(WatchedResource::Leases)
    }

    fn changes_due(&self, now: Instant) -> Option<Instant> {
        if !self.started {
            let synced = WatchedResource::ALL.iter().all(|resource| self.has_synced(*resource));
            return (synced && self.holdings.is_complete()).then_some(now);
        }
        let due = self.objects.due().or(self.metadata.due())?;
        let list = self.lists.values().min().map(|since| *since + LONGEST_LIST);
        Some(list.map_or(due, |list| due.max(list)))
    }

    /// The event that is due.
    pub(super) fn next_event(&mut self, now: Instant) -> Option<SourceEvent> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        if self.has_leases() {
            self.leases_started = true;
            return Some(SourceEvent::Leases(self.leases.take()));
        }
        if self.changes_due(now).is_none_or(|due| due > now) {
            return None;
        }
        if self.holdings.has_staged() {
            self.objects.handed_on(now);
            self.metadata.cleared();
        } else {
            self.metadata.handed_on(now);
        }
        let (objects, mappings) = self.holdings.take();
        let first = !std::mem::replace(&mut self.started, true);
        (first || !objects.is_empty() || !mappings.is_empty())
            .then_some(SourceEvent::Changed { objects, mappings })
    }
}

#[cfg(test)]
mod tests;
