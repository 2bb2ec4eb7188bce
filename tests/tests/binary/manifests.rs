//! Manifests as a user writes them.

use std::fmt::Write;

/// A Service with port 8080 (`http`) and, by the Endpoints of `pods`, an `EndpointSlice` of it.
pub(crate) fn service(name: &str, pods: &[&str]) -> String {
    format!("{}---\n{}", bare_service(name), slice(name, pods))
}

/// A Service without endpoints.
pub(crate) fn bare_service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         clusterIP: 10.96.0.80\n  ports:\n  - {{name: http, protocol: TCP, port: 8080}}\n  \
         - {{name: dns, protocol: UDP, port: 5353}}\n"
    )
}

/// The IPv4 slice of a Service.
pub(crate) fn slice(service: &str, pods: &[&str]) -> String {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-1\n  \
         namespace: default\n  labels: {{kubernetes.io/service-name: {service}}}\n\
         addressType: IPv4\nports:\n- {{name: http, protocol: TCP, port: 8080}}\n\
         - {{name: dns, protocol: UDP, port: 5353}}\nendpoints:\n"
    );
    for pod in pods {
        let _ = writeln!(text, "- {{addresses: [\"{pod}\"], conditions: {{ready: true}}}}");
    }
    if pods.is_empty() {
        text.push_str("  []\n");
    }
    text
}

/// A Mapping of TCP `port` of these addresses to port 8080 of a Service.
pub(crate) fn mapping(name: &str, addresses: &[&str], port: u16, service: &str) -> String {
    format!(
        "apiVersion: smartnat.aureacentral.com/v1alpha1\nkind: Mapping\nmetadata: {{name: {name}, \
         namespace: default}}\nspec:\n  addresses: {addresses:?}\n  serviceName: {service}\n  \
         ports:\n  - {{port: {port}, servicePort: 8080}}\n"
    )
}

/// A Mapping with a UDP port 5353 beside its TCP port 8080, to Service `echo`.
pub(crate) fn echo_mapping(addresses: &[&str]) -> String {
    mapping("echo", addresses, 8080, "echo") + "  - {port: 5353, protocol: udp}\n"
}
