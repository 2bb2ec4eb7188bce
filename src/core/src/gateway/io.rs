//! What goes into the gateway and what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{ClusterObject, Family, HostState, ObjectKey};
use crate::objects::{Flow, FlowFilter, KernelState, ObservationScope};
use crate::ops::{OpError, Transaction};
use crate::status::StatusReport;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// Changed objects, coalesced. The first one says that all sources have synced,
    /// so it may be empty and must be complete.
    Cluster(Vec<ClusterObject>),
    /// The host's links, addresses and routes as they are now.
    Host(HostState),
    /// Answer to [`Output::Observe`].
    Observed(Result<Box<KernelState>, OpError>),
    /// Answer to [`Output::Apply`].
    Applied(Result<(), OpError>),
    /// Answer to [`Output::ListFlows`].
    Flows(Result<Vec<Flow>, OpError>),
    /// The kernel said that something of netfilter, rules or routes changed and not by us.
    KernelChanged,
    /// The time of [`super::Gateway::poll_timeout`] has come.
    Tick,
    /// Others need forwarding of these families, with what needs it, for people: where we
    /// switched it on and no longer need it ourselves, it stays on (T16). Each time all of them.
    ForwardingNeeded(BTreeMap<Family, Vec<String>>),
    /// Remove everything of ours (T16). There is no way back.
    CleanUp,
}

/// Something to do. At most one of `Observe`, `Apply` and `ListFlows` is outstanding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Read the kernel; answer with [`Input::Observed`].
    Observe(ObservationScope),
    /// Execute; answer with [`Input::Applied`].
    Apply(Transaction),
    /// List conntrack entries; answer with [`Input::Flows`].
    ListFlows(FlowFilter),
    /// The status changed.
    Status(Box<StatusReport>),
    /// Something worth telling happened.
    Event(Event),
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// A Mapping was accepted.
    Accepted,
    /// A Mapping was rejected.
    Rejected,
    /// The dataplane was read back and is as wanted after a change.
    Programmed,
    /// Something of ours was changed by others and is back (T17).
    DriftRepaired,
    /// The kernel refused an operation.
    KernelError,
    /// Connections were ended since nothing permits them any more (T10).
    ConnectionsEnded,
    /// What a run on another backend left was found, or is removed.
    BackendChanged,
    /// Forwarding that we switched on stays on, since others need it (T16).
    ForwardingKept,
    /// Everything of ours is removed (T16).
    CleanedUp,
    /// Clean-up left something behind.
    CleanUpIncomplete,
}

impl EventKind {
    /// Whether it calls for attention.
    pub fn is_warning(self) -> bool {
        matches!(
            self,
            Self::Rejected
                | Self::DriftRepaired
                | Self::KernelError
                | Self::ForwardingKept
                | Self::CleanUpIncomplete
        )
    }
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// The Mapping it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<ObjectKey>,
    /// For people.
    pub message: String,
}
