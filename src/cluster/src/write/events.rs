//! Kubernetes events (`events.k8s.io/v1`).

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use smartnat_core::coordination::{ClusterEvent, LeaseName, Subject, WriteError};
use tokio::sync::mpsc;

use super::error::error_of;
use super::names::lease_name;
use crate::api::{API_VERSION, KIND};

/// Events that may wait to be written; more are dropped, since they are told in status too.
pub const MAX_WAITING_EVENTS: usize = 4_096;
/// Different texts that are remembered, so that an event that recurs is counted up.
const MAX_TEXTS: usize = 256;
/// A write that takes longer is given up: a dead connection must not hold up the next events.
const MAX_WRITE: Duration = Duration::from_secs(15);
/// Longest note of an event (validation of `events.k8s.io/v1`), in bytes.
const MAX_NOTE: usize = 1_024;

/// Writes events one after the other.
pub struct EventRecorder {
    client: Client,
    namespace: String,
    instance: String,
    /// The library counts up an event whatever its text, so that each text has its own recorder.
    recorders: BTreeMap<String, Recorder>,
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventRecorder").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl EventRecorder {
    /// A recorder for `instance`, whose Lease is in `namespace`.
    pub fn new(client: Client, namespace: impl Into<String>, instance: impl Into<String>) -> Self {
        let (namespace, instance) = (namespace.into(), instance.into());
        Self { client, namespace, instance, recorders: BTreeMap::new() }
    }

    /// Writes what comes until nothing does any more. `failed` is told of each failure.
    pub async fn follow(
        mut self,
        mut events: mpsc::Receiver<ClusterEvent>,
        mut failed: impl FnMut(&ClusterEvent, WriteError),
    ) {
        while let Some(event) = events.recv().await {
            if let Err(error) = self.record(&event).await {
                failed(&event, error);
            }
        }
    }

    /// Writes one event, or counts up one that was written some minutes ago.
    pub async fn record(&mut self, event: &ClusterEvent) -> Result<(), WriteError> {
        let note = shortened(&event.message);
        if self.recorders.len() >= MAX_TEXTS && !self.recorders.contains_key(&note) {
            self.recorders.clear();
        }
        let reference = self.reference(&event.subject);
        let (client, instance) = (&self.client, &self.instance);
        let recorder = self.recorders.entry(note.clone()).or_insert_with(|| {
            let reporter = Reporter {
                controller: crate::api::GROUP.into(),
                instance: Some(shortened(instance).chars().take(128).collect()),
            };
            Recorder::new(client.clone(), reporter)
        });
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.clone(),
            note: Some(note),
            action: event.reason.clone(),
            secondary: None,
        };
        let namespace = reference.namespace.clone().unwrap_or_default();
        let publish = recorder.publish(&event, &reference);
        match tokio::time::timeout(MAX_WRITE, publish).await {
            Ok(published) => {
                published.map_err(|e| error_of(&e, "create, patch", "events", &namespace))
            }
            Err(_) => Err(WriteError::Transient(format!("no answer within {MAX_WRITE:?}"))),
        }
    }

    fn reference(&self, subject: &Subject) -> ObjectReference {
        match subject {
            Subject::Mapping(key, uid) => ObjectReference {
                api_version: Some(API_VERSION.into()),
                kind: Some(KIND.into()),
                namespace: Some(key.namespace.to_string()),
                name: Some(key.name.to_string()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            },
            Subject::Instance => ObjectReference {
                api_version: Some("coordination.k8s.io/v1".into()),
                kind: Some("Lease".into()),
                namespace: Some(self.namespace.clone()),
                name: Some(lease_name(&LeaseName::Instance(self.instance.clone()))),
                ..ObjectReference::default()
            },
        }
    }
}

/// As much of a text as an event takes, in whole characters.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_NOTE)].to_owned()
}
