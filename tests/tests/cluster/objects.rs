//! Services, their slices and Mappings as they are applied.

use serde_json::{Value, json};

/// What an `EndpointSlice` says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// `serving && terminating`.
    Draining,
}

/// A Service with TCP port 8080, which has this name.
pub(crate) fn service(namespace: &str, name: &str, port_name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "ports": [{ "name": port_name, "port": 8080, "protocol": "TCP" }] },
    })
}

/// A slice of a Service, with these target ports by name.
pub(crate) fn slice(
    namespace: &str,
    service: &str,
    number: usize,
    ports: &[(&str, u16)],
    endpoints: &[(String, State)],
) -> Value {
    let port =
        |(name, port): &(&str, u16)| json!({ "name": name, "port": port, "protocol": "TCP" });
    let endpoint = |(address, state): &(String, State)| {
        let drains = *state == State::Draining;
        json!({
            "addresses": [address],
            "conditions": { "ready": !drains, "serving": true, "terminating": drains },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{number}"),
            "namespace": namespace,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": ports.iter().map(port).collect::<Vec<_>>(),
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A Mapping of one TCP port of an address to port 8080 of a Service.
pub(crate) fn mapping(
    namespace: &str,
    name: &str,
    address: &str,
    port: u16,
    service: &str,
) -> Value {
    json!({
        "apiVersion": smartnat_cluster::api::API_VERSION,
        "kind": smartnat_cluster::api::KIND,
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "addresses": [address],
            "serviceName": service,
            "ports": [{ "port": port, "servicePort": 8080 }],
        },
    })
}

/// Endpoints that are all ready.
pub(crate) fn ready(addresses: impl IntoIterator<Item = String>) -> Vec<(String, State)> {
    addresses.into_iter().map(|address| (address, State::Ready)).collect()
}
