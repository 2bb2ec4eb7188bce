//! Events of the gateway that the cluster should know of.

use smartnat_core::coordination::{ClusterEvent, Subject};
use smartnat_core::gateway::{Event, EventKind};

/// The event about this instance that goes with one of its gateway. Verdicts on Mappings and what
/// is programmed are told with the status, by the leader alone.
pub fn events_of_instance(event: &Event) -> Option<ClusterEvent> {
    let reason = match event.kind {
        EventKind::DriftRepaired => "DriftRepaired",
        EventKind::KernelError => "KernelError",
        EventKind::BackendChanged => "BackendChanged",
        EventKind::ForwardingKept => "ForwardingKept",
        EventKind::Accepted
        | EventKind::Rejected
        | EventKind::Programmed
        | EventKind::ConnectionsEnded
        | EventKind::CleanedUp
        | EventKind::CleanUpIncomplete => return None,
    };
    Some(ClusterEvent {
        subject: Subject::Instance,
        warning: event.kind.is_warning(),
        reason: reason.into(),
        message: event.message.clone(),
    })
}
