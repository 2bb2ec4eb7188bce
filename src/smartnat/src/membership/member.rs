//! The loop of a member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smartnat_cluster::source::{ChangedLeases, SourceEvent};
use smartnat_cluster::write::{Writer, lease_record, mapping_record};
use smartnat_core::coordination::{
    ClusterEvent, CoordinationConfig, Coordinator, Input, LeaseName, LeaseRecord, Notice, Output,
    Write, WriteError, WriteId, Written,
};
use smartnat_core::model::{ClusterObject, ClusterState, Timestamp};
use smartnat_core::status::StatusReport;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::feed::Feed;
use super::notices::Notices;
use crate::driver::Incoming;
use crate::monitor::Monitor;

/// A write that takes longer is given up; whether it was done, the watch will tell. A renewal has
/// less time: a dead connection must not cost the Lease.
const MAX_WRITE: Duration = Duration::from_secs(15);
/// After a start the API server is waited for this long before what is remembered is served: it
/// takes much less to read a cluster, and a gateway that just booted serves nothing meanwhile.
const MAX_WAIT_FOR_CLUSTER: Duration = Duration::from_secs(5);
/// At the end leadership is given back within this time, or lapses.
const MAX_GOODBYE: Duration = Duration::from_secs(2);

/// Wall time as at the start, and never a jump after it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    base: Timestamp,
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let base = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Self { base, start: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.base.plus_millis(passed)
    }
}

/// What a member is connected to.
#[derive(Debug)]
pub(super) struct MemberEnds {
    /// What happens in the cluster.
    pub(super) source: mpsc::Receiver<SourceEvent>,
    /// Has it listed anew.
    pub(super) anew: Arc<Notify>,
    /// Who writes to it.
    pub(super) writer: Writer,
    /// Who writes events to it.
    pub(super) events: mpsc::Sender<ClusterEvent>,
    /// Events that could not be written.
    pub(super) failed_events: mpsc::Receiver<WriteError>,
    /// What the gateway tells.
    pub(super) reports: watch::Receiver<Option<Arc<StatusReport>>>,
    /// Who is told of the cluster.
    pub(super) driver: mpsc::Sender<Incoming>,
}

type Answer = (WriteId, Write, Result<Written, WriteError>);

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    coordinator: Coordinator,
    feed: Feed,
    ends: MemberEnds,
    clock: Clock,
    max_renewal: Duration,
    notices: Notices,
    writes: JoinSet<Answer>,
    /// What the Leases are for that were seen, by the name of the object.
    leases: BTreeMap<String, LeaseName>,
    remember_at: Option<tokio::time::Instant>,
}

/// The driver is gone.
struct DriverGone;

impl Member {
    /// A member that remembers this of its last run.
    pub(super) fn new(
        config: CoordinationConfig,
        remembered: Option<ClusterState>,
        ends: MemberEnds,
        monitor: Monitor,
    ) -> Self {
        let published = remembered.as_ref().and_then(|r| r.published.clone());
        let wait = remembered.as_ref().map(|_| tokio::time::Instant::now() + MAX_WAIT_FOR_CLUSTER);
        // Half the time between two renewals, so that the next one is in time.
        let max_renewal = Duration::from_millis(config.lease_millis / 6);
        Self {
            max_renewal,
            coordinator: Coordinator::new(config, published),
            feed: Feed::new(remembered),
            ends,
            clock: Clock::start(),
            notices: Notices::of_member(monitor),
            writes: JoinSet::new(),
            leases: BTreeMap::new(),
            remember_at: wait,
        }
    }

    /// Runs until `stop` is told, then gives leadership back.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            if self.act().await.is_err() {
                return;
            }
            let tick = self.coordinator.poll_timeout().map(|at| self.until(at));
            let remember_at = self.remember_at.filter(|_| self.feed.can_remember());
            let done = tokio::select! {
                _ = &mut stop => break,
                event = self.ends.source.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                Some(error) = self.ends.failed_events.recv() => {
                    self.notices.event_failed(&error);
                    Ok(())
                }
                Ok(()) = self.ends.reports.changed() => {
                    let report = self.ends.reports.borrow_and_update().clone();
                    if let Some(report) = report {
                        self.input(Input::Report(Box::new(report.as_ref().clone())));
                    }
                    Ok(())
                }
                Some(written) = self.writes.join_next(), if !self.writes.is_empty() => {
                    self.written(written);
                    Ok(())
                }
                () = tokio::time::sleep(tick.unwrap_or_default()), if tick.is_some() => {
                    self.input(Input::Tick);
                    Ok(())
                }
                () = tokio::time::sleep_until(remember_at.unwrap_or_else(tokio::time::Instant::now)),
                    if remember_at.is_some() => self.remember().await,
            };
            if done.is_err() {
                return;
            }
        }
        self.say_goodbye().await;
    }

    fn until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(at.0.saturating_sub(self.clock.now().0)) + Duration::from_millis(1)
    }

    fn input(&mut self, input: Input) {
        self.coordinator.handle_input(self.clock.now(), input);
    }

    /// Does all that the coordinator asks for now.
    async fn act(&mut self) -> Result<(), DriverGone> {
        while let Some(output) = self.coordinator.poll_output() {
            match output {
                Output::Write(id, write) => self.begin(id, write),
                Output::Published(addresses) => {
                    let changes = self.feed.published(addresses);
                    self.tell_driver(changes).await?;
                }
                // Status tells the same; a full queue must not hold the member up.
                Output::Event(event) => drop(self.ends.events.try_send(event)),
                Output::Notice(notice) => {
                    if notice == Notice::WatchBlind {
                        self.ends.anew.notify_one();
                    }
                    self.notices.notice(&notice);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: WriteId, write: Write) {
        let writer = self.ends.writer.clone();
        let is_lease = matches!(write, Write::Lease { .. });
        let limit = if is_lease { MAX_WRITE.min(self.max_renewal) } else { MAX_WRITE };
        self.writes.spawn(async move {
            let result = tokio::time::timeout(limit, writer.execute(&write)).await;
            let late = || WriteError::Transient(format!("no answer within {limit:?}"));
            (id, write, result.unwrap_or_else(|_| Err(late())))
        });
    }

    fn written(&mut self, written: Result<Answer, tokio::task::JoinError>) {
        match written {
            Ok((id, write, result)) => {
                self.notices.written(&write, &result);
                self.input(Input::Written(id, result));
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    async fn take(&mut self, event: SourceEvent) -> Result<(), DriverGone> {
        match event {
            SourceEvent::Changed { objects, mappings } => {
                let mut records = BTreeMap::new();
                for (key, mapping) in mappings {
                    match mapping.as_deref().map(mapping_record).transpose() {
                        Ok(record) => drop(records.insert(key, record)),
                        Err(error) => tracing::warn!("Mapping {key}: {error}"),
                    }
                }
                self.input(Input::Mappings(records));
                let changes = self.feed.changed(objects);
                self.tell_driver(changes).await?;
            }
            SourceEvent::Leases(leases) => {
                let leases = self.lease_records(leases);
                self.input(Input::Leases(leases));
            }
            SourceEvent::Trouble(trouble) => self.notices.trouble(&trouble),
            SourceEvent::Recovered(resource) => self.notices.recovered(resource),
            SourceEvent::Relisted(resource) => self.notices.relisted(resource),
            SourceEvent::Reset => self.input(Input::Reset),
        }
        Ok(())
    }

    /// Of a Lease that is gone only the name of the object is told.
    fn lease_records(&mut self, leases: ChangedLeases) -> BTreeMap<LeaseName, Option<LeaseRecord>> {
        let mut records = BTreeMap::new();
        for (object, lease) in leases {
            match lease.as_deref().and_then(lease_record) {
                Some((name, record)) => {
                    self.leases.insert(object, name.clone());
                    records.insert(name, Some(record));
                }
                None => {
                    if let Some(name) = self.leases.remove(&object) {
                        records.entry(name).or_insert(None);
                    }
                }
            }
        }
        records
    }

    async fn remember(&mut self) -> Result<(), DriverGone> {
        self.remember_at = None;
        let changes = self.feed.remember();
        if changes.is_some() {
            tracing::warn!(
                "the cluster can't be read within {MAX_WAIT_FOR_CLUSTER:?}; serving what is \
                 remembered of the last run until it can"
            );
        }
        self.tell_driver(changes).await
    }

    async fn tell_driver(&self, changes: Option<Vec<ClusterObject>>) -> Result<(), DriverGone> {
        let Some(changes) = changes else { return Ok(()) };
        self.ends.driver.send(Incoming::Cluster(changes)).await.map_err(|_| DriverGone)
    }

    /// Gives leadership back; what else was begun may end.
    async fn say_goodbye(mut self) {
        self.input(Input::Stop);
        let goodbye = async {
            while self.act().await.is_ok() {
                let Some(written) = self.writes.join_next().await else { break };
                self.written(written);
            }
        };
        // The others notice by themselves that it is gone.
        let _ = tokio::time::timeout(MAX_GOODBYE, goodbye).await;
    }
}
