//! What goes into the coordinator and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::records::{AddressEntry, LeaseName, LeaseRecord, MappingRecord, Summary, same_entries};
use crate::model::ObjectKey;
use crate::status::StatusReport;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// Leases that the watch showed, `None` for one that is gone. The first time all of them.
    Leases(#[serde(with = "crate::objects::pairs")] BTreeMap<LeaseName, Option<LeaseRecord>>),
    /// Mappings that the watch showed, `None` for one that is gone. The first time all of them.
    Mappings(BTreeMap<ObjectKey, Option<MappingRecord>>),
    /// What the gateway tells of this host.
    Report(Box<StatusReport>),
    /// Answer to [`Output::Write`].
    Written(WriteId, Result<Written, WriteError>),
    /// The time of [`super::Coordinator::poll_timeout`] has come.
    Tick,
    /// The API server went back in time, as after a restore: what was seen of it in newer
    /// versions is not there any more.
    Reset,
    /// The program ends: leadership is given back, nothing else is written any more.
    Stop,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Write to the API server; answer with [`Input::Written`].
    Write(WriteId, Write),
    /// The gateway may serve exactly these external addresses, as far as its host holds them.
    Published(BTreeSet<IpAddr>),
    /// Something worth telling in the cluster.
    Event(ClusterEvent),
    /// Something worth telling the operator of this host.
    Notice(Notice),
}

/// Number of a write, to tell answers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WriteId(pub u64);

/// A write to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Write {
    /// Create a Lease, or replace exactly the version that was seen.
    Lease {
        /// Which.
        name: LeaseName,
        /// `resourceVersion` that is replaced; `None`: there is none yet.
        replaces: Option<String>,
        /// Who holds it from now on; empty: nobody.
        holder: String,
        /// For how long.
        duration_millis: u64,
        /// Addresses that the instance holds.
        addresses: BTreeSet<IpAddr>,
    },
    /// Server-side apply of an instance's entries in `status.addresses`, under its own manager.
    Entries {
        /// Which Mapping.
        mapping: ObjectKey,
        /// And no other of this name.
        uid: String,
        /// Whose entries.
        instance: String,
        /// All of them.
        entries: Vec<AddressEntry>,
    },
    /// Server-side apply of the leader's fields of `status`, under the leaders' manager.
    Summary {
        /// Which Mapping.
        mapping: ObjectKey,
        /// And no other of this name.
        uid: String,
        /// All of them.
        summary: Box<Summary>,
    },
    /// Replace `metadata.finalizers` of exactly the version that was seen.
    Finalizers {
        /// Which Mapping.
        mapping: ObjectKey,
        /// And no other of this name.
        uid: String,
        /// `resourceVersion` that is replaced.
        replaces: String,
        /// All of them.
        finalizers: Vec<String>,
    },
}

/// What of a Mapping is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WriteKind {
    /// Its finalizers.
    Finalizers,
    /// Entries of an instance.
    Entries,
    /// The leader's fields.
    Summary,
}

impl WriteKind {
    /// All of them, the most urgent first.
    pub(super) const OF_MAPPINGS: [Self; 3] = [Self::Finalizers, Self::Entries, Self::Summary];
}

impl Write {
    /// What of a Mapping is written.
    pub fn kind(&self) -> Option<WriteKind> {
        match self {
            Self::Lease { .. } => None,
            Self::Entries { .. } => Some(WriteKind::Entries),
            Self::Summary { .. } => Some(WriteKind::Summary),
            Self::Finalizers { .. } => Some(WriteKind::Finalizers),
        }
    }

    /// The Mapping that is written.
    pub fn mapping(&self) -> Option<&ObjectKey> {
        match self {
            Self::Lease { .. } => None,
            Self::Entries { mapping, .. }
            | Self::Summary { mapping, .. }
            | Self::Finalizers { mapping, .. } => Some(mapping),
        }
    }

    /// Whether a Mapping is as it was to be.
    pub(super) fn is_in(&self, record: &MappingRecord) -> bool {
        match self {
            Self::Lease { .. } => true,
            Self::Entries { instance, entries, .. } => {
                same_entries(&record.entries_of(instance), entries)
            }
            Self::Summary { summary, .. } => summary.says_the_same(&record.summary),
            Self::Finalizers { finalizers, .. } => record.finalizers == *finalizers,
        }
    }
}

/// What the API server holds after a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Written {
    /// The Lease.
    Lease(LeaseRecord),
    /// The Mapping; `None` where it went with its last finalizer.
    Mapping(Option<Box<MappingRecord>>),
}

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WriteError {
    /// Somebody else was faster, or the object is another one by now.
    Conflict,
    /// There is no such object.
    NotFound,
    /// The API server refuses it; trying again changes nothing unless somebody mends the cause.
    Refused(String),
    /// It may work later.
    Transient(String),
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A Mapping, with its uid.
    Mapping(ObjectKey, String),
    /// This instance, by its Lease.
    Instance,
}

/// An event for the cluster (`events.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// What it is about.
    pub subject: Subject,
    /// Calls for attention.
    pub warning: bool,
    /// In one word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Something that the operator of this host should know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Notice {
    /// This instance has its Lease.
    Joined,
    /// Another process renews the Lease of this instance's name.
    NameTaken {
        /// Its identity.
        holder: String,
    },
    /// This instance became the leader, or is it no more.
    Leading(bool),
    /// The host holds more addresses than a Lease can tell.
    TooManyAddresses(usize),
    /// Own renewals are written, and the watch has not shown one for the duration of a Lease.
    WatchBlind,
    /// A write failed and will be tried again.
    WriteFailed(Box<Write>, WriteError),
}
