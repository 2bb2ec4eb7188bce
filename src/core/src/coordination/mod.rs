//! How several instances share one cluster: Leases, claims, status, finalizers (T19–T21).
//!
//! Sans-IO like the gateway, of which it takes the status: what the API server holds goes in,
//! writes come out. Each instance owns a Lease that publishes its addresses, and its entries in
//! `status.addresses`; the leader alone writes the fields of the whole Mapping and finalizers.
//!
//! An instance publishes an address that its host holds, and only then serves it. One that
//! another live instance still publishes is waited for, so that the old owner lets go first, but
//! no longer than [`HANDOVER_MILLIS`]: traffic arrives where the network brings it, and a host
//! that died lets go of nothing. From then on both serve it and both say so.

mod entries;
mod finalizers;
mod io;
mod leases;
mod peers;
mod records;
mod summary;

#[cfg(test)]
mod tests;

pub use io::{
    ClusterEvent, Input, Notice, Output, Subject, Write, WriteError, WriteId, WriteKind, Written,
};
pub use records::{
    AddressEntry, LeaseName, LeaseRecord, MappingRecord, StatusCondition, Summary, Truth,
};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{ObjectKey, Timestamp};
use crate::status::{MappingStatus, StatusReport};
use peers::{Life, Peers};

/// Finalizer of the Go version, kept (T20).
pub const FINALIZER: &str = "mapping.finalizers.aureacentral.com";

/// So long an address waits for its old owner to let go: removal and its publication take some
/// tens of milliseconds, and an owner that needs longer is likely dead.
pub const HANDOVER_MILLIS: u64 = 2_000;
/// So long the leader waits for the instances before it calls a new generation pending.
const PENDING_MILLIS: u64 = 2_000;
/// Writes under way at once: enough to fill the latency of an API server, too few to flood it.
const MAX_WRITES: usize = 16;
/// Shortest and longest pause after a failed write, in milliseconds.
const PAUSES: (u64, u64) = (250, 30_000);
/// With a pause of so many milliseconds a conflict has lasted for too long to be usual.
const TOLD_PAUSE: u64 = 4_000;
/// Addresses in one Lease: those of this many fit into the annotations of an object (256 KiB).
const MAX_PUBLISHED: usize = 4_096;

/// Settings of coordination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CoordinationConfig {
    /// Name of this instance.
    pub instance: String,
    /// Tells this process's host and network namespace from any other; the same after a restart.
    pub identity: String,
    /// Duration of a Lease; it is renewed three times as often.
    pub lease_millis: u64,
    /// So long a lapsed instance holds up a deletion.
    pub max_finalize_millis: u64,
}

impl CoordinationConfig {
    fn renew_millis(&self) -> u64 {
        self.lease_millis / 3
    }
}

/// A write and what is told once it is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct UnderWay {
    write: Write,
    events: Vec<ClusterEvent>,
}

/// A pause after failed writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Pause {
    /// `None`: it is over, and how long the next one is depends on it.
    until: Option<Timestamp>,
    millis: u64,
}

/// The coordination state of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Coordinator {
    config: CoordinationConfig,
    now: Timestamp,
    peers: Peers,
    leases_synced: bool,
    mappings_synced: bool,
    stopped: bool,
    mappings: BTreeMap<ObjectKey, MappingRecord>,
    report: Option<StatusReport>,
    /// Addresses of this host by when it was first told to hold them.
    held: BTreeMap<IpAddr, Timestamp>,
    published: Option<BTreeSet<IpAddr>>,
    lease: leases::OwnLease,
    leader: leases::Leadership,
    /// Mappings that may need a write.
    dirty: BTreeSet<ObjectKey>,
    /// How the instances did when `dirty` was last filled from it.
    known_instances: BTreeMap<String, (Life, BTreeSet<IpAddr>)>,
    /// The clock of the watch when deletions were last looked at.
    known_clock: u64,
    /// When a deletion was first seen, on the clock of the watch.
    deleting_since: BTreeMap<ObjectKey, u64>,
    /// Since when the leader waits for what instances say of a generation.
    pending_since: BTreeMap<ObjectKey, Timestamp>,
    under_way: BTreeMap<WriteId, UnderWay>,
    /// Mappings of these writes.
    busy: BTreeSet<ObjectKey>,
    /// By Mapping and kind of write: what is refused must not hold up the rest.
    #[serde(with = "crate::objects::pairs")]
    pauses: BTreeMap<(ObjectKey, WriteKind), Pause>,
    next_write: u64,
    outbox: VecDeque<Output>,
}

impl Coordinator {
    /// A coordinator that knows nothing yet, but for the addresses that this instance had
    /// published before a restart, as far as it remembers.
    pub fn new(config: CoordinationConfig, published: Option<BTreeSet<IpAddr>>) -> Self {
        Self {
            now: Timestamp::default(),
            peers: Peers::new(config.renew_millis() * 2),
            config,
            leases_synced: false,
            mappings_synced: false,
            stopped: false,
            mappings: BTreeMap::new(),
            report: None,
            held: BTreeMap::new(),
            published,
            lease: leases::OwnLease::default(),
            leader: leases::Leadership::default(),
            dirty: BTreeSet::new(),
            known_instances: BTreeMap::new(),
            known_clock: 0,
            deleting_since: BTreeMap::new(),
            pending_since: BTreeMap::new(),
            under_way: BTreeMap::new(),
            busy: BTreeSet::new(),
            pauses: BTreeMap::new(),
            next_write: 0,
            outbox: VecDeque::new(),
        }
    }

    /// Takes note of something that happened at `now`, a clock that never jumps.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Leases(leases) => self.on_leases(leases),
            Input::Mappings(mappings) => self.on_mappings(mappings),
            Input::Report(report) => self.on_report(*report),
            Input::Written(id, result) => self.on_written(id, result),
            Input::Tick => self.on_tick(),
            Input::Reset => self.on_reset(),
            Input::Stop => self.on_stop(),
        }
        if !self.stopped {
            self.plan_leases();
            self.note_instances();
        }
    }

    /// The next thing to do; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        while self.outbox.is_empty() && self.may_write() {
            let Some(key) = self.next_dirty() else { break };
            if let Some(write) = self.plan(&key) {
                self.begin(write);
            }
        }
        self.outbox.pop_front()
    }

    /// When to come back with [`Input::Tick`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.stopped {
            return None;
        }
        let pauses = self.pauses.values().filter_map(|p| p.until);
        let pending = self.pending_since.values().map(|t| t.plus_millis(PENDING_MILLIS));
        pauses.chain(pending).chain(self.next_lease_times()).filter(|t| *t > self.now).min()
    }

    /// Whether this instance is the leader.
    pub fn leads(&self) -> bool {
        self.leader.until.is_some_and(|until| self.now < until)
    }

    fn may_write(&self) -> bool {
        let synced = self.leases_synced && self.mappings_synced && self.report.is_some();
        synced && !self.stopped && self.under_way.len() < MAX_WRITES
    }

    /// A Mapping that may need a write and can have one now.
    fn next_dirty(&mut self) -> Option<ObjectKey> {
        let key = self.dirty.iter().find(|key| !self.busy.contains(*key))?.clone();
        self.dirty.remove(&key);
        Some(key)
    }

    /// The next write that a Mapping needs: finalizers, then what instances say, then the whole.
    fn plan(&mut self, key: &ObjectKey) -> Option<Write> {
        let record = self.mappings.get(key)?.clone();
        WriteKind::OF_MAPPINGS.into_iter().find_map(|kind| {
            let slot = (key.clone(), kind);
            if self.pauses.get(&slot).is_some_and(|pause| pause.until.is_some()) {
                return None;
            }
            let write = match kind {
                WriteKind::Finalizers => self.plan_finalizers(key, &record),
                WriteKind::Entries => self.plan_entries(key, &record),
                WriteKind::Summary => self.plan_summary(key, &record),
            };
            if write.is_none() {
                self.pauses.remove(&slot);
            }
            write
        })
    }

    fn begin(&mut self, write: Write) {
        let id = WriteId(self.next_write);
        self.next_write += 1;
        self.busy.extend(write.mapping().cloned());
        let events = self.events_of(&write);
        self.under_way.insert(id, UnderWay { write: write.clone(), events });
        self.outbox.push_back(Output::Write(id, write));
    }

    fn on_mappings(&mut self, mappings: BTreeMap<ObjectKey, Option<MappingRecord>>) {
        self.mappings_synced = true;
        for (key, record) in mappings {
            match record {
                Some(record) => self.update_mapping(key, record),
                None => self.forget_mapping(&key),
            }
        }
    }

    /// Takes over a Mapping unless a newer version is known (T22), of whatever incarnation: the
    /// answer to a write may come after the watch has shown the next one.
    fn update_mapping(&mut self, key: ObjectKey, record: MappingRecord) {
        let before = self.mappings.get(&key);
        if before.is_some_and(|b| records::is_older(&record.version, &b.version)) {
            return;
        }
        if before.is_some_and(|b| b.uid != record.uid) {
            self.forget_mapping(&key);
        }
        if record.deleting {
            let since = self.peers.clock_ahead(self.now);
            self.deleting_since.entry(key.clone()).or_insert(since);
        }
        self.note_mentioned(&key, &record);
        self.dirty.insert(key.clone());
        self.mappings.insert(key, record);
    }

    /// Instances that say something new may have joined just now.
    fn note_mentioned(&mut self, key: &ObjectKey, record: &MappingRecord) {
        let before = self.mappings.get(key);
        let said = |m: &MappingRecord, name: &str| m.entries_of(name);
        for entry in &record.entries {
            let name = &entry.instance;
            if before.is_none_or(|b| said(b, name) != said(record, name)) {
                self.peers.mentioned(name, self.now);
            }
        }
    }

    fn forget_mapping(&mut self, key: &ObjectKey) {
        self.mappings.remove(key);
        self.deleting_since.remove(key);
        self.pending_since.remove(key);
        for kind in WriteKind::OF_MAPPINGS {
            self.pauses.remove(&(key.clone(), kind));
        }
        self.dirty.remove(key);
    }

    fn on_report(&mut self, report: StatusReport) {
        let now = self.now;
        let addresses: BTreeSet<IpAddr> =
            report.uplinks.values().flat_map(|u| u.addresses.iter().copied()).collect();
        self.held.retain(|a, _| addresses.contains(a));
        for address in addresses {
            self.held.entry(address).or_insert(now);
        }
        let before = self.report.take();
        let read_back = before.as_ref().is_some_and(|b| b.read_back == report.read_back);
        match before {
            Some(before) if read_back => {
                let changed = report.changes_since(&before).map(|(key, ..)| key);
                let known = changed.filter(|key| self.mappings.contains_key(*key));
                self.dirty.extend(known.cloned());
            }
            _ => self.dirty.extend(self.mappings.keys().cloned()),
        }
        self.report = Some(report);
    }

    fn on_written(&mut self, id: WriteId, result: Result<Written, WriteError>) {
        let Some(UnderWay { write, events }) = self.under_way.remove(&id) else { return };
        if let Some(key) = write.mapping() {
            self.busy.remove(key);
        }
        match (&write, result) {
            (Write::Lease { name, .. }, result) => self.on_lease_written(name.clone(), result),
            (_, Ok(Written::Mapping(record))) => {
                self.outbox.extend(events.into_iter().map(Output::Event));
                self.on_mapping_written(write, record);
            }
            (_, result) => self.on_mapping_refused(write, result.err()),
        }
    }

    fn on_mapping_written(&mut self, write: Write, record: Option<Box<MappingRecord>>) {
        let Some(key) = write.mapping().cloned() else { return };
        let (Some(record), true) = (record, self.mappings.contains_key(&key)) else { return };
        let took = write.is_in(&record);
        self.update_mapping(key, *record);
        if !took {
            // Another writer's fields remain; without a pause this would go on for ever.
            let text = "another field manager holds on to what was to be replaced";
            self.on_mapping_refused(write, Some(WriteError::Transient(text.into())));
        }
    }

    /// The watch tells of a conflict's other side soon; all else is tried again later.
    fn on_mapping_refused(&mut self, write: Write, error: Option<WriteError>) {
        let (Some(key), Some(kind)) = (write.mapping().cloned(), write.kind()) else { return };
        if !self.mappings.contains_key(&key) {
            return;
        }
        let slot = (key.clone(), kind);
        let before = self.pauses.get(&slot).map_or(0, |p| p.millis);
        let (shortest, longest) = PAUSES;
        let millis = match error {
            Some(WriteError::Refused(_)) => longest,
            _ => (before * 2).clamp(shortest, longest),
        };
        let until = Some(self.now.plus_millis(millis));
        self.pauses.insert(slot, Pause { until, millis });
        self.dirty.insert(key);
        // One conflict, or an object that is just gone, is usual; what lasts is not.
        let usual = matches!(error, Some(WriteError::Conflict | WriteError::NotFound) | None);
        if let Some(error) = error.filter(|_| !usual || millis == TOLD_PAUSE) {
            self.outbox.push_back(Output::Notice(Notice::WriteFailed(Box::new(write), error)));
        }
    }

    fn on_reset(&mut self) {
        self.peers.forget_versions();
        for record in self.mappings.values_mut() {
            record.version = String::new();
        }
    }

    /// What ends with time makes its Mapping dirty again.
    fn on_tick(&mut self) {
        let now = self.now;
        let due = self.pending_since.iter().filter(|(_, t)| t.plus_millis(PENDING_MILLIS) <= now);
        let due: Vec<ObjectKey> = due.map(|(key, _)| key.clone()).collect();
        self.dirty.extend(due);
        for ((key, _), pause) in &mut self.pauses {
            if pause.until.is_some_and(|until| until <= now) {
                pause.until = None;
                self.dirty.insert(key.clone());
            }
        }
    }

    /// Whoever appears, lapses, returns or publishes something else changes what is to be
    /// written of every Mapping; the clock of the watch changes what deletions wait for.
    fn note_instances(&mut self) {
        let patience = self.config.max_finalize_millis;
        let instances: BTreeMap<String, (Life, BTreeSet<IpAddr>)> = self
            .peers
            .instances(patience)
            .map(|(name, life, addresses)| (name.to_owned(), (life, addresses.clone())))
            .collect();
        let leads = self.leads();
        if instances != self.known_instances || leads != self.leader.told {
            self.dirty.extend(self.mappings.keys().cloned());
            self.known_instances = instances;
        } else if leads && self.known_clock != self.peers.clock() {
            self.dirty.extend(self.deleting_since.keys().cloned());
        }
        self.known_clock = self.peers.clock();
        if leads != self.leader.told {
            self.leader.told = leads;
            self.outbox.push_back(Output::Notice(Notice::Leading(leads)));
        }
    }

    /// What this host has to say of exactly this Mapping at exactly this generation (T21).
    fn status_of(&self, key: &ObjectKey, record: &MappingRecord) -> Option<&MappingStatus> {
        let status = self.report.as_ref()?.mappings.get(key)?;
        let is_about = (&status.uid, status.observed_generation);
        (is_about == (&record.uid, record.generation)).then_some(status)
    }

    fn is_me(&self, instance: &str) -> bool {
        instance == self.config.instance
    }

    /// Instances other than this one that are alive and publish `address`.
    fn others_with(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.peers
            .instances(self.config.max_finalize_millis)
            .filter(move |(name, life, addresses)| {
                !self.is_me(name) && *life == Life::Live && addresses.contains(&address)
            })
            .map(|(name, ..)| name)
    }
}
