//! What is counted as it happens.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use smartnat_core::gateway::EventKind;
use smartnat_core::ops::{Domain, OpError, OpErrorClass};

/// No label: a family, so that nothing is told before the first value.
type Zero = [(&'static str, &'static str); 0];
/// One label of a fixed set of values, so that the number of series is bounded.
type One = [(&'static str, &'static str); 1];
/// Two of them.
type Two = [(&'static str, &'static str); 2];
type Seconds = Gauge<f64, AtomicU64>;
type Durations = Family<One, Histogram, fn() -> Histogram>;

/// From a look at a quiet host to a cold start with 10,000 Mappings.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

/// What part of a sync takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The core compiles and compares.
    Decide,
    /// The kernel is read.
    Observe,
    /// A transaction is executed.
    Apply,
    /// Connections are listed.
    Sweep,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Decide, Self::Observe, Self::Apply, Self::Sweep];

    fn label(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Observe => "observe",
            Self::Apply => "apply",
            Self::Sweep => "sweep",
        }
    }
}

/// Counters and histograms of a run. Clones are the same ones.
///
/// Labels are `&'static str`: what comes from outside must not make series without bound.
#[derive(Clone, Debug)]
pub struct Metrics {
    syncs: Family<One, Counter>,
    sync_duration: Histogram,
    stage_duration: Durations,
    last_successful_sync: Seconds,
    transactions: Family<Two, Counter>,
    operations: Family<Two, Counter>,
    reads: Family<Two, Counter>,
    child_processes: Counter,
    events: Family<One, Counter>,
    drift_repairs: Counter,
    traffic_read_failures: Counter,
    api_errors: Family<One, Counter>,
    watch_restarts: Family<One, Counter>,
    api_writes: Family<Two, Counter>,
    leader: Family<Zero, Gauge>,
    lease_renewed: Family<Zero, Seconds>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            syncs: Family::default(),
            sync_duration: histogram(),
            stage_duration: Family::new_with_constructor(histogram),
            last_successful_sync: Gauge::default(),
            transactions: Family::default(),
            operations: Family::default(),
            reads: Family::default(),
            child_processes: Counter::default(),
            events: Family::default(),
            drift_repairs: Counter::default(),
            traffic_read_failures: Counter::default(),
            api_errors: Family::default(),
            watch_restarts: Family::default(),
            api_writes: Family::default(),
            leader: Family::default(),
            lease_renewed: Family::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        metrics.register_syncs(registry);
        metrics.register_kernel(registry);
        metrics.register_api(registry);
        metrics.begin_at_zero();
        metrics
    }

    fn register_syncs(&self, registry: &mut Registry) {
        registry.register(
            "syncs",
            "Syncs that changed the kernel, by result: ok (read back as wanted) or failed",
            self.syncs.clone(),
        );
        registry.register_with_unit(
            "sync_duration",
            "From a change to a kernel that was read back as wanted; syncs without a change of \
             the kernel are left out",
            Unit::Seconds,
            self.sync_duration.clone(),
        );
        registry.register_with_unit(
            "sync_stage_duration",
            "Steps of syncs: decide (one input to the core), observe (reading the kernel), apply \
             (one transaction), sweep (listing connections)",
            Unit::Seconds,
            self.stage_duration.clone(),
        );
        registry.register_with_unit(
            "last_successful_sync_timestamp",
            "When the kernel was last read and held all that is wanted, in Unix time; 0 before",
            Unit::Seconds,
            self.last_successful_sync.clone(),
        );
        registry.register("events", "Events by kind, as logged", self.events.clone());
        registry.register(
            "drift_repairs",
            "Times that something of ours was changed by others and put back",
            self.drift_repairs.clone(),
        );
    }

    fn register_kernel(&self, registry: &mut Registry) {
        registry.register(
            "kernel_transactions",
            "Transactions handed to the kernel, by part of the kernel and result",
            self.transactions.clone(),
        );
        registry.register(
            "kernel_operations",
            "Operations in these transactions, by part of the kernel and result of the \
             transaction that they went with",
            self.operations.clone(),
        );
        registry.register(
            "kernel_reads",
            "Readings of the kernel by the sync, by kind and result",
            self.reads.clone(),
        );
        registry.register(
            "child_processes",
            "Child processes started by the sync; those for a scrape are left out",
            self.child_processes.clone(),
        );
        registry.register(
            "traffic_read_failures",
            "Scrapes for which the counters of Mappings could not be read; older values were told",
            self.traffic_read_failures.clone(),
        );
    }

    fn register_api(&self, registry: &mut Registry) {
        registry.register(
            "api_errors",
            "Failed requests to the Kubernetes API server, by class",
            self.api_errors.clone(),
        );
        registry.register(
            "watch_restarts",
            "Watches that began anew, by resource",
            self.watch_restarts.clone(),
        );
        registry.register(
            "api_writes",
            "Writes to the Kubernetes API server, by kind and result",
            self.api_writes.clone(),
        );
        registry.register(
            "leader",
            "1 where this instance writes the fields of whole Mappings",
            self.leader.clone(),
        );
        registry.register_with_unit(
            "lease_renewed_timestamp",
            "When the API server last took a renewal of this instance's Lease, in Unix time",
            Unit::Seconds,
            self.lease_renewed.clone(),
        );
    }

    /// What is certain to be of interest is there from the start, for rates to see its first step.
    fn begin_at_zero(&self) {
        for result in ["ok", "failed"] {
            drop(self.syncs.get_or_create(&[("result", result)]));
        }
        for stage in Stage::ALL {
            drop(self.stage_duration.get_or_create(&[("stage", stage.label())]));
        }
    }

    pub(super) fn stage(&self, stage: Stage, took: Duration) {
        self.stage_duration.get_or_create(&[("stage", stage.label())]).observe(took.as_secs_f64());
    }

    pub(super) fn sync_succeeded(&self, took: Duration) {
        self.syncs.get_or_create(&[("result", "ok")]).inc();
        self.sync_duration.observe(took.as_secs_f64());
    }

    pub(super) fn sync_failed(&self) {
        self.syncs.get_or_create(&[("result", "failed")]).inc();
    }

    pub(super) fn verified(&self, at: SystemTime) {
        self.last_successful_sync.set(unix_seconds(at));
    }

    pub(super) fn transaction(&self, domain: Domain, ops: u64, error: Option<&OpError>) {
        let labels = [("domain", domain_label(domain)), ("result", result_label(error))];
        self.transactions.get_or_create(&labels).inc();
        self.operations.get_or_create(&labels).inc_by(ops);
    }

    pub(super) fn read(&self, kind: &'static str, error: Option<&OpError>) {
        self.reads.get_or_create(&[("kind", kind), ("result", result_label(error))]).inc();
    }

    pub(super) fn child_processes(&self, started: u64) {
        self.child_processes.inc_by(started);
    }

    pub(super) fn event(&self, kind: EventKind) {
        self.events.get_or_create(&[("kind", event_label(kind))]).inc();
        if kind == EventKind::DriftRepaired {
            self.drift_repairs.inc();
        }
    }

    pub(super) fn traffic_read_failed(&self) {
        self.traffic_read_failures.inc();
    }

    /// A request to the API server failed. `class` is one of a fixed set: `conflict`, `forbidden`.
    pub fn api_error(&self, class: &'static str) {
        self.api_errors.get_or_create(&[("class", class)]).inc();
    }

    /// A watch began anew. `resource` is its plural: `mappings`.
    pub fn watch_restarted(&self, resource: &'static str) {
        self.watch_restarts.get_or_create(&[("resource", resource)]).inc();
    }

    /// Something was written to the API server. `kind` is what: `status`, `lease`, `event`,
    /// `finalizer`; `result` is `ok` or the class of the error.
    pub fn api_write(&self, kind: &'static str, result: &'static str) {
        self.api_writes.get_or_create(&[("kind", kind), ("result", result)]).inc();
    }

    /// Whether this instance is the leader. Before the first call there is no such metric.
    pub fn leader(&self, leads: bool) {
        self.leader.get_or_create(&[]).set(i64::from(leads));
    }

    /// The API server took a renewal of this instance's Lease.
    pub fn lease_renewed(&self, at: SystemTime) {
        self.lease_renewed.get_or_create(&[]).set(unix_seconds(at));
    }
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn domain_label(domain: Domain) -> &'static str {
    match domain {
        Domain::Xtables(_) | Domain::OtherXtables(_) => "iptables",
        Domain::Sets => "ipset",
        Domain::Nftables => "nftables",
        Domain::Routing => "routing",
        Domain::Sysctls => "sysctl",
        Domain::Flows => "conntrack",
    }
}

fn result_label(error: Option<&OpError>) -> &'static str {
    match error.map(|error| error.class) {
        None => "ok",
        Some(OpErrorClass::NotFound) => "not_found",
        Some(OpErrorClass::Exists) => "exists",
        Some(OpErrorClass::Busy) => "busy",
        Some(OpErrorClass::Invalid) => "invalid",
        Some(OpErrorClass::Denied) => "denied",
        Some(OpErrorClass::Transient) => "transient",
    }
}

fn event_label(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Accepted => "accepted",
        EventKind::Rejected => "rejected",
        EventKind::Programmed => "programmed",
        EventKind::DriftRepaired => "drift_repaired",
        EventKind::KernelError => "kernel_error",
        EventKind::ConnectionsEnded => "connections_ended",
        EventKind::BackendChanged => "backend_changed",
        EventKind::ForwardingKept => "forwarding_kept",
        EventKind::CleanedUp => "cleaned_up",
        EventKind::CleanUpIncomplete => "clean_up_incomplete",
    }
}
