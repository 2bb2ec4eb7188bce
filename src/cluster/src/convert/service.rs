//! Service → the core's form.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core_v1;
use smartnat_core::model;

use super::{ConversionError, address, object_key, port_number, protocol};

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// A Service as far as decisions read it.
pub fn service(service: &core_v1::Service) -> Result<model::Service, ConversionError> {
    let key = object_key(&service.metadata)?;
    let spec = service
        .spec
        .as_ref()
        .ok_or_else(|| ConversionError::new("spec", "is missing; a Service needs one"))?;
    let ports = spec.ports.iter().flatten().enumerate();
    Ok(model::Service {
        key,
        external_name: spec.type_.as_deref() == Some("ExternalName"),
        cluster_ips: cluster_ips(spec)?,
        ports: ports.map(|(i, port)| service_port(i, port)).collect::<Result<_, _>>()?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        affinity_seconds: affinity(spec)?,
    })
}

fn service_port(
    index: usize,
    port: &core_v1::ServicePort,
) -> Result<model::ServicePort, ConversionError> {
    let field = |name: &str| format!("spec.ports[{index}].{name}");
    Ok(model::ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(field("protocol"), port.protocol.as_deref())?,
        port: port_number(field("port"), port.port)?,
    })
}

/// `clusterIPs`, or `clusterIP` where an old manifest has only that.
fn cluster_ips(spec: &core_v1::ServiceSpec) -> Result<Vec<IpAddr>, ConversionError> {
    let all = spec.cluster_ips.iter().flatten().enumerate();
    let mut texts: Vec<(String, &str)> =
        all.map(|(i, text)| (format!("spec.clusterIPs[{i}]"), text.as_str())).collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.as_deref().map(|text| ("spec.clusterIP".into(), text)));
    }
    texts
        .into_iter()
        .filter(|(_, text)| !text.is_empty() && *text != "None")
        .map(|(field, text)| address(field, text))
        .collect()
}

fn affinity(spec: &core_v1::ServiceSpec) -> Result<Option<u32>, ConversionError> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return Ok(None),
        Some("ClientIP") => {}
        Some(other) => {
            return Err(ConversionError::value(
                "spec.sessionAffinity",
                other,
                "is not known; use None or ClientIP",
            ));
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = config.and_then(|c| c.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Ok(Some(seconds)),
        _ => Err(ConversionError::value(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            seconds,
            "is out of range; use 1 to 86400",
        )),
    }
}
