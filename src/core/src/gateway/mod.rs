//! The state machine that strings all stages together. Sans-IO: the driver feeds
//! [`Input`]s, executes [`Output`]s and calls back at [`Gateway::poll_timeout`].
//!
//! One round: observe, compile, lint, diff, apply transaction by transaction, end the
//! connections that nothing permits any more, observe again. Equal: in sync. Not equal: again,
//! within a bound, and then more slowly.

mod forwarding;
mod io;
mod repairs;
mod report;
mod round;
mod split;
mod takeover;
mod target;

pub use io::{Event, EventKind, Input, Output};

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::compile::{Kept, UplinkNumbers};
use crate::dataplane::{Before, Dataplane, Exposure};
use crate::explain::{Foreign, Scene};
use crate::lower::{DesiredObjects, Shares};
use crate::model::{ClusterState, GatewayConfig, HostState, References, Timestamp, Touched};
use crate::objects::{KernelState, Netfilter, SysctlKey, SysctlState};
use crate::ops::{OpError, Transaction};
use crate::status::StatusReport;

/// What the kernel does not tell is read back this often; repair within 5 s is promised (T17).
const READ_BACK_MILLIS: u64 = 4_000;
/// The table of nftables is read again this often, though the kernel tells of every change of it.
const READ_TABLE_MILLIS: u64 = 600_000;
/// First pause after a failed round.
const FIRST_RETRY_MILLIS: u64 = 500;
/// Longest pause; an operator who mends the cause waits no longer.
const LAST_RETRY_MILLIS: u64 = 30_000;
/// Rounds without a pause: one to change, one to verify, the rest for what changes meanwhile.
const ROUNDS_AT_ONCE: u32 = 4;
/// Sweeps of connections in one round: the second for what was in flight (T10).
const SWEEPS: u32 = 2;
/// Failures that are reported; more say nothing new.
const MAX_REPORTED: usize = 20;

/// What the gateway waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Awaiting {
    Observation,
    Application,
    Flows,
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Stage {
    /// Nothing to do until the next input.
    Idle,
    /// The kernel must be read, then compared.
    Observe,
    /// Transactions are queued.
    Apply,
    /// Connections are to be listed for the n-th time.
    Sweep(u32),
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Goal {
    /// Serve what the cluster asks for.
    Serve,
    /// Leave nothing behind (T16).
    CleanUp(Connections),
}

/// How far a clean-up is with the connections that we translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Connections {
    /// They are as they were.
    Untouched,
    /// They are ended.
    Ended,
    /// They could not be listed, or not all be ended.
    Left,
}

/// A dataplane on its way to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Target {
    dataplane: Dataplane,
    exposure: Exposure,
    objects: DesiredObjects,
    shares: Shares,
    /// The sysctls that it was compiled with.
    #[serde(with = "crate::objects::pairs")]
    sysctls: BTreeMap<SysctlKey, SysctlState>,
}

/// What is known of the connections that exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Judged {
    /// Nothing, as after a start.
    Never,
    /// The target permits them, but for what was otherwise when they were last judged.
    But(Before),
}

/// The controller's whole decision state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about the outside")]
pub struct Gateway {
    config: GatewayConfig,
    goal: Goal,
    now: Timestamp,
    cluster: Option<ClusterState>,
    host: Option<HostState>,
    references: References,
    /// Cluster or host changed since the target was compiled.
    stale: bool,
    /// What of them.
    touched: Touched,
    /// What the target was compiled from; `None`: the latest compilation is not the target.
    kept: Option<Kept>,
    /// Every change recompiles, lowers and compares everything: the reference.
    recomputes: bool,
    observed: Option<KernelState>,
    /// The target as of the latest comparison was all that was observed: what is not touched
    /// needs no second look.
    agrees: bool,
    /// Our table of nftables is the target's: it is not kept twice.
    as_wanted: bool,
    /// When the latest observation was.
    observed_at: Timestamp,
    /// What of netfilter the observation reads that is under way, or was the latest.
    reads: Netfilter,
    /// When all of netfilter was last read.
    table_read_at: Timestamp,
    /// Others may have changed netfilter since.
    distrusted: bool,
    /// What runs on another backend left.
    left: takeover::Left,
    /// Something was changed that is known only when it is read back.
    unread: bool,
    numbers: UplinkNumbers,
    target: Option<Target>,
    judged: Judged,
    stage: Stage,
    awaiting: Option<Awaiting>,
    queue: VecDeque<Transaction>,
    /// What relies on the transaction that is under way.
    applying: split::Reliance,
    /// Something was refused on which nothing relies: the round is to be repeated.
    incomplete: bool,
    /// The sweep that follows the queue.
    pending_sweep: Option<u32>,
    /// The kernel refused to end a connection, or to hold its packets back.
    sweep_failed: bool,
    /// The kernel changed by other hands since the latest observation was asked for.
    kernel_changed: bool,
    /// So did the host: the kernel drops routes with a link and has new sysctls for another.
    host_changed: bool,
    /// The next observation shows what the kernel did along with a change of the host.
    host_moved: bool,
    /// The target was in the kernel and we have changed nothing since: a difference is drift.
    settled: bool,
    /// What others changed, until it is back (T17).
    drift: Option<String>,
    repairs: repairs::Repairs,
    rounds: u32,
    retry_millis: u64,
    wake: Option<Timestamp>,
    failures: Vec<OpError>,
    forwarding: forwarding::Forwarding,
    outbox: VecDeque<Output>,
    report: report::Reporter,
}

impl Gateway {
    /// A gateway that knows nothing yet. Call [`GatewayConfig::problems`] first.
    pub fn new(config: GatewayConfig) -> Self {
        assert!(config.problems().is_empty(), "the configuration was checked");
        Self {
            config,
            goal: Goal::Serve,
            now: Timestamp::default(),
            cluster: None,
            host: None,
            references: References::default(),
            stale: true,
            touched: Touched::default(),
            kept: None,
            recomputes: false,
            observed: None,
            agrees: false,
            as_wanted: false,
            observed_at: Timestamp::default(),
            reads: Netfilter::All,
            table_read_at: Timestamp::default(),
            distrusted: true,
            left: takeover::Left::Unknown,
            unread: false,
            numbers: UplinkNumbers::new(),
            target: None,
            judged: Judged::Never,
            stage: Stage::Observe,
            awaiting: None,
            queue: VecDeque::new(),
            applying: split::Reliance::Everything,
            incomplete: false,
            pending_sweep: None,
            sweep_failed: false,
            kernel_changed: false,
            host_changed: false,
            host_moved: false,
            settled: false,
            drift: None,
            repairs: repairs::Repairs::default(),
            rounds: 0,
            retry_millis: FIRST_RETRY_MILLIS,
            wake: None,
            failures: Vec::new(),
            forwarding: forwarding::Forwarding::default(),
            outbox: VecDeque::new(),
            report: report::Reporter::default(),
        }
    }

    /// A gateway that recomputes everything after every input: slower, with the same outputs. It
    /// is what [`Gateway::new`] is tested against.
    pub fn reference(config: GatewayConfig) -> Self {
        Self { recomputes: true, ..Self::new(config) }
    }

    /// Takes note of something that happened at `now`.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Cluster(objects) => self.on_cluster(objects),
            Input::Host(host) => self.on_host(host),
            Input::KernelChanged => self.on_kernel_changed(),
            Input::Tick => self.on_tick(),
            Input::ForwardingNeeded(needed) => self.on_forwarding_needed(needed),
            Input::CleanUp => self.on_clean_up(),
            Input::Observed(result) => {
                self.answered(Awaiting::Observation);
                self.on_observed(result);
            }
            Input::Applied(result) => {
                self.answered(Awaiting::Application);
                self.on_applied(result);
            }
            Input::Flows(result) => {
                self.answered(Awaiting::Flows);
                self.on_flows(result);
            }
        }
    }

    /// The next thing to do; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outbox.pop_front() {
            return Some(output);
        }
        if self.awaiting.is_some() || !self.is_ready() {
            return None;
        }
        self.next_step();
        self.outbox.pop_front()
    }

    /// When to come back with [`Input::Tick`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.wake
    }

    /// The dataplane that is to be in the kernel; `None` before the first compilation.
    pub fn dataplane(&self) -> Option<&Dataplane> {
        self.target.as_ref().map(|t| &t.dataplane)
    }

    /// The kernel objects that carry the dataplane; `None` before the first compilation.
    pub fn objects(&self) -> Option<&DesiredObjects> {
        self.target.as_ref().map(|t| &t.objects)
    }

    /// The latest status.
    pub fn status(&self) -> Option<&StatusReport> {
        self.report.latest()
    }

    /// What it was told of the cluster; `None` before the first time.
    pub fn cluster(&self) -> Option<&ClusterState> {
        self.cluster.as_ref()
    }

    /// All that the present wishes depend on, for replay and explanation; `None` before both
    /// sources have told all. Rules of others are not in it.
    pub fn scene(&self) -> Option<Scene> {
        let (cluster, host) = (self.cluster.clone()?, self.host.clone()?);
        let target = self.target.as_ref().map(|target| &target.sysctls);
        let sysctls = self.observed.as_ref().map(|observed| &observed.sysctls).or(target);
        Some(Scene {
            cluster,
            host,
            config: self.config.clone(),
            numbers: self.numbers.clone(),
            sysctls: sysctls.cloned().unwrap_or_default(),
            foreign: Foreign::default(),
        })
    }

    /// Whether nothing is under way: the next change comes from outside or with time.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && self.awaiting.is_none() && self.outbox.is_empty()
    }

    /// Clean-up needs no wishes, serving needs all of them.
    fn is_ready(&self) -> bool {
        match self.goal {
            Goal::Serve => self.cluster.is_some() && self.host.is_some(),
            Goal::CleanUp(_) => true,
        }
    }

    /// Serving, with nothing under way. A clean-up that has ended stays so.
    fn is_at_rest(&self) -> bool {
        self.goal == Goal::Serve && self.stage == Stage::Idle && self.is_ready()
    }

    fn answered(&mut self, expected: Awaiting) {
        assert_eq!(self.awaiting, Some(expected), "an answer to what was asked");
        self.awaiting = None;
    }

    fn on_cluster(&mut self, objects: Vec<crate::model::ClusterObject>) {
        let first = self.cluster.is_none();
        let changed = !objects.is_empty();
        let cluster = self.cluster.get_or_insert_default();
        for object in objects {
            self.references.note(cluster, &object, &mut self.touched);
            cluster.update(object);
        }
        if first || changed {
            self.wish_changed();
        }
    }

    fn on_host(&mut self, host: HostState) {
        if self.host.as_ref() != Some(&host) {
            self.host = Some(host);
            self.host_changed = true;
            self.host_moved = true;
            self.touched.everything = true;
            self.wish_changed();
        }
    }

    /// A change goes to the kernel at once, on what was last observed if that still holds.
    fn wish_changed(&mut self) {
        self.stale = true;
        if self.goal == Goal::Serve {
            self.rounds = 0;
        }
        if self.is_at_rest() {
            self.begin_round();
        }
    }

    fn on_kernel_changed(&mut self) {
        self.distrusted = true;
        if self.is_at_rest() {
            // Else the look that time brings finds what changed.
            if self.repairs.put_off(self.now).is_none() {
                self.stage = Stage::Observe;
            }
        } else {
            self.kernel_changed = true;
        }
    }

    fn on_tick(&mut self) {
        if self.wake.is_some_and(|at| at <= self.now) {
            self.wake = None;
            if self.is_at_rest() {
                self.stage = Stage::Observe;
            }
        }
    }

    /// What was queued for serving is dropped; an answer that is under way is waited for.
    fn on_clean_up(&mut self) {
        self.goal = Goal::CleanUp(Connections::Untouched);
        self.stage = Stage::Observe;
        self.queue.clear();
        self.pending_sweep = None;
        self.incomplete = false;
        self.sweep_failed = false;
        self.settled = false;
        self.drift = None;
        self.rounds = 0;
        self.wake = None;
        self.failures.clear();
    }
}
