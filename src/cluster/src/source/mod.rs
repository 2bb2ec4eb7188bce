//! Follows a Kubernetes cluster: Mappings, Services, `EndpointSlices` and the instances' Leases.
//!
//! [`connect`] makes a client, [`follow`] tells what changes. A change after a quiet time is told
//! at once, those that follow are gathered; nothing is told before everything has been listed
//! once. Nothing goes back in time (T22), and while the API server cannot be reached nothing is
//! told to be gone (T23).

mod backoff;
pub(crate) mod classify;
mod connect;
mod fetch;
mod holdings;
mod hub;
mod leases;
mod secrets;
mod trouble;
mod version;
mod versions;
mod watch;
mod window;

pub use connect::{ConnectError, DefaultNamespace, connect};
pub use leases::ChangedLeases;
pub use secrets::Place;
pub use trouble::{TroubleClass, Verb, WatchTrouble, WatchedResource};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ApiResource};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use smartnat_core::model::{ClusterObject, ObjectKey};
use tokio::sync::{Notify, mpsc, watch as signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::api as mapping_api;
use crate::convert::SERVICE_NAME_LABEL;
use fetch::Fetches;
use hub::{Activity, Hub, Input};
use watch::{Step, Watch};

/// Messages between the watches and what brings them together. A message is up to a page of
/// objects, so few are enough and more would only cost memory.
const MESSAGES: usize = 2;
/// Everything is listed anew no more often than this, however often that is asked for: it costs
/// the server as much as a start.
const SHORTEST_ANEW: Duration = Duration::from_secs(5);

/// What to follow, and how changes are gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// Namespace of the instances' Leases.
    pub lease_namespace: String,
    /// Label selector of the instances' Leases; empty: all of the namespace.
    pub lease_selector: String,
    /// How long changes are gathered after the first one that was told.
    pub shortest_window: Duration,
    /// How long they are gathered at most, when they keep coming.
    pub longest_window: Duration,
    /// Objects in a page of a list.
    pub page_size: u32,
}

impl SourceOptions {
    /// The Leases, and defaults for the rest.
    pub fn new(lease_namespace: impl Into<String>, lease_selector: impl Into<String>) -> Self {
        Self {
            lease_namespace: lease_namespace.into(),
            lease_selector: lease_selector.into(),
            shortest_window: Duration::from_millis(50),
            longest_window: Duration::from_secs(1),
            page_size: 500,
        }
    }
}

/// What is told of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// What changed for the core. The first one is complete (and may be empty); it comes when
    /// everything has been listed and the slices of all named Services are known.
    Changed {
        /// Changed objects.
        objects: Vec<ClusterObject>,
        /// Every Mapping whose stored object changed at all since the last event, its status and
        /// metadata included; `None`: gone.
        mappings: BTreeMap<ObjectKey, Option<Arc<mapping_api::Mapping>>>,
    },
    /// Leases that changed, by name; `None`: gone. Not gathered. The first one is complete.
    Leases(BTreeMap<String, Option<Arc<Lease>>>),
    /// A watch is in trouble; told for each failed attempt.
    Trouble(WatchTrouble),
    /// What was in trouble is well again.
    Recovered(WatchedResource),
    /// A resource had to be listed again.
    Relisted(WatchedResource),
    /// The server was set back to an earlier state for good (a restored backup), seen in one
    /// resource, which is told anew from here on with versions that may be lower than those that
    /// were told before. What was remembered of versions counts no more. Told again for each
    /// resource in which it is seen.
    Reset,
}

/// Follows the cluster until `to` is closed.
///
/// [`Notify::notify_one`] of `anew` drops all watches and lists everything anew on other
/// connections, also what seems well: for people who ask for it, and for who has a reason to
/// believe that a watch no longer tells what happens, for example since what it writes itself is
/// not shown. Requests that come fast are taken as one.
pub async fn follow(
    client: Client,
    options: SourceOptions,
    anew: Arc<Notify>,
    to: mpsc::Sender<SourceEvent>,
) {
    let (told, mut reports) = mpsc::channel(MESSAGES);
    let mut watches = Watches {
        client: client.clone(),
        options,
        told,
        tasks: JoinSet::new(),
        anew: signal::Sender::new(0),
    };
    let mut next_anew = Instant::now();
    watches.start_all_but_slices();
    let mut hub = Hub::new(&watches.options);
    let mut fetches = Fetches::default();
    let mut slices_follow = false;
    loop {
        let now = Instant::now();
        if !slices_follow && hub.has_synced(WatchedResource::Mappings) {
            // Not earlier: now it is known which slices are worth keeping.
            watches.start_slices();
            slices_follow = true;
        }
        fetches.start(&mut hub.holdings, &client, now);
        if fetches.is_idle() {
            // Also when what could not be fetched is no longer needed.
            hub.well(WatchedResource::EndpointSlices, Activity::Fetching);
        }
        let due = hub.due(now);
        let wake = [due, fetches.resumes(), Some(next_anew)].into_iter().flatten();
        let wake = wake.filter(|at| *at > now).min();
        tokio::select! {
            () = to.closed() => return,
            permit = to.reserve(), if due.is_some_and(|due| due <= now) => {
                let Ok(permit) = permit else { return };
                if let Some(event) = hub.next_event(now) {
                    permit.send(event);
                }
            }
            report = reports.recv(), if hub.has_room() => {
                if let Some(report) = report {
                    hub.absorb(report, Instant::now());
                }
            }
            answer = fetches.next() => {
                let now = Instant::now();
                if let Some(trouble) = fetches.absorb(answer, &mut hub.holdings, now) {
                    hub.trouble(Activity::Fetching, trouble);
                }
                hub.note_changes(now);
            }
            () = anew.notified(), if next_anew <= now => {
                next_anew = now + SHORTEST_ANEW;
                watches.anew.send_modify(|times| *times = times.wrapping_add(1));
            }
            () = watches.failed() => {}
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }
}

/// The watches under way; they end with this value.
struct Watches {
    client: Client,
    options: SourceOptions,
    told: mpsc::Sender<Input>,
    tasks: JoinSet<()>,
    /// Changes when everything is to be listed anew.
    anew: signal::Sender<u64>,
}

impl Watches {
    fn start_all_but_slices(&mut self) {
        let mappings = ApiResource::erase::<mapping_api::Mapping>(&());
        let mappings = Api::all_with(self.client.clone(), &mappings);
        self.start(WatchedResource::Mappings, mappings, String::new(), Input::Mapping);
        let services = Api::all(self.client.clone());
        self.start(WatchedResource::Services, services, String::new(), Input::Service);
        let leases = Api::namespaced(self.client.clone(), &self.options.lease_namespace);
        let selector = self.options.lease_selector.clone();
        self.start(WatchedResource::Leases, leases, selector, Input::Lease);
    }

    fn start_slices(&mut self) {
        let slices = Api::all(self.client.clone());
        // Those without the label belong to no Service.
        let selector = SERVICE_NAME_LABEL.to_owned();
        self.start(WatchedResource::EndpointSlices, slices, selector, Input::Slice);
    }

    fn start<K>(
        &mut self,
        resource: WatchedResource,
        api: Api<K>,
        labels: String,
        tells: fn(Step<K>) -> Input,
    ) where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let namespace =
            (resource == WatchedResource::Leases).then(|| self.options.lease_namespace.clone());
        let watch = Watch {
            api,
            client: self.client.clone(),
            resource,
            namespace,
            labels,
            page_size: self.options.page_size,
            tells,
            to: self.told.clone(),
            anew: self.anew.subscribe(),
        };
        self.tasks.spawn(watch.run());
    }

    /// Waits for a watch to panic, and panics as it did. They end in no other way.
    async fn failed(&mut self) {
        match self.tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => std::future::pending().await,
        }
    }
}
