//! Which instances are alive, judged by their renewals as they are seen here (T20).
//!
//! Time passes for others only while this instance sees its own renewals come back through the
//! watch: whoever can't see its own can't see those of others either, and an outage of the
//! API server makes nobody lapse.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::records::{LeaseName, LeaseRecord, is_older};
use crate::model::Timestamp;

/// Shortest and longest duration of a Lease that is taken at its word, in milliseconds.
const DURATIONS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

/// How an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Life {
    /// It renews its Lease.
    Live,
    /// It does not.
    Lapsed,
    /// It has not for longer than anybody waits for it.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Seen {
    record: LeaseRecord,
    /// When its renewal was first seen, on the clock of the watch and no earlier.
    at: u64,
    /// The same on the clock of this host.
    since: Timestamp,
}

/// All Leases of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Peers {
    #[serde(with = "crate::objects::pairs")]
    leases: BTreeMap<LeaseName, Seen>,
    /// Milliseconds during which this instance saw its own renewals, up to the latest.
    clock: u64,
    /// No more than this lies between two renewals.
    longest_gap: u64,
    /// The own renewal that the watch last showed, and when.
    own_renewal: Option<(String, Timestamp)>,
}

impl Peers {
    pub(super) fn new(longest_gap: u64) -> Self {
        Self { longest_gap, ..Self::default() }
    }

    /// Milliseconds during which this instance saw its own renewals, up to the latest: at least
    /// that much time has passed.
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// Where the clock will at most be found to have stood now: what begins now is never thought
    /// to have begun earlier.
    pub(super) fn clock_ahead(&self, now: Timestamp) -> u64 {
        let since = self.own_renewal.as_ref().map_or(0, |(_, at)| now.0.saturating_sub(at.0));
        self.clock + since.min(self.longest_gap)
    }

    /// The own renewal came back through the watch: time has passed for others too, yet no more
    /// than lies between two renewals.
    pub(super) fn renewal_seen(&mut self, renewed: &str, now: Timestamp) {
        if self.own_renewal.as_ref().is_some_and(|(last, _)| last == renewed) {
            return;
        }
        self.clock = self.clock_ahead(now);
        self.own_renewal = Some((renewed.to_owned(), now));
    }

    /// Takes over a Lease unless a newer one is known (T22).
    pub(super) fn update(&mut self, name: LeaseName, record: LeaseRecord, now: Timestamp) {
        let before = self.leases.get(&name);
        if before.is_some_and(|b| is_older(&record.version, &b.record.version)) {
            return;
        }
        let renewal = |r: &LeaseRecord| (r.renewed.clone(), r.holder.clone());
        let (at, since) = match before {
            Some(b) if renewal(&b.record) == renewal(&record) => (b.at, b.since),
            _ => (self.clock_ahead(now), now),
        };
        self.leases.insert(name, Seen { record, at, since });
    }

    pub(super) fn remove(&mut self, name: &LeaseName) {
        self.leases.remove(name);
    }

    pub(super) fn lease(&self, name: &LeaseName) -> Option<&LeaseRecord> {
        self.leases.get(name).map(|seen| &seen.record)
    }

    /// When a Lease may be taken from its holder. Taking replaces the version that was seen, so
    /// that a renewal in between is never overlooked.
    pub(super) fn free_at(&self, name: &LeaseName) -> Option<Timestamp> {
        self.leases.get(name).map(|seen| {
            if seen.record.holder.is_empty() {
                seen.since
            } else {
                seen.since.plus_millis(duration(&seen.record))
            }
        })
    }

    /// How an instance does; `None` without a Lease.
    pub(super) fn life(&self, instance: &str, patience: u64) -> Option<Life> {
        let seen = self.leases.get(&LeaseName::Instance(instance.to_owned()))?;
        let lapse = seen.at + duration(&seen.record);
        Some(if seen.record.holder.is_empty() || self.clock >= lapse.saturating_add(patience) {
            Life::Lost
        } else if self.clock >= lapse {
            Life::Lapsed
        } else {
            Life::Live
        })
    }

    /// All instances with a Lease: how they do and what they publish.
    pub(super) fn instances(
        &self,
        patience: u64,
    ) -> impl Iterator<Item = (&str, Life, &BTreeSet<IpAddr>)> {
        self.leases.iter().filter_map(move |(name, seen)| match name {
            LeaseName::Instance(instance) => {
                let life = self.life(instance, patience)?;
                Some((instance.as_str(), life, &seen.record.addresses))
            }
            LeaseName::Leader => None,
        })
    }
}

fn duration(record: &LeaseRecord) -> u64 {
    record.duration_millis.clamp(*DURATIONS.start(), *DURATIONS.end())
}
