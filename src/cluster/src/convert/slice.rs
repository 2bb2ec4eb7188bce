//! `EndpointSlice` → the core's form.

use k8s_openapi::api::discovery::v1 as discovery_v1;
use smartnat_core::model::{self, Family};

use super::{ConversionError, address, object_key, port_number, protocol};

/// Label that names the Service of an `EndpointSlice`.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// An `EndpointSlice` with its conditions resolved to their defaults.
pub fn endpoint_slice(
    slice: &discovery_v1::EndpointSlice,
) -> Result<model::EndpointSlice, ConversionError> {
    let key = object_key(&slice.metadata)?;
    let labels = slice.metadata.labels.as_ref();
    let service_name = labels.and_then(|l| l.get(SERVICE_NAME_LABEL)).filter(|n| !n.is_empty());
    let service_name = service_name.ok_or_else(|| {
        ConversionError::new(
            format!("metadata.labels[{SERVICE_NAME_LABEL}]"),
            "is missing, so the slice belongs to no Service; label it with the Service's name",
        )
    })?;
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        other => {
            return Err(ConversionError::value(
                "addressType",
                other,
                "cannot be a target of translation; use IPv4 or IPv6",
            ));
        }
    };
    let ports = slice.ports.iter().flatten().enumerate();
    let endpoints = slice.endpoints.iter().enumerate();
    Ok(model::EndpointSlice {
        key,
        service_name: service_name.as_str().into(),
        family,
        ports: ports.map(|(i, port)| slice_port(i, port)).collect::<Result<_, _>>()?,
        endpoints: endpoints
            .map(|(i, endpoint)| slice_endpoint(i, endpoint, family))
            .collect::<Result<_, _>>()?,
    })
}

fn slice_port(
    index: usize,
    port: &discovery_v1::EndpointPort,
) -> Result<model::SlicePort, ConversionError> {
    let field = |name: &str| format!("ports[{index}].{name}");
    Ok(model::SlicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(field("protocol"), port.protocol.as_deref())?,
        port: port.port.map(|p| port_number(field("port"), p)).transpose()?,
    })
}

fn slice_endpoint(
    index: usize,
    endpoint: &discovery_v1::Endpoint,
    family: Family,
) -> Result<model::SliceEndpoint, ConversionError> {
    let mut addresses = Vec::with_capacity(endpoint.addresses.len());
    for (i, text) in endpoint.addresses.iter().enumerate() {
        let field = format!("endpoints[{index}].addresses[{i}]");
        let parsed = address(&field, text)?;
        if Family::of(&parsed) != family {
            return Err(ConversionError::value(
                field,
                text,
                &format!(
                    "is not of the slice's addressType {family}; move it to a slice of its own family"
                ),
            ));
        }
        addresses.push(parsed);
    }
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Ok(model::SliceEndpoint {
        addresses,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
    })
}
