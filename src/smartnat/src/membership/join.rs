//! Joining a cluster: the tasks of a member and how they end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use smartnat_cluster::source::{self, SourceEvent, SourceOptions, connect};
use smartnat_cluster::write::{EventRecorder, MAX_WAITING_EVENTS, Writer, lease_selector};
use smartnat_core::coordination::CoordinationConfig;
use smartnat_core::model::ClusterState;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::identity::identity;
use super::member::{Member, MemberEnds};
use super::memory::{Memory, remember};
use super::notices::Notices;
use crate::driver::{Incoming, Listeners};
use crate::error::CommandError;
use crate::monitor::Monitor;
use crate::settings::Settings;

/// Changes of the cluster that may wait.
const QUEUE: usize = 16;
/// Longest wait for the tasks of a member to end.
const MAX_END: Duration = Duration::from_secs(5);

/// A client of the API server that the settings name. Whether it can be reached is seen later.
pub async fn client(settings: &Settings) -> Result<Client, CommandError> {
    let kubeconfig: Option<&Path> = settings.cluster.kubeconfig.as_deref();
    let connected = connect(kubeconfig).await;
    connected.map(|(client, _)| client).map_err(|error| {
        CommandError::Usage(format!("{error} (--kubeconfig FILE, or --manifests DIR without one)"))
    })
}

/// A member at work.
#[derive(Debug)]
pub struct Membership {
    stop: oneshot::Sender<()>,
    member: JoinHandle<()>,
    memory: JoinHandle<()>,
}

impl Membership {
    /// Joins: from now on `driver` is told of the cluster, which is listed anew at each `reload`.
    /// What is returned beside is to be told of the driver.
    pub fn join(
        settings: &Settings,
        client: Client,
        driver: mpsc::Sender<Incoming>,
        reload: Arc<Notify>,
        monitor: &Monitor,
    ) -> Result<(Self, Listeners), CommandError> {
        let instance = settings.gateway.instance.clone();
        let namespace = settings.cluster.namespace.clone();
        let identity = identity(&instance)
            .map_err(|error| CommandError::Failed(format!("this host's identity: {error}")))?;
        let config = CoordinationConfig {
            instance: instance.clone(),
            identity,
            lease_millis: millis(settings.cluster.lease),
            max_finalize_millis: millis(settings.cluster.max_finalize_wait),
        };
        let memory = Memory::new(&settings.data_dir, &instance);
        let remembered = recall(&memory);

        let (told, source) = mpsc::channel(QUEUE);
        let (events, waiting_events) = mpsc::channel(MAX_WAITING_EVENTS);
        let (failed, failed_events) = mpsc::channel(QUEUE);
        let (reports_in, reports) = watch::channel(None);
        let (clusters_in, clusters) = watch::channel(None);
        let recorder = EventRecorder::new(client.clone(), namespace.clone(), instance);
        let writer = Writer::new(client.clone(), namespace.clone());
        let options = SourceOptions::new(namespace, lease_selector());
        let ends = MemberEnds {
            source,
            anew: Arc::clone(&reload),
            writer,
            events: events.clone(),
            failed_events,
            reports,
            driver,
        };

        tokio::spawn(source::follow(client, options, reload, told));
        // A failure that nobody has time for was told before.
        let on_failure = move |_: &_, error| drop(failed.try_send(error));
        tokio::spawn(recorder.follow(waiting_events, on_failure));
        let (stop, stopped) = oneshot::channel();
        let member = Member::new(config, remembered, ends, monitor.clone());
        let member = tokio::spawn(member.run(stopped));
        let memory = tokio::spawn(remember(memory, clusters));
        let listeners = Listeners { reports: reports_in, clusters: clusters_in, events };
        Ok((Self { stop, member, memory }, listeners))
    }

    /// Gives leadership back and keeps what was last good. The driver has ended before.
    pub async fn leave(self) {
        // It has ended already when the driver did by itself.
        let _ = self.stop.send(());
        let ends = async { (self.member.await, self.memory.await) };
        if tokio::time::timeout(MAX_END, ends).await.is_err() {
            tracing::warn!("leaving the cluster did not end within {MAX_END:?}");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn recall(memory: &Memory) -> Option<ClusterState> {
    memory.load().unwrap_or_else(|error| {
        tracing::warn!(
            "what was remembered in {} can't be read and is ignored: {error}",
            memory.path().display()
        );
        None
    })
}

/// Tells `driver` of the cluster, which is listed anew at each `reload`, and writes nothing there.
pub fn only_read(
    settings: &Settings,
    client: Client,
    driver: mpsc::Sender<Incoming>,
    reload: Arc<Notify>,
    monitor: &Monitor,
) {
    let mut notices = Notices::new(monitor.clone());
    let (told, mut source) = mpsc::channel(QUEUE);
    let options = SourceOptions::new(settings.cluster.namespace.clone(), lease_selector());
    tokio::spawn(source::follow(client, options, reload, told));
    tokio::spawn(async move {
        while let Some(event) = source.recv().await {
            match event {
                SourceEvent::Changed { objects, .. } => {
                    if driver.send(Incoming::Cluster(objects)).await.is_err() {
                        return;
                    }
                }
                SourceEvent::Trouble(trouble) => notices.trouble(&trouble),
                SourceEvent::Recovered(resource) => notices.recovered(resource),
                SourceEvent::Relisted(resource) => notices.relisted(resource),
                SourceEvent::Leases(_) | SourceEvent::Reset => {}
            }
        }
    });
}
