//! T5, T6, T8, T9: which endpoints stand behind a port.

use std::sync::Arc;

use super::*;
use crate::admit::AllowedSources;
use crate::model::{
    ClusterState, EndpointSlice, ObjectKey, PortRange, Protocol, SliceEndpoint, SlicePort,
};

/// Ready, serving, terminating.
type Conditions = [bool; 3];

const READY: Conditions = [true, true, false];
const DRAINING: Conditions = [false, true, true];
const NOT_READY: Conditions = [false, false, false];
const GONE: Conditions = [false, false, true];
/// A controller other than Kubernetes' own may say so.
const SERVING: Conditions = [false, true, false];

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn service_port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port }
}

fn service(ports: Vec<ServicePort>) -> Service {
    Service {
        key: key("echo"),
        external_name: false,
        cluster_ips: vec!["10.96.0.7".parse().unwrap()],
        ports,
        publish_not_ready: false,
        affinity_seconds: None,
    }
}

fn slice_port(name: &str, protocol: Protocol, port: impl Into<Option<u16>>) -> SlicePort {
    SlicePort { name: name.into(), protocol, port: port.into() }
}

fn endpoint(address: &str, [ready, serving, terminating]: Conditions) -> SliceEndpoint {
    SliceEndpoint { addresses: vec![address.parse().unwrap()], ready, serving, terminating }
}

fn slice(name: &str, ports: Vec<SlicePort>, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    let address = endpoints.first().and_then(|e| e.addresses.first());
    EndpointSlice {
        key: key(name),
        service_name: "echo".into(),
        family: address.map_or(Family::V4, Family::of),
        ports,
        endpoints,
    }
}

fn cluster(service: Service, slices: Vec<EndpointSlice>) -> ClusterState {
    ClusterState {
        services: [(service.key.clone(), service.shared())].into(),
        slices: slices.into_iter().map(|s| (s.key.clone(), s.shared())).collect(),
        ..Default::default()
    }
}

/// A Service with TCP port 80 whose endpoints listen on 8080.
fn web(endpoints: Vec<SliceEndpoint>) -> ClusterState {
    cluster(
        service(vec![service_port("", Protocol::Tcp, 80)]),
        vec![slice("echo-1", vec![slice_port("", Protocol::Tcp, 8080)], endpoints)],
    )
}

fn mapping(addresses: &[&str]) -> AdmittedMapping {
    AdmittedMapping {
        key: key("echo"),
        generation: 1,
        created: None,
        deleting: false,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        sources: AllowedSources::everyone(),
        service: key("echo"),
        ports: Vec::new(),
        masquerade: true,
        egress: false,
    }
}

fn number(port: u16) -> PortReference {
    PortReference::Number(port.into())
}

fn named(name: &str) -> PortReference {
    PortReference::Name(name.into())
}

fn range(protocol: Protocol, first: u16, last: u16, service_port: PortReference) -> AdmittedPort {
    AdmittedPort { protocol, ports: PortRange::new(first, last).unwrap(), service_port }
}

fn tcp_80() -> AdmittedPort {
    range(Protocol::Tcp, 8000, 8000, number(80))
}

fn resolve_in(cluster: &ClusterState, port: &AdmittedPort) -> ResolvedPort {
    let mapping = mapping(&["203.0.113.10", "2001:db8::10"]);
    resolve(&ServiceIndex::new(cluster), &mapping, port)
}

fn active(set: &EndpointSet) -> Vec<String> {
    set.active.iter().map(ToString::to_string).collect()
}

fn listed(set: &EndpointSet) -> Vec<(String, Keeps)> {
    set.listed.iter().map(|(e, k)| (e.to_string(), *k)).collect()
}

fn why(resolved: &ResolvedPort) -> String {
    resolved.waiting.as_ref().map(ToString::to_string).expect("waits")
}

/// T5: by number and by name of the Service port, which leads to the target port.
#[test]
fn a_service_port_is_found_by_number_and_by_name() {
    let ports = vec![
        service_port("dns", Protocol::Udp, 53),
        service_port("dns-tcp", Protocol::Tcp, 53),
        service_port("web", Protocol::Tcp, 80),
    ];
    let targets = vec![
        slice_port("web", Protocol::Tcp, 8080),
        slice_port("dns", Protocol::Udp, 5353),
        slice_port("dns-tcp", Protocol::Tcp, 5354),
    ];
    let state =
        cluster(service(ports), vec![slice("echo-1", targets, vec![endpoint("10.1.0.7", READY)])]);
    let cases = [
        (Protocol::Udp, number(53), "10.1.0.7:5353"),
        (Protocol::Tcp, number(53), "10.1.0.7:5354"),
        (Protocol::Tcp, named("dns-tcp"), "10.1.0.7:5354"),
        (Protocol::Udp, named("dns"), "10.1.0.7:5353"),
        (Protocol::Tcp, named("web"), "10.1.0.7:8080"),
    ];
    for (protocol, reference, expected) in cases {
        let resolved = resolve_in(&state, &range(protocol, 7, 7, reference.clone()));
        assert_eq!(active(&resolved.families.ipv4), [expected], "{protocol} {reference}");
        assert_eq!(resolved.waiting, None);
    }
}

/// T5: the Service port of the range's first port is resolved, whether or not the Service
/// lists the rest; the range must fit at the target.
#[test]
fn a_range_follows_the_target_of_its_first_port() {
    let at = |target: u16| {
        cluster(
            service(vec![service_port("", Protocol::Udp, 5060)]),
            vec![slice(
                "echo-1",
                vec![slice_port("", Protocol::Udp, target)],
                vec![endpoint("10.1.0.7", READY)],
            )],
        )
    };
    let port = range(Protocol::Udp, 1001, 1010, number(5060));
    for target in [1, 15_060, 65_526] {
        let resolved = resolve_in(&at(target), &port);
        assert_eq!(active(&resolved.families.ipv4), [format!("10.1.0.7:{target}")]);
    }
    let resolved = resolve_in(&at(65_527), &port);
    assert_eq!(resolved.families, FamilyEndpoints::default());
    assert_eq!(
        why(&resolved),
        "udp/1001-1010 starts at target port 65527 of Service default/echo and would end beyond \
         65535; shorten the range or lower the target port"
    );
}

/// A named target port may differ from pod to pod; where the range fits, it is served.
#[test]
fn endpoints_at_which_the_range_does_not_fit_are_left_out() {
    let at = |name, address, port: u16| {
        let ports = vec![slice_port("", Protocol::Tcp, port)];
        slice(name, ports, vec![endpoint(address, READY)])
    };
    let state = cluster(
        service(vec![service_port("", Protocol::Tcp, 80)]),
        vec![at("echo-1", "10.1.0.7", 65_535), at("echo-2", "10.1.0.8", 8080)],
    );
    let resolved = resolve_in(&state, &range(Protocol::Tcp, 1, 2, number(80)));
    assert_eq!(active(&resolved.families.ipv4), ["10.1.0.8:8080"]);
    assert_eq!(resolved.families.ipv4.listed.len(), 1);
    assert_eq!(resolved.waiting, None);
}

/// T6: each cause is told with the Service, the port and the mend.
#[test]
fn a_port_without_service_port_waits_and_says_why() {
    let empty = ClusterState::default();
    assert_eq!(
        why(&resolve_in(&empty, &tcp_80())),
        "there is no Service default/echo; create it or correct spec.serviceName"
    );

    let ports =
        vec![service_port("dns", Protocol::Udp, 80), service_port("dns", Protocol::Sctp, 81)];
    let state = cluster(service(ports), Vec::new());
    assert_eq!(
        why(&resolve_in(&state, &tcp_80())),
        "Service default/echo has no tcp port 80; it has one for udp: correct protocol; or add it \
         to the Service or correct servicePort"
    );
    assert_eq!(
        why(&resolve_in(&state, &range(Protocol::Tcp, 1, 1, named("web")))),
        "Service default/echo has no tcp port web; add it to the Service or correct servicePort"
    );

    let ports = vec![service_port("a", Protocol::Tcp, 80), service_port("b", Protocol::Tcp, 80)];
    assert_eq!(
        why(&resolve_in(&cluster(service(ports), Vec::new()), &tcp_80())),
        "Service default/echo has several tcp ports 80; keep one of them"
    );
}

#[test]
fn a_port_without_endpoints_waits_and_says_why() {
    let none = "Service default/echo has no endpoint ready for tcp port 80 in a family of the \
                Mapping's addresses; start a pod that its selector matches";
    assert_eq!(why(&resolve_in(&web(Vec::new()), &tcp_80())), none);
    assert_eq!(why(&resolve_in(&web(vec![endpoint("10.1.0.7", NOT_READY)]), &tcp_80())), none);
}

/// An endpoint lists its port by the name of the Service port, protocol and number.
#[test]
fn endpoints_that_do_not_list_the_port_are_not_used() {
    let lists = [
        vec![],
        vec![slice_port("web", Protocol::Tcp, 8080)],
        vec![slice_port("", Protocol::Udp, 8080)],
        vec![slice_port("", Protocol::Tcp, None)],
        vec![slice_port("", Protocol::Tcp, 0)],
    ];
    for ports in lists {
        let state = cluster(
            service(vec![service_port("", Protocol::Tcp, 80)]),
            vec![slice("echo-1", ports.clone(), vec![endpoint("10.1.0.7", READY)])],
        );
        let resolved = resolve_in(&state, &tcp_80());
        assert_eq!(resolved.families, FamilyEndpoints::default(), "{ports:?}");
        assert_eq!(
            why(&resolved),
            "no endpoint of Service default/echo lists tcp port 80; give it there with the name \
             \"\" of the Service port and a number"
        );
    }
}

/// T6: a family is its own; the port waits when no address of the Mapping is served.
#[test]
fn a_port_waits_when_no_family_of_the_mapping_is_served() {
    let state = web(vec![endpoint("10.1.0.7", READY)]);
    let index = ServiceIndex::new(&state);
    let waiting = |addresses: &[&str]| resolve(&index, &mapping(addresses), &tcp_80()).waiting;
    assert_eq!(waiting(&["203.0.113.10"]), None);
    assert_eq!(waiting(&["203.0.113.10", "2001:db8::10"]), None);
    assert!(matches!(waiting(&["2001:db8::10"]), Some(Waiting::NoEndpoints { .. })));
}

/// T8, T9: who gets new connections and whose connections live on, per family.
#[test]
fn conditions_decide_on_new_and_old_connections() {
    use Keeps::{All, TcpOnly};
    let all = [READY, DRAINING, NOT_READY, GONE, SERVING];
    let cases: [(&[Conditions], &[usize], &[Keeps]); 9] = [
        (&[READY], &[0], &[All]),
        (&[READY, READY], &[0, 1], &[All, All]),
        (&[READY, DRAINING], &[0], &[All, All]),
        (&[DRAINING, NOT_READY, DRAINING], &[0, 2], &[All, TcpOnly, All]),
        (&[DRAINING, SERVING], &[0], &[All, All]),
        (&[NOT_READY, GONE, SERVING], &[], &[TcpOnly, TcpOnly, All]),
        (&[SERVING], &[], &[All]),
        (&all, &[0], &[All, All, TcpOnly, TcpOnly, All]),
        (&[], &[], &[]),
    ];
    for (conditions, expected_active, keeps) in cases {
        for (family, prefix) in [(Family::V4, "10.1.0."), (Family::V6, "fd00::")] {
            let endpoints: Vec<_> = conditions
                .iter()
                .enumerate()
                .map(|(i, c)| endpoint(&format!("{prefix}{}", i + 1), *c))
                .collect();
            let at = |i: &usize| ServiceEndpoint {
                address: format!("{prefix}{}", i + 1).parse().unwrap(),
                port: 8080,
            };
            let expected = EndpointSet {
                active: expected_active.iter().map(at).collect(),
                listed: keeps.iter().enumerate().map(|(i, k)| (at(&i), *k)).collect(),
            };
            let resolved = resolve_in(&web(endpoints), &tcp_80());
            assert_eq!(*resolved.families.of(family), expected, "{conditions:?}");
        }
    }
}

/// T9: a ready endpoint of one family does not stop a draining one of the other.
#[test]
fn draining_is_judged_per_family() {
    let ports = || vec![slice_port("", Protocol::Tcp, 8080)];
    let state = cluster(
        service(vec![service_port("", Protocol::Tcp, 80)]),
        vec![
            slice("echo-4", ports(), vec![endpoint("10.1.0.7", READY)]),
            slice("echo-6", ports(), vec![endpoint("fd00::7", DRAINING)]),
        ],
    );
    let resolved = resolve_in(&state, &tcp_80());
    assert_eq!(active(&resolved.families.ipv4), ["10.1.0.7:8080"]);
    assert_eq!(active(&resolved.families.ipv6), ["[fd00::7]:8080"]);
}

#[test]
fn publish_not_ready_addresses_makes_every_endpoint_ready() {
    let mut state = web(vec![endpoint("10.1.0.7", NOT_READY), endpoint("10.1.0.8", GONE)]);
    Arc::make_mut(state.services.get_mut(&key("echo")).unwrap()).publish_not_ready = true;
    let resolved = resolve_in(&state, &tcp_80());
    assert_eq!(active(&resolved.families.ipv4), ["10.1.0.7:8080", "10.1.0.8:8080"]);
    assert!(resolved.families.ipv4.listed.values().all(|k| *k == Keeps::All));
}

/// T8: the timeout of `sessionAffinity: ClientIP` travels along; a headless Service is served.
#[test]
fn affinity_and_headless_services_are_honoured() {
    let mut state = web(vec![endpoint("10.1.0.7", READY)]);
    let echo = Arc::make_mut(state.services.get_mut(&key("echo")).unwrap());
    echo.affinity_seconds = Some(10_800);
    echo.cluster_ips.clear();
    let resolved = resolve_in(&state, &tcp_80());
    assert_eq!(resolved.affinity_seconds, Some(10_800));
    assert_eq!(active(&resolved.families.ipv4), ["10.1.0.7:8080"]);
}

/// The same endpoint in two slices counts once, as available as the better of the two says.
#[test]
fn several_slices_are_read_as_one() {
    let states = [READY, DRAINING, SERVING, NOT_READY, GONE];
    let ports = || vec![slice_port("", Protocol::Tcp, 8080)];
    let resolve_both = |one: Vec<SliceEndpoint>, other: Vec<SliceEndpoint>| {
        let slices = vec![slice("echo-1", ports(), one), slice("echo-2", ports(), other)];
        let state = cluster(service(vec![service_port("", Protocol::Tcp, 80)]), slices);
        resolve_in(&state, &tcp_80()).families.ipv4
    };
    for (i, better) in states.into_iter().enumerate() {
        for worse in states.into_iter().skip(i) {
            let alone = resolve_both(vec![endpoint("10.1.0.7", better)], Vec::new());
            let [a, b] = [better, worse].map(|s| vec![endpoint("10.1.0.7", s)]);
            assert_eq!(resolve_both(a.clone(), b.clone()), alone, "{better:?} {worse:?}");
            assert_eq!(resolve_both(b, a), alone, "{worse:?} {better:?}");
        }
    }
    let set = resolve_both(
        vec![endpoint("10.1.0.9", READY), endpoint("10.1.0.7", READY)],
        vec![endpoint("10.1.0.8", READY), endpoint("10.1.0.9", READY)],
    );
    assert_eq!(active(&set), ["10.1.0.7:8080", "10.1.0.8:8080", "10.1.0.9:8080"]);
}

/// Several subsets or ports of one name: each target counts.
#[test]
fn slices_may_list_different_targets() {
    let at = |name, port: u16| {
        let ports = vec![slice_port("", Protocol::Tcp, port)];
        slice(name, ports, vec![endpoint("10.1.0.7", READY)])
    };
    let state = cluster(
        service(vec![service_port("", Protocol::Tcp, 80)]),
        vec![at("echo-1", 8080), at("echo-2", 9090)],
    );
    let resolved = resolve_in(&state, &tcp_80());
    assert_eq!(active(&resolved.families.ipv4), ["10.1.0.7:8080", "10.1.0.7:9090"]);
}

/// Only the first of an endpoint's addresses is used, and only if traffic can go there.
#[test]
fn addresses_that_traffic_cannot_go_to_are_ignored() {
    let unusable = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.1.1",
        "::",
        "::1",
        "ff02::1",
        "fe80::1",
        "::ffff:10.1.0.7",
    ];
    for address in unusable {
        let resolved = resolve_in(&web(vec![endpoint(address, READY)]), &tcp_80());
        assert_eq!(resolved.families, FamilyEndpoints::default(), "{address}");
        assert!(matches!(resolved.waiting, Some(Waiting::NoEndpoints { .. })), "{address}");
    }
    let mut two = endpoint("10.1.0.7", READY);
    two.addresses.push("10.1.0.8".parse().unwrap());
    let none = SliceEndpoint { addresses: Vec::new(), ..two.clone() };
    let resolved = resolve_in(&web(vec![none, two]), &tcp_80());
    assert_eq!(listed(&resolved.families.ipv4), [("10.1.0.7:8080".into(), Keeps::All)]);
}

/// Slices belong to the Service of their label in their own namespace.
#[test]
fn slices_of_other_services_and_namespaces_are_not_used() {
    let mut state = web(Vec::new());
    for (slice_key, service_name) in
        [(ObjectKey::new("other", "echo-1"), "echo"), (key("echo-2"), "web")]
    {
        let mut foreign = slice(
            "x",
            vec![slice_port("", Protocol::Tcp, 8080)],
            vec![endpoint("10.1.0.66", READY)],
        );
        foreign.key = slice_key.clone();
        foreign.service_name = service_name.into();
        state.slices.insert(slice_key, foreign.shared());
    }
    assert_eq!(resolve_in(&state, &tcp_80()).families, FamilyEndpoints::default());
}
