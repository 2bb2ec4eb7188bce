//! What instances write to the API server: Leases, status, finalizers, events.
//!
//! What is written is decided by [`smartnat_core::coordination`]; here it becomes requests.

mod error;
mod events;
mod leases;
mod names;
mod patch;
mod records;

#[cfg(test)]
mod tests;

pub use error::error_of;
pub use events::{EventRecorder, MAX_WAITING_EVENTS};
pub use leases::{LEASE_LABEL, lease_selector};
pub use names::{field_manager, lease_name};
pub use records::{lease_record, mapping_record};

use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use smartnat_core::coordination::{LeaseName, Summary, Write, WriteError, Written};
use smartnat_core::model::ObjectKey;

use crate::api::Mapping;
use k8s_openapi::api::coordination::v1::Lease;

/// Executes writes.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer with its Leases in `namespace`.
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self { client, namespace: namespace.into() }
    }

    /// Does one write; the answer is what the API server holds after it.
    pub async fn execute(&self, write: &Write) -> Result<Written, WriteError> {
        match write {
            Write::Lease { name, replaces, .. } => {
                self.lease(write, name, replaces.as_deref()).await
            }
            Write::Entries { mapping, uid, instance, entries } => {
                let status = patch::entries(entries);
                let manager = field_manager(&LeaseName::Instance(instance.clone()));
                answer(&self.patch_status(mapping, uid, &manager, &status).await?)
            }
            Write::Summary { mapping, uid, summary } => self.summary(mapping, uid, summary).await,
            Write::Finalizers { mapping, uid, replaces, finalizers } => {
                let body = patch::finalizers(uid, replaces, finalizers);
                let params = PatchParams {
                    field_manager: Some(field_manager(&LeaseName::Leader)),
                    ..PatchParams::default()
                };
                let patched =
                    self.mappings(mapping).patch(&mapping.name, &params, &Patch::Merge(body)).await;
                answer(&patched.map_err(|e| error_of(&e, "patch", "mappings", &mapping.namespace))?)
            }
        }
    }

    fn mappings(&self, key: &ObjectKey) -> Api<Mapping> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    async fn lease(
        &self,
        write: &Write,
        name: &LeaseName,
        replaces: Option<&str>,
    ) -> Result<Written, WriteError> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(lease) = leases::lease(write) else { return Err(WriteError::NotFound) };
        let params = PostParams::default();
        let written = match replaces {
            Some(_) => api.replace(&lease_name(name), &params, &lease).await,
            None => api.create(&params, &lease).await,
        };
        let verb = if replaces.is_some() { "update" } else { "create" };
        let written = written.map_err(|error| {
            match error_of(&error, verb, "leases", &self.namespace) {
                // Nothing can be created in a namespace that is not there.
                WriteError::NotFound if replaces.is_none() => WriteError::Refused(format!(
                    "namespace {} is missing; create it, or name another one with --namespace",
                    self.namespace
                )),
                error => error,
            }
        })?;
        let (_, record) = lease_record(&written).ok_or_else(|| {
            WriteError::Refused(format!("Lease {} is none of ours", lease_name(name)))
        })?;
        Ok(Written::Lease(record))
    }

    /// Applies the leader's fields; what others left of them goes, too, which apply alone can't
    /// do: fields of the Go version belong to its field manager for ever.
    async fn summary(
        &self,
        key: &ObjectKey,
        uid: &str,
        summary: &Summary,
    ) -> Result<Written, WriteError> {
        let manager = field_manager(&LeaseName::Leader);
        let applied = self.patch_status(key, uid, &manager, &patch::summary(summary)).await?;
        let Some(leftovers) = patch::leftovers(&applied, summary) else { return answer(&applied) };
        let params = PatchParams { field_manager: Some(manager), ..PatchParams::default() };
        let cleared =
            self.mappings(key).patch_status(&key.name, &params, &Patch::Merge(leftovers)).await;
        answer(&cleared.map_err(|e| error_of(&e, "patch", "mappings/status", &key.namespace))?)
    }

    async fn patch_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        manager: &str,
        status: &serde_json::Value,
    ) -> Result<Mapping, WriteError> {
        let params = PatchParams::apply(manager).force();
        let body = patch::apply(key, uid, status);
        let patched =
            self.mappings(key).patch_status(&key.name, &params, &Patch::Apply(body)).await;
        patched.map_err(|e| error_of(&e, "patch", "mappings/status", &key.namespace))
    }
}

/// The record of what was written; a Mapping that is being deleted goes with its last finalizer.
fn answer(mapping: &Mapping) -> Result<Written, WriteError> {
    let gone = mapping.metadata.deletion_timestamp.is_some()
        && mapping.metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
    if gone {
        return Ok(Written::Mapping(None));
    }
    let record = mapping_record(mapping)
        .map_err(|error| WriteError::Refused(format!("the answer can't be read: {error}")))?;
    Ok(Written::Mapping(Some(Box::new(record))))
}
