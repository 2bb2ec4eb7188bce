//! What the API server holds, reduced to what coordination reads and writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// A Lease of ours (`coordination.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaseName {
    /// Of the instance with this name.
    Instance(String),
    /// Of the leader.
    Leader,
}

/// A Lease as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// `spec.holderIdentity`: which process; empty when released.
    pub holder: String,
    /// `spec.renewTime` as written. Compared for change only: clocks are never compared (T20).
    pub renewed: String,
    /// `spec.leaseDurationSeconds`, in milliseconds.
    pub duration_millis: u64,
    /// External addresses that the instance holds; empty for the leader's.
    pub addresses: BTreeSet<IpAddr>,
    /// `metadata.resourceVersion`.
    pub version: String,
}

/// A Mapping as the API server has it, beside its specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MappingRecord {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// Addresses of the specification, as far as they can be read.
    pub addresses: BTreeSet<IpAddr>,
    /// Fields of the status that belong to the leader.
    pub summary: Summary,
    /// Entries of `status.addresses`, each of the instance that it names.
    pub entries: Vec<AddressEntry>,
}

/// The fields of a status that are about the whole Mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Summary {
    /// `no`, or why the Mapping was rejected.
    pub invalid: Option<String>,
    /// First cluster address of the Service.
    pub service_vip: Option<IpAddr>,
    /// Pods behind each external address that an instance holds.
    pub configured_addresses: BTreeMap<IpAddr, Vec<IpAddr>>,
    /// Generation that all this is about.
    pub observed_generation: Option<i64>,
    /// Endpoints that get new connections.
    pub endpoints: Option<i64>,
    /// Accepted, Programmed.
    pub conditions: Vec<StatusCondition>,
}

/// What one instance says of one address that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressEntry {
    /// The external address.
    pub address: IpAddr,
    /// The instance.
    pub instance: String,
    /// Programmed, and Shared where another live instance holds the address too.
    pub conditions: Vec<StatusCondition>,
}

/// `status` of a `metav1.Condition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows.
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// A `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatusCondition {
    /// One of the condition types in [`crate::status::reason`].
    pub kind: String,
    /// Whether it is so.
    pub truth: Truth,
    /// One of the reasons in [`crate::status::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// Generation of the Mapping that it is about.
    pub generation: i64,
    /// When `truth` last changed.
    pub since: Timestamp,
}

impl StatusCondition {
    /// Whether both say the same, whenever they began to.
    fn says_the_same(&self, other: &Self) -> bool {
        let said = |c: &Self| (c.truth, c.generation);
        said(self) == said(other)
            && self.kind == other.kind
            && self.reason == other.reason
            && self.message == other.message
    }
}

/// Longest message of a condition: `metav1.Condition` takes 32,768 bytes, a reader much less.
const MAX_MESSAGE: usize = 4_096;

/// As much of a text as a message takes, in whole characters.
pub(super) fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}

/// The condition of a type.
pub(super) fn condition<'a>(all: &'a [StatusCondition], kind: &str) -> Option<&'a StatusCondition> {
    all.iter().find(|c| c.kind == kind)
}

/// Whether both lists say the same, whenever they began to and in whatever order.
fn same_conditions(one: &[StatusCondition], other: &[StatusCondition]) -> bool {
    one.len() == other.len()
        && one.iter().all(|c| condition(other, &c.kind).is_some_and(|o| c.says_the_same(o)))
}

/// Takes over since when a condition holds from what was written before.
pub(super) fn date(new: &mut [StatusCondition], before: &[StatusCondition]) {
    for condition in new {
        let known = before.iter().find(|b| b.kind == condition.kind && b.truth == condition.truth);
        if let Some(known) = known {
            condition.since = known.since;
        }
    }
}

impl MappingRecord {
    /// What an instance said.
    pub(super) fn entries_of(&self, instance: &str) -> Vec<AddressEntry> {
        self.entries.iter().filter(|e| e.instance == instance).cloned().collect()
    }
}

impl Summary {
    /// Whether both say the same, whenever they began to.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let blank = |s: &Self| Self { conditions: Vec::new(), ..s.clone() };
        blank(self) == blank(other) && same_conditions(&self.conditions, &other.conditions)
    }
}

/// Whether both lists of one instance say the same, whenever they began to.
pub(super) fn same_entries(one: &[AddressEntry], other: &[AddressEntry]) -> bool {
    one.len() == other.len()
        && one.iter().all(|entry| {
            let counterpart = other.iter().find(|o| o.address == entry.address);
            counterpart.is_some_and(|o| same_conditions(&entry.conditions, &o.conditions))
        })
}

/// Whether `version` is older than `than`: the server's numbers grow (KEP-5504). What is no
/// number can't be told apart and is taken as it comes.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}
