//! The Lease of this instance, which publishes its addresses, and that of the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::io::{Notice, Output, Write, WriteError, Written};
use super::records::{LeaseName, LeaseRecord};
use super::{Coordinator, HANDOVER_MILLIS, MAX_PUBLISHED, PAUSES};
use crate::model::Timestamp;

/// A conflict or two are usual when several want one Lease; more are told.
const TOLD_CONFLICTS: u32 = 4;

/// What is known of the own Lease beside its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct OwnLease {
    writing: bool,
    /// The watch told that it is gone since the latest write began.
    gone: bool,
    /// When the latest write began.
    asked: Timestamp,
    /// When it is to be renewed, or tried again.
    due: Timestamp,
    /// Writes that failed in a row; not even a change goes out before `due` then.
    failures: u32,
    told: Told,
    told_too_many: bool,
}

/// What the operator was last told of the own Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Told {
    #[default]
    Nothing,
    Joined,
    /// This process has it instead.
    NameTaken(String),
}

/// What is known of leadership beside the leader's Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Leadership {
    writing: bool,
    /// The watch told that its Lease is gone since the latest write began.
    gone: bool,
    due: Timestamp,
    /// Nobody else can have taken it before.
    pub(super) until: Option<Timestamp>,
    /// When the write that is under way began.
    asked: Timestamp,
    /// Writes that failed in a row.
    failures: u32,
    pub(super) told: bool,
}

impl Coordinator {
    fn own_name(&self) -> LeaseName {
        LeaseName::Instance(self.config.instance.clone())
    }

    fn is_mine(&self, record: &LeaseRecord) -> bool {
        record.holder == self.config.identity
    }

    /// The own Lease, if this process holds it.
    pub(super) fn own_lease(&self) -> Option<&LeaseRecord> {
        self.peers.lease(&self.own_name()).filter(|record| self.is_mine(record))
    }

    pub(super) fn on_leases(&mut self, leases: BTreeMap<LeaseName, Option<LeaseRecord>>) {
        self.leases_synced = true;
        let own = self.own_name();
        for (name, record) in leases {
            if let Some(record) = record {
                if name == LeaseName::Leader {
                    self.leader.failures = 0;
                }
                if name == own && self.is_mine(&record) {
                    self.peers.renewal_seen(&record.renewed, self.now);
                    let news = self.peers.own_shown(&record.version);
                    self.note_absent(news);
                }
                self.peers.update(name, record, self.now);
            } else {
                self.lease.gone |= name == own;
                self.leader.gone |= name == LeaseName::Leader;
                self.peers.remove(&name, self.now);
            }
        }
    }

    /// Some instances are known to have no Lease by now, which changes what is to be written.
    fn note_absent(&mut self, some: bool) {
        if some {
            self.dirty.extend(self.mappings.keys().cloned());
        }
    }

    /// Writes the Leases that are due.
    pub(super) fn plan_leases(&mut self) {
        if !self.leases_synced {
            return;
        }
        self.plan_own_lease();
        self.publish();
        if self.own_lease().is_some() {
            self.plan_leadership();
        }
    }

    fn plan_own_lease(&mut self) {
        if self.lease.writing || self.now < self.lease.due && !self.must_republish() {
            return;
        }
        let name = self.own_name();
        let record = self.peers.lease(&name);
        if let Some(record) = record.filter(|r| !self.is_mine(r)) {
            let holder = record.holder.clone();
            if self.peers.free_at(&name).is_some_and(|at| self.now < at) {
                self.tell_of_holder(holder);
                return;
            }
        }
        let replaces = record.map(|r| r.version.clone());
        let write = Write::Lease {
            name,
            replaces,
            holder: self.config.identity.clone(),
            duration_millis: self.config.lease_millis,
            addresses: self.to_publish(),
        };
        (self.lease.writing, self.lease.gone) = (true, false);
        self.lease.asked = self.now;
        self.begin(write);
    }

    fn tell_of_holder(&mut self, holder: String) {
        let told = Told::NameTaken(holder.clone());
        if self.lease.told != told {
            self.lease.told = told;
            self.outbox.push_back(Output::Notice(Notice::NameTaken { holder }));
        }
    }

    /// What is published is not what is to be, or somebody deleted the Lease; a failed write is
    /// not repeated before its time.
    fn must_republish(&self) -> bool {
        let is_missing = self.peers.lease(&self.own_name()).is_none();
        let differs = |record: &LeaseRecord| record.addresses != self.to_publish();
        self.lease.failures == 0 && (is_missing || self.own_lease().is_some_and(differs))
    }

    /// The addresses that this instance should publish now.
    fn to_publish(&self) -> BTreeSet<IpAddr> {
        // What was published before, also before a restart, is not let go of because somebody
        // deleted the Lease or edited what it tells.
        let told = self.own_lease().into_iter().flat_map(|r| &r.addresses);
        let before: BTreeSet<IpAddr> =
            told.chain(self.published.iter().flatten()).copied().collect();
        let is_published = |a: &IpAddr| before.contains(a);
        let read_back = self.report.as_ref().is_some_and(|r| r.read_back);
        let kept = before.iter().copied().filter(|_| !read_back);
        let held = self.held.iter().filter(|(address, since)| {
            is_published(address)
                || self.now >= since.plus_millis(HANDOVER_MILLIS)
                || self.others_with(**address).next().is_none()
        });
        let all: BTreeSet<IpAddr> = held.map(|(address, _)| *address).chain(kept).collect();
        all.into_iter().take(MAX_PUBLISHED).collect()
    }

    /// Lets the gateway serve what the Lease says, and what this instance has not taken out of
    /// it: whoever edits a Lease must not end connections.
    fn publish(&mut self) {
        let Some(mut addresses) = self.own_lease().map(|r| r.addresses.clone()) else { return };
        let before = self.published.iter().flatten();
        addresses.extend(before.filter(|a| self.held.contains_key(*a)));
        if self.published.as_ref() != Some(&addresses) {
            self.published = Some(addresses.clone());
            self.dirty.extend(self.mappings.keys().cloned());
            self.outbox.push_back(Output::Published(addresses));
        }
        if self.held.len() > MAX_PUBLISHED && !self.lease.told_too_many {
            self.lease.told_too_many = true;
            self.outbox.push_back(Output::Notice(Notice::TooManyAddresses(self.held.len())));
        }
        if self.lease.told != Told::Joined {
            self.lease.told = Told::Joined;
            self.outbox.push_back(Output::Notice(Notice::Joined));
        }
    }

    fn plan_leadership(&mut self) {
        if self.leader.writing || self.now < self.leader.due {
            return;
        }
        let record = self.peers.lease(&LeaseName::Leader);
        if record.is_some_and(|r| !self.is_mine(r)) {
            self.leader.until = None;
            if self.peers.free_at(&LeaseName::Leader).is_some_and(|at| self.now < at) {
                return;
            }
        }
        let replaces = record.map(|r| r.version.clone());
        self.write_leader_lease(replaces, self.config.identity.clone());
    }

    fn write_leader_lease(&mut self, replaces: Option<String>, holder: String) {
        (self.leader.writing, self.leader.gone) = (true, false);
        self.leader.asked = self.now;
        self.begin(Write::Lease {
            name: LeaseName::Leader,
            replaces,
            holder,
            duration_millis: self.config.lease_millis,
            addresses: BTreeSet::new(),
        });
    }

    pub(super) fn on_lease_written(
        &mut self,
        name: LeaseName,
        result: Result<Written, WriteError>,
    ) {
        let is_leader = name == LeaseName::Leader;
        let gone = if is_leader { self.leader.gone } else { self.lease.gone };
        let failures = if is_leader { &mut self.leader.failures } else { &mut self.lease.failures };
        let failed = !matches!(result, Ok(Written::Lease(_)));
        *failures = if failed { failures.saturating_add(1) } else { 0 };
        let failures = *failures;
        let renew = self.config.renew_millis();
        let next = match result {
            // Whether it went before or after the write, the watch tells.
            Ok(Written::Lease(_)) if gone => PAUSES.0,
            Ok(Written::Lease(record)) => {
                self.note_renewed(name, record);
                renew
            }
            // The watch soon tells who holds it, unless it is down or does not show this Lease.
            Ok(Written::Mapping(_)) | Err(WriteError::Conflict | WriteError::NotFound) => {
                if failures == TOLD_CONFLICTS {
                    self.note_failed_lease(name, WriteError::Conflict);
                }
                (PAUSES.0 << failures.min(8)).min(renew)
            }
            Err(error) => {
                self.note_failed_lease(name, error);
                (renew / 2).max(PAUSES.0)
            }
        };
        let due = self.now.plus_millis(next);
        if is_leader {
            self.leader.writing = false;
            self.leader.due = due;
        } else {
            self.lease.writing = false;
            self.lease.due = due;
        }
    }

    fn note_renewed(&mut self, name: LeaseName, record: LeaseRecord) {
        let mine = self.is_mine(&record);
        let is_leader = name == LeaseName::Leader;
        if is_leader {
            let held = self.leader.asked.plus_millis(self.config.lease_millis * 4 / 5);
            self.leader.until = mine.then_some(held);
        } else {
            let news = self.peers.own_written(&record.version, self.lease.asked);
            self.note_absent(news);
        }
        self.peers.update(name, record, self.now);
        if !is_leader && self.peers.is_blind(self.now, self.config.lease_millis) {
            self.outbox.push_back(Output::Notice(Notice::WatchBlind));
        }
    }

    fn note_failed_lease(&mut self, name: LeaseName, error: WriteError) {
        let write = Write::Lease {
            replaces: self.peers.lease(&name).map(|r| r.version.clone()),
            name,
            holder: self.config.identity.clone(),
            duration_millis: self.config.lease_millis,
            addresses: BTreeSet::new(),
        };
        self.outbox.push_back(Output::Notice(Notice::WriteFailed(Box::new(write), error)));
    }

    /// Leadership is given back, so that the next leader need not wait; the own Lease is not,
    /// since the dataplane is left serving.
    pub(super) fn on_stop(&mut self) {
        self.stopped = true;
        let record = self.peers.lease(&LeaseName::Leader).filter(|r| self.is_mine(r));
        if let Some(version) = record.map(|r| r.version.clone())
            && !self.leader.writing
        {
            self.write_leader_lease(Some(version), String::new());
        }
    }

    /// Moments at which Leases or what they publish are due.
    pub(super) fn next_lease_times(&self) -> impl Iterator<Item = Timestamp> {
        let own = self.own_name();
        let mine = self.own_lease().is_some();
        let free = |name: &LeaseName| self.peers.free_at(name);
        let own_time = if mine || self.peers.lease(&own).is_none() {
            Some(self.lease.due)
        } else {
            free(&own).map(|at| at.max(self.lease.due))
        };
        let leads = self.peers.lease(&LeaseName::Leader).is_none_or(|r| self.is_mine(r));
        let leader_time = if leads {
            Some(self.leader.due)
        } else {
            free(&LeaseName::Leader).map(|at| at.max(self.leader.due))
        };
        let own_time = own_time.filter(|_| !self.lease.writing && self.leases_synced);
        let leader_time =
            leader_time.filter(|_| mine && !self.leader.writing && self.leases_synced);
        let handover = self.held.values().map(|t| t.plus_millis(HANDOVER_MILLIS));
        own_time.into_iter().chain(leader_time).chain(self.leader.until).chain(handover)
    }
}
