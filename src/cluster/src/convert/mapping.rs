//! Mapping → the core's form, as written.

use smartnat_core::model;

use super::{ConversionError, object_key, timestamp};
use crate::api;

/// A Mapping as written, before admission.
pub fn mapping(mapping: &api::Mapping) -> Result<model::Mapping, ConversionError> {
    let metadata = &mapping.metadata;
    Ok(model::Mapping {
        key: object_key(metadata)?,
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        created: metadata.creation_timestamp.as_ref().map(timestamp),
        deleting: metadata.deletion_timestamp.is_some(),
        spec: spec(&mapping.spec),
    })
}

fn spec(spec: &api::MappingSpec) -> model::MappingSpec {
    model::MappingSpec {
        addresses: spec.addresses.clone(),
        allowed_sources: spec.allowed_sources.clone(),
        service_name: spec.service_name.as_str().into(),
        mode: spec.mode.clone(),
        ports: spec.ports.iter().map(port).collect(),
        masquerade: spec.masquerade,
        egress: spec.egress,
    }
}

fn port(port: &api::MappingPort) -> model::MappingPort {
    model::MappingPort {
        port: port.port,
        end_port: port.end_port,
        protocol: port.protocol.clone(),
        service_port: port.service_port.clone(),
    }
}
