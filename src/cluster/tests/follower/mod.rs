//! Follows a cluster and remembers what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::client::Body;
use smartnat_cluster::api;
use smartnat_cluster::source::{SourceEvent, SourceOptions, WatchTrouble, WatchedResource, follow};
use smartnat_core::model::{ClusterObject, ClusterState, ObjectKey};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

type Failure = Box<dyn std::error::Error>;

/// Nothing that is waited for takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a follower was told of one namespace, folded.
#[derive(Default)]
pub(crate) struct Told {
    namespace: String,
    pub(crate) state: ClusterState,
    pub(crate) mappings: BTreeMap<ObjectKey, Arc<api::Mapping>>,
    pub(crate) leases: BTreeMap<String, Arc<Lease>>,
    pub(crate) changed: usize,
    /// Changes that the core had to hear of.
    pub(crate) for_core: usize,
    pub(crate) troubles: Vec<WatchTrouble>,
    pub(crate) recovered: Vec<WatchedResource>,
    pub(crate) relisted: Vec<WatchedResource>,
    pub(crate) resets: usize,
}

impl Told {
    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changed { objects, mappings } => {
                self.changed += 1;
                let mut for_core = false;
                for object in
                    objects.into_iter().filter(|o| namespace_of(o) == Some(&self.namespace))
                {
                    for_core = true;
                    self.state.update(object);
                }
                self.for_core += usize::from(for_core);
                let ours = |key: &ObjectKey| *key.namespace == *self.namespace;
                let mappings = mappings.into_iter().filter(|(key, _)| ours(key)).collect();
                take_changes(&mut self.mappings, mappings);
            }
            SourceEvent::Leases(leases) => take_changes(&mut self.leases, leases),
            SourceEvent::Trouble(trouble) => self.troubles.push(trouble),
            SourceEvent::Recovered(resource) => self.recovered.push(resource),
            SourceEvent::Relisted(resource) => self.relisted.push(resource),
            SourceEvent::Reset => self.resets += 1,
        }
    }
}

fn namespace_of(object: &ClusterObject) -> Option<&str> {
    Some(match object {
        ClusterObject::Mapping(mapping) => &mapping.key.namespace,
        ClusterObject::Service(service) => &service.key.namespace,
        ClusterObject::EndpointSlice(slice) => &slice.key.namespace,
        ClusterObject::Deleted(_, key) => &key.namespace,
        // No source tells of it.
        ClusterObject::Published(_) => return None,
    })
}

fn take_changes<K: Ord, V>(known: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => known.insert(key, value),
            None => known.remove(&key),
        };
    }
}

/// Requests as they were sent, and a gate that holds some of them back.
#[derive(Clone)]
pub(crate) struct Requests {
    sent: Arc<Mutex<Vec<String>>>,
    /// Requests with this in their path wait; empty: none.
    pub(crate) held: watch::Sender<&'static str>,
}

impl Requests {
    fn new() -> Self {
        Self { sent: Arc::default(), held: watch::Sender::new("") }
    }

    /// How many requests of this resource were lists; those for the server's revision are none.
    pub(crate) fn lists(&self, resource: &str) -> usize {
        self.count(|path, query| {
            let asks = |what| query.split('&').any(|parameter| parameter == what);
            path.ends_with(&format!("/{resource}")) && !asks("watch=true") && !asks("limit=1")
        })
    }

    /// How many requests of this resource were for a single object.
    pub(crate) fn gets(&self, resource: &str) -> usize {
        self.count(|path, _| path.contains(&format!("/{resource}/")))
    }

    fn count(&self, matches: impl Fn(&str, &str) -> bool) -> usize {
        let sent = self.sent.lock().unwrap();
        let split = sent.iter().map(|uri| uri.split_once('?').unwrap_or((uri, "")));
        split.filter(|(path, query)| matches(path, query)).count()
    }

    /// A client whose requests are noted here.
    fn client(&self, config: kube::Config) -> Result<Client, Failure> {
        let this = self.clone();
        let client = Client::try_from(config)?;
        let noted = tower::service_fn(move |request: http::Request<Body>| {
            let (this, client) = (this.clone(), client.clone());
            async move {
                let uri = request.uri().to_string();
                let passes = |held: &&str| held.is_empty() || !uri.contains(held);
                // Fails with the sender only, which is here.
                let _ = this.held.subscribe().wait_for(passes).await;
                this.sent.lock().unwrap().push(uri);
                client.send(request).await
            }
        });
        Ok(Client::new(noted, "default"))
    }
}

/// Follows a cluster; ends when dropped.
pub(crate) struct Follower {
    events: mpsc::Receiver<SourceEvent>,
    pub(crate) told: Told,
    pub(crate) requests: Requests,
    /// Has everything listed anew.
    pub(crate) anew: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Follows the cluster that `config` leads to, with the Leases of `namespace`.
    pub(crate) fn start(config: kube::Config, namespace: &str) -> Result<Self, Failure> {
        Self::start_held(config, namespace, "")
    }

    /// Likewise; requests with `held` in their path wait.
    pub(crate) fn start_held(
        mut config: kube::Config,
        namespace: &str,
        held: &'static str,
    ) -> Result<Self, Failure> {
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        let requests = Requests::new();
        requests.held.send_replace(held);
        let client = requests.client(config)?;
        let mut options = SourceOptions::new(namespace, "smartnat-test=instance");
        options.page_size = 50;
        let (to, events) = mpsc::channel(4);
        let anew = Arc::new(Notify::new());
        let told = Told { namespace: namespace.to_owned(), ..Told::default() };
        let task = tokio::spawn(follow(client, options, Arc::clone(&anew), to));
        Ok(Self { events, told, requests, anew, task })
    }

    /// Takes what is told until `condition` holds.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        condition: impl Fn(&Told) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.told) {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(event)) => self.told.take(event),
                Ok(None) => return Err(format!("the source ended before {what}").into()),
                Err(_) => {
                    let (state, troubles) = (&self.told.state, &self.told.troubles);
                    return Err(format!("never: {what}; told {state:?}, {troubles:?}").into());
                }
            }
        }
        Ok(())
    }

    /// Takes what is told within this time.
    pub(crate) async fn listen(&mut self, time: Duration) {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(deadline, self.events.recv()).await {
            self.told.take(event);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
