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
    /// The version of the own Lease that the watch last showed.
    own_shown: Option<String>,
    /// The version that the latest answered renewal made, and when that was begun.
    own_written: Option<(String, Timestamp)>,
    /// Since when the watch has not shown a renewal that was written.
    behind_since: Option<Timestamp>,
    /// Instances of which something is known, but no Lease, by when that was last news.
    unheard_of: BTreeMap<String, Timestamp>,
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

    /// Whether own renewals are written and, for so long, not shown by the watch. Told once in
    /// that time.
    pub(super) fn is_blind(&mut self, now: Timestamp, patience: u64) -> bool {
        let (shown, written) = (&self.own_shown, &self.own_written);
        let behind = match (shown, written) {
            (Some(shown), Some((written, _))) => is_older(shown, written),
            (None, Some(_)) => true,
            _ => false,
        };
        if !behind {
            self.behind_since = None;
            return false;
        }
        let since = *self.behind_since.get_or_insert(now);
        let blind = now.0.saturating_sub(since.0) >= patience;
        if blind {
            self.behind_since = Some(now);
        }
        blind
    }

    /// The watch shows the own Lease.
    pub(super) fn own_shown(&mut self, version: &str) -> bool {
        self.own_shown = Some(version.to_owned());
        self.behind_since = None;
        self.forget_unheard_of()
    }

    /// A renewal that was begun at `asked` made this version of the own Lease.
    pub(super) fn own_written(&mut self, version: &str, asked: Timestamp) -> bool {
        self.own_written = Some((version.to_owned(), asked));
        self.forget_unheard_of()
    }

    /// There is news of an instance elsewhere. The watch of Leases may not have shown its Lease
    /// yet.
    pub(super) fn mentioned(&mut self, instance: &str, now: Timestamp) {
        if self.lease(&LeaseName::Instance(instance.to_owned())).is_none() {
            self.unheard_of.insert(instance.to_owned(), now);
        }
    }

    /// Whether an instance without a Lease may have one that the watch has not shown yet.
    pub(super) fn may_have_joined(&self, instance: &str) -> bool {
        self.unheard_of.contains_key(instance)
    }

    /// A renewal that came back through the watch brought all Leases that were written before
    /// it was begun: whoever was mentioned earlier and has none, has none. Whether there is such.
    fn forget_unheard_of(&mut self) -> bool {
        let (Some(shown), Some((written, asked))) = (&self.own_shown, &self.own_written) else {
            return false;
        };
        if is_older(shown, written) {
            return false;
        }
        let before = self.unheard_of.len();
        self.unheard_of.retain(|_, mentioned| *mentioned >= *asked);
        self.unheard_of.len() < before
    }

    /// The API server went back in time: versions that were seen mean nothing any more.
    pub(super) fn forget_versions(&mut self) {
        for seen in self.leases.values_mut() {
            seen.record.version = String::new();
        }
        self.own_shown = None;
        self.own_written = None;
        self.behind_since = None;
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
        if let LeaseName::Instance(instance) = &name {
            self.unheard_of.remove(instance);
        }
        self.leases.insert(name, Seen { record, at, since });
    }

    /// Somebody deleted a Lease. Its instance makes it anew if it is alive.
    pub(super) fn remove(&mut self, name: &LeaseName, now: Timestamp) {
        self.leases.remove(name);
        if let LeaseName::Instance(instance) = name {
            self.mentioned(instance, now);
        }
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
