//! Errors of the API server, by their code.

use kube::Error;
use smartnat_core::coordination::WriteError;

use crate::source::classify::text;

/// The class of an error of `verb` on `resource` in `namespace`.
pub fn error_of(error: &Error, verb: &str, resource: &str, namespace: &str) -> WriteError {
    // Credentials that can't be had may be quoted by the error itself.
    let Error::Api(status) = error else { return WriteError::Transient(text(error)) };
    match status.code {
        404 => WriteError::NotFound,
        409 => WriteError::Conflict,
        // Not only RBAC forbids: admission policies, quotas and namespaces in deletion do, too.
        403 => WriteError::Refused(format!(
            "{verb} {resource} in namespace {namespace} is forbidden: {}; if it is RBAC, add to the \
             role of this account: {}",
            status.message,
            rule(verb, resource)
        )),
        // An apply that breaks the schema is answered with 500, so that one is tried again.
        400 | 413 | 415 | 422 => WriteError::Refused(status.message.clone()),
        _ => WriteError::Transient(status.message.clone()),
    }
}

/// The RBAC rule that allows `verb` on `resource`.
fn rule(verb: &str, resource: &str) -> String {
    let group = match resource {
        "leases" => "coordination.k8s.io",
        "events" => "events.k8s.io",
        _ => crate::api::GROUP,
    };
    format!("{{apiGroups: [{group}], resources: [{resource}], verbs: [{verb}]}}")
}
