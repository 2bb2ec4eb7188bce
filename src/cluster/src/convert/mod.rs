//! Kubernetes objects → the core's model. Nothing here judges what a Mapping asks for: that
//! is the admission in the core. An object that cannot be read names the field.

mod endpoints;
mod mapping;
mod service;
mod slice;

pub use endpoints::slices_of_endpoints;
pub use mapping::mapping;
pub use service::service;
pub use slice::{SERVICE_NAME_LABEL, endpoint_slice};

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use smartnat_core::model::{ObjectKey, Protocol, Timestamp};
use thiserror::Error;

/// Namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How many characters of a wrong value a message repeats.
const MAX_VALUE: usize = 80;

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {message}")]
pub struct ConversionError {
    /// The field, for example `spec.ports[0].protocol`.
    pub field: String,
    /// What is wrong with it and how to mend it.
    pub message: String,
}

impl ConversionError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// An error about the value of `field`.
    fn value(field: impl Into<String>, value: impl fmt::Display, message: &str) -> Self {
        let value: String = value.to_string().chars().take(MAX_VALUE).collect();
        Self::new(field, format!("{value:?} {message}"))
    }
}

/// Namespace and name; the namespace is `default` if absent.
pub fn object_key(metadata: &ObjectMeta) -> Result<ObjectKey, ConversionError> {
    let name = metadata.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(ConversionError::new("metadata.name", "is missing; give the object a name"));
    }
    let namespace = match metadata.namespace.as_deref() {
        None | Some("") => DEFAULT_NAMESPACE,
        Some(namespace) => namespace,
    };
    for (field, value) in [("metadata.name", name), ("metadata.namespace", namespace)] {
        if !is_dns_name(value) {
            return Err(ConversionError::value(
                field,
                value,
                "is no name; use up to 253 lower-case letters, digits, '-' and '.', beginning \
                 and ending with a letter or digit",
            ));
        }
    }
    Ok(ObjectKey::new(namespace, name))
}

pub(crate) fn is_dns_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && name.bytes().all(inner)
        && edge(name.bytes().next())
        && edge(name.bytes().last())
}

/// Milliseconds since the epoch; a time before it is the epoch.
pub(crate) fn timestamp(time: &Time) -> Timestamp {
    Timestamp(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

/// A protocol as Kubernetes spells it; absent is TCP.
fn protocol(field: impl Into<String>, value: Option<&str>) -> Result<Protocol, ConversionError> {
    let value = value.unwrap_or("TCP");
    value.parse().map_err(|()| {
        ConversionError::value(field, value, "is no protocol of a port; use TCP, UDP or SCTP")
    })
}

/// A port number, 1 to 65535.
fn port_number(field: impl Into<String>, value: i32) -> Result<u16, ConversionError> {
    u16::try_from(value)
        .ok()
        .filter(|p| *p != 0)
        .ok_or_else(|| ConversionError::value(field, value, "is no port; use 1 to 65535"))
}

/// An address without prefix length.
fn address(field: impl Into<String>, value: &str) -> Result<IpAddr, ConversionError> {
    value.parse().map_err(|_| {
        ConversionError::value(field, value, "is no IP address, such as 10.244.1.11 or fd00::11")
    })
}

#[cfg(test)]
mod tests;
