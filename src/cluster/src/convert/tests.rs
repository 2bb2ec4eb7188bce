use k8s_openapi::api::core::v1::{Endpoints, Service};
use serde::de::DeserializeOwned;
use smartnat_core::model::{Family, PortReference};

use super::*;
use crate::api;

fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_yaml_ng::from_str(text).unwrap()
}

const SLICE: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, \
                     labels: {kubernetes.io/service-name: echo}}, ";

fn slice_of(rest: &str) -> Result<smartnat_core::model::EndpointSlice, ConversionError> {
    endpoint_slice(&yaml(&format!("{SLICE}{rest}}}")))
}

fn service_of(spec: &str) -> Result<smartnat_core::model::Service, ConversionError> {
    let head = "{apiVersion: v1, kind: Service, metadata: {name: echo, namespace: web}, spec: ";
    service(&yaml::<Service>(&format!("{head}{spec}}}")))
}

#[test]
fn a_mapping_is_taken_over_as_written() {
    let text = "
        apiVersion: smartnat.aureacentral.com/v1alpha1
        kind: Mapping
        metadata:
          name: echo
          generation: 7
          creationTimestamp: 2020-01-02T03:04:05Z
          deletionTimestamp: 2020-01-02T03:04:06Z
        spec:
          addresses: [nonsense, 2001:db8::1]
          allowedSources: [192.0.2.7]
          serviceName: Echo
          mode: other
          egress: true
          ports:
          - {port: 99999, endPort: -1, protocol: UDP, servicePort: dns}
          - {servicePort: 70000}";
    let converted = mapping(&yaml::<api::Mapping>(text)).unwrap();
    assert_eq!(converted.key, ObjectKey::new("default", "echo"));
    assert_eq!(converted.generation, 7);
    assert_eq!(converted.created, Some(Timestamp(1_577_934_245_000)));
    assert!(converted.deleting);
    let spec = converted.spec;
    assert_eq!(spec.addresses, ["nonsense", "2001:db8::1"]);
    assert_eq!(spec.allowed_sources, ["192.0.2.7"]);
    assert_eq!((&*spec.service_name, spec.mode.as_deref()), ("Echo", Some("other")));
    assert_eq!((spec.masquerade, spec.egress), (None, Some(true)));
    let first = &spec.ports[0];
    assert_eq!((first.port, first.end_port), (Some(99_999), Some(-1)));
    assert_eq!(first.protocol.as_deref(), Some("UDP"));
    assert_eq!(first.service_port, Some(PortReference::Name("dns".into())));
    assert_eq!(spec.ports[1].port, None);
    assert_eq!(spec.ports[1].service_port, Some(PortReference::Number(70_000)));
}

#[test]
fn a_mapping_that_says_nothing_is_for_admission_to_judge() {
    let text = "{apiVersion: smartnat.aureacentral.com/v1alpha1, kind: Mapping, \
                metadata: {name: m, namespace: web, creationTimestamp: null}, \
                spec: {addresses: null, ports: null, allowedSources: null, serviceName: null}}";
    let converted = mapping(&yaml::<api::Mapping>(text)).unwrap();
    assert_eq!(converted.key, ObjectKey::new("web", "m"));
    assert_eq!((converted.created, converted.deleting), (None, false));
    assert_eq!(converted.spec, smartnat_core::model::MappingSpec::default());
}

#[test]
fn names_are_checked() {
    for (metadata, field) in [
        ("{}", "metadata.name"),
        ("{name: ''}", "metadata.name"),
        ("{name: a/b}", "metadata.name"),
        ("{name: Echo}", "metadata.name"),
        ("{name: -a}", "metadata.name"),
        ("{name: a, namespace: b/c}", "metadata.namespace"),
    ] {
        let error = object_key(&yaml::<ObjectMeta>(metadata)).unwrap_err();
        assert_eq!(error.field, field, "{metadata}");
    }
    let key = object_key(&yaml("{name: a.b-1, namespace: ''}")).unwrap();
    assert_eq!(key, ObjectKey::new("default", "a.b-1"));
}

#[test]
fn a_service_is_reduced_to_what_matters() {
    let converted = service_of(
        "{clusterIPs: [10.96.0.1, 'fd00::1'], publishNotReadyAddresses: true, \
          sessionAffinity: ClientIP, \
          ports: [{port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]}",
    )
    .unwrap();
    assert_eq!(converted.key, ObjectKey::new("web", "echo"));
    let addresses: Vec<String> = converted.cluster_ips.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.1", "fd00::1"]);
    assert!(converted.publish_not_ready && !converted.external_name);
    assert_eq!(converted.affinity_seconds, Some(10_800));
    let ports: Vec<_> =
        converted.ports.iter().map(|p| (p.name.as_str(), p.protocol, p.port)).collect();
    assert_eq!(ports, [("", Protocol::Tcp, 80), ("dns", Protocol::Udp, 53)]);
}

#[test]
fn a_service_may_lack_nearly_everything() {
    for (spec, external, addresses, affinity) in [
        ("{}", false, 0, None),
        ("{clusterIP: None, clusterIPs: [None]}", false, 0, None),
        ("{clusterIP: 10.96.0.1}", false, 1, None),
        ("{type: ExternalName, externalName: example.com, clusterIP: ''}", true, 0, None),
        ("{sessionAffinity: None}", false, 0, None),
        (
            "{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 9}}}",
            false,
            0,
            Some(9),
        ),
    ] {
        let converted = service_of(spec).unwrap();
        assert_eq!(converted.external_name, external, "{spec}");
        assert_eq!(converted.cluster_ips.len(), addresses, "{spec}");
        assert_eq!(converted.affinity_seconds, affinity, "{spec}");
    }
}

#[test]
fn a_broken_service_names_the_field() {
    for (spec, field) in [
        ("null", "spec"),
        ("{clusterIPs: [10.96.0.1, x]}", "spec.clusterIPs[1]"),
        ("{clusterIP: 10.96.0.1/32}", "spec.clusterIP"),
        ("{ports: [{port: 80}, {port: 0}]}", "spec.ports[1].port"),
        ("{ports: [{port: 70000}]}", "spec.ports[0].port"),
        ("{ports: [{port: 80, protocol: ICMP}]}", "spec.ports[0].protocol"),
        ("{sessionAffinity: Cookie}", "spec.sessionAffinity"),
        (
            "{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        ),
    ] {
        assert_eq!(service_of(spec).unwrap_err().field, field, "{spec}");
    }
}

#[test]
fn conditions_of_an_endpoint_default_as_the_api_says() {
    let converted = slice_of(
        "addressType: IPv4, ports: [{port: 80}, {name: all}], endpoints: [{addresses: [10.0.0.1]}, \
         {addresses: [10.0.0.2], conditions: {ready: false}}, \
         {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}, \
         {addresses: [10.0.0.4], conditions: {ready: null}}]",
    )
    .unwrap();
    assert_eq!((&*converted.service_name, converted.family), ("echo", Family::V4));
    let states: Vec<_> =
        converted.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(
        states,
        [(true, true, false), (false, false, false), (false, true, true), (true, true, false)]
    );
    assert_eq!((converted.ports[0].port, converted.ports[1].port), (Some(80), None));
}

#[test]
fn a_broken_slice_names_the_field() {
    for (rest, field) in [
        ("addressType: FQDN, endpoints: []", "addressType"),
        ("addressType: IPv4, endpoints: [{addresses: ['::1']}]", "endpoints[0].addresses[0]"),
        ("addressType: IPv6, endpoints: [{addresses: ['::1', x]}]", "endpoints[0].addresses[1]"),
        ("addressType: IPv4, endpoints: [], ports: [{port: 0}]", "ports[0].port"),
        ("addressType: IPv4, endpoints: [], ports: [{protocol: X}]", "ports[0].protocol"),
    ] {
        assert_eq!(slice_of(rest).unwrap_err().field, field, "{rest}");
    }
    let unlabelled = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
                      metadata: {name: s}, addressType: IPv4, endpoints: []}";
    let error = endpoint_slice(&yaml(unlabelled)).unwrap_err();
    assert_eq!(error.field, "metadata.labels[kubernetes.io/service-name]");
}

// Section 9: endpoints with more than one subset were an error.
#[test]
fn every_subset_of_endpoints_counts() {
    let endpoints: Endpoints = yaml(
        "{apiVersion: v1, kind: Endpoints, metadata: {name: echo, namespace: web}, subsets: [\
          {addresses: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], ports: [{name: http, port: 8080}]},\
          {notReadyAddresses: [{ip: 10.0.0.2}], ports: [{name: http, port: 9090}]},\
          {ports: [{port: 1}]}]}",
    );
    let slices = slices_of_endpoints(&endpoints).unwrap();
    let told: Vec<_> = slices
        .iter()
        .map(|s| {
            let endpoint = &s.endpoints[0];
            (&*s.service_name, endpoint.addresses[0].to_string(), endpoint.ready, s.ports[0].port)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("echo", "10.0.0.1".to_owned(), true, Some(8080)),
            ("echo", "fd00::1".to_owned(), true, Some(8080)),
            ("echo", "10.0.0.2".to_owned(), false, Some(9090)),
        ]
    );
    let mut keys: Vec<_> = slices.iter().map(|s| &s.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 3, "names are distinct");
    assert!(slices.iter().all(|s| &*s.key.namespace == "web"));
}

#[test]
fn broken_endpoints_name_the_field() {
    for (subset, field) in [
        ("{addresses: [{ip: x}]}", "subsets[0].addresses[0].ip"),
        ("{notReadyAddresses: [{ip: ''}]}", "subsets[0].notReadyAddresses[0].ip"),
        ("{ports: [{port: 80, protocol: x}]}", "subsets[0].ports[0].protocol"),
        ("{ports: [{port: -1}]}", "subsets[0].ports[0].port"),
    ] {
        let head = "{apiVersion: v1, kind: Endpoints, metadata: {name: echo}, subsets: [";
        let endpoints: Endpoints = yaml(&format!("{head}{subset}]}}"));
        assert_eq!(slices_of_endpoints(&endpoints).unwrap_err().field, field, "{subset}");
    }
}
