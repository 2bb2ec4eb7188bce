//! Which connections are permitted, when to look for those that no longer are, and how they end.

use std::collections::BTreeMap;

use smartnat_core::dataplane::{Dataplane, EgressPlane};
use smartnat_core::flows::{Permissions, end_flows, withdraws};
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_core::names::quarantine_set;
use smartnat_core::objects::{Flow, FlowKey, FlowTuple, Layer4, SetElement};
use smartnat_core::ops::{Domain, NetworkOp};
use smartnat_sim::scenario::{MappingBuilder, ServiceBuilder, mapping, service, without_mapping};

use super::{config, dataplane, ip};

const EXT1: &str = "203.0.113.10";
const EXT1_B: &str = "203.0.113.11";
const EXT2: &str = "198.51.100.10";

fn marks() -> MarkLayout {
    MarkLayout::new(config().mark_mask)
}

fn tuple(protocol: u8, from: (&str, u16), to: (&str, u16)) -> FlowTuple {
    FlowTuple {
        source: ip(from.0),
        destination: ip(to.0),
        protocol,
        layer4: Layer4::Ports { source: from.1, destination: to.1 },
    }
}

fn flow(original: FlowTuple, reply: FlowTuple, mark: u32) -> Flow {
    Flow { key: FlowKey { original, id: 7 }, reply, mark }
}

/// A translated, masqueraded connection from `client` to `external`, answered by `endpoint`.
fn inbound(protocol: u8, client: &str, external: (&str, u16), endpoint: (&str, u16)) -> Flow {
    let inside = if ip(client).is_ipv4() { "10.0.0.2" } else { "fd00::2" };
    flow(
        tuple(protocol, (client, 40_000), external),
        tuple(protocol, endpoint, (inside, 40_000)),
        marks().ours | marks().masquerade | marks().uplink_mark(1),
    )
}

/// A connection that a pod opened through uplink `number`, as `seen_as` there.
fn outbound(number: u32, pod: &str, seen_as: &str) -> Flow {
    flow(
        tuple(6, (pod, 5555), ("192.0.2.80", 443)),
        tuple(6, ("192.0.2.80", 443), (seen_as, 5555)),
        marks().ours | marks().egress | marks().uplink_mark(number),
    )
}

fn echo() -> ServiceBuilder {
    service("echo").port("tcp", Protocol::Tcp, 80, 8080).port("udp", Protocol::Udp, 5000, 6000)
}

fn both() -> ServiceBuilder {
    echo().ready("10.1.0.7").ready("10.1.0.8").ready("fd01::7")
}

fn exposed(mapping: MappingBuilder) -> ClusterObject {
    mapping.port(Protocol::Tcp, 80, None, None).port(Protocol::Udp, 5000, Some(5010), None).build()
}

fn base() -> Vec<ClusterObject> {
    let mut objects = both().build();
    let mapping = mapping("echo").address(EXT1).address("2001:db8:1::10").source("192.0.2.0/24");
    objects.push(exposed(mapping.source("2001:db8:c::/48")));
    objects
}

#[test]
fn a_translated_connection_is_permitted_as_long_as_its_path_would_be_taken_anew() {
    let plane = dataplane(base());
    let permissions = Permissions::new(&plane);
    let (tcp, udp) = (6, 17);
    let (client, pod) = ("192.0.2.5", "10.1.0.7");
    let cases: Vec<(&str, Flow, bool)> = vec![
        ("as it is", inbound(tcp, client, (EXT1, 80), (pod, 8080)), true),
        (
            "over IPv6",
            inbound(tcp, "2001:db8:c::5", ("2001:db8:1::10", 80), ("fd01::7", 8080)),
            true,
        ),
        ("another address", inbound(tcp, client, (EXT1_B, 80), (pod, 8080)), false),
        ("another port", inbound(tcp, client, (EXT1, 81), (pod, 8080)), false),
        ("another protocol", inbound(udp, client, (EXT1, 80), (pod, 8080)), false),
        ("another endpoint", inbound(tcp, client, (EXT1, 80), ("10.1.0.9", 8080)), false),
        ("another target port", inbound(tcp, client, (EXT1, 80), (pod, 80)), false),
        ("a refused source", inbound(tcp, "198.18.0.1", (EXT1, 80), (pod, 8080)), false),
        ("first of the range", inbound(udp, client, (EXT1, 5000), (pod, 6000)), true),
        ("within the range", inbound(udp, client, (EXT1, 5003), (pod, 6003)), true),
        ("last of the range", inbound(udp, client, (EXT1, 5010), (pod, 6010)), true),
        ("beyond the range", inbound(udp, client, (EXT1, 5011), (pod, 6011)), false),
        ("before the range", inbound(udp, client, (EXT1, 4999), (pod, 5999)), false),
        ("another offset", inbound(udp, client, (EXT1, 5003), (pod, 6002)), false),
        ("a port below the offset", inbound(udp, client, (EXT1, 5010), (pod, 3)), false),
        ("a protocol that we never translate", inbound(47, client, (EXT1, 80), (pod, 8080)), false),
    ];
    for (what, flow, expected) in cases {
        assert_eq!(permissions.permits(&flow), expected, "{what}");
    }
    let not_ours =
        Flow { mark: marks().uplink_mark(1), ..inbound(tcp, client, (EXT2, 1), (pod, 1)) };
    assert!(permissions.permits(&not_ours), "what carries no flag of ours is not ours to judge");
}

/// T9: TCP, UDP and SCTP by what the endpoint still does.
#[test]
fn listed_endpoints_keep_what_they_can_serve() {
    let with = |service: ServiceBuilder| {
        let mut objects = base();
        objects.extend(service.build());
        dataplane(objects)
    };
    // To 10.1.0.7: TCP, UDP.
    let cases = [
        ("ready", echo().ready("10.1.0.7"), [true, true]),
        ("draining", echo().draining("10.1.0.7").ready("10.1.0.8"), [true, true]),
        (
            "serving, not ready",
            echo().endpoint("10.1.0.7", false, true, false).ready("10.1.0.8"),
            [true, true],
        ),
        ("not serving", echo().not_ready("10.1.0.7").ready("10.1.0.8"), [true, false]),
        (
            "terminating, not serving",
            echo().endpoint("10.1.0.7", false, false, true),
            [true, false],
        ),
        (
            "published though not ready",
            echo().publish_not_ready().not_ready("10.1.0.7"),
            [true, true],
        ),
        ("gone", echo().ready("10.1.0.8"), [false, false]),
        ("scale to zero", echo(), [false, false]),
    ];
    for (what, service, expected) in cases {
        let plane = with(service);
        let permissions = Permissions::new(&plane);
        let tcp = inbound(6, "192.0.2.5", (EXT1, 80), ("10.1.0.7", 8080));
        let udp = inbound(17, "192.0.2.5", (EXT1, 5001), ("10.1.0.7", 6001));
        assert_eq!([tcp, udp].map(|f| permissions.permits(&f)), expected, "{what}");
    }
}

/// T13.
#[test]
fn egress_is_permitted_from_the_pods_of_the_address_by_its_uplink() {
    let mut objects = base();
    objects.extend(service("exit").port("", Protocol::Tcp, 25, 25).ready("10.1.0.20").build());
    objects.push(mapping("exit").address(EXT2).tcp(25).egress(true).build());
    let plane = dataplane(objects);
    let number = plane.uplinks["ext2"].number;
    let permissions = Permissions::new(&plane);
    let cases = [
        ("as it is", outbound(number, "10.1.0.20", EXT2), true),
        ("another uplink's mark", outbound(number + 1, "10.1.0.20", EXT2), false),
        ("a pod without egress", outbound(number, "10.1.0.7", EXT2), false),
        ("an address without egress", outbound(number, "10.1.0.20", EXT1), false),
        ("an address that is gone", outbound(number, "10.1.0.20", "198.51.100.99"), false),
        ("inside the cluster", outbound(number, "10.1.0.20", "10.1.0.20"), true),
        ("inside, masqueraded by others", outbound(number, "10.1.0.20", "10.0.0.2"), true),
    ];
    for (what, flow, expected) in cases {
        assert_eq!(permissions.permits(&flow), expected, "{what}");
    }
}

/// Dataplanes that differ from [`base`] in one thing each, and connections that they tell apart.
fn variants() -> Vec<(&'static str, Dataplane)> {
    let with = |objects: Vec<ClusterObject>| dataplane([base(), objects].concat());
    let everywhere = || mapping("echo").address(EXT1).address("2001:db8:1::10");
    let exit = |name: &str, address: &str, pods: &[&str]| {
        let service = service(name).port("", Protocol::Tcp, 25, 25);
        let service = pods.iter().fold(service, |s, pod| s.ready(pod));
        let mut objects = service.build();
        objects.push(mapping(name).address(address).tcp(25).egress(true).build());
        objects
    };
    vec![
        ("base", with(vec![])),
        ("more endpoints", with(both().ready("10.1.0.9").build())),
        ("fewer endpoints", with(echo().ready("10.1.0.8").ready("fd01::7").build())),
        ("draining", with(echo().draining("10.1.0.7").ready("10.1.0.8").ready("fd01::7").build())),
        (
            "not serving",
            with(echo().not_ready("10.1.0.7").ready("10.1.0.8").ready("fd01::7").build()),
        ),
        ("no endpoints", with(echo().build())),
        ("everyone", with(vec![exposed(everywhere())])),
        ("fewer sources", with(vec![exposed(everywhere().source("192.0.2.0/25"))])),
        (
            "split sources",
            with(vec![exposed(
                everywhere()
                    .source("192.0.2.0/26")
                    .source("192.0.2.128/25")
                    .source("2001:db8:c::/48"),
            )]),
        ),
        (
            "one address",
            with(vec![exposed(
                mapping("echo").address(EXT1).source("192.0.2.0/24").source("2001:db8:c::/48"),
            )]),
        ),
        (
            "another address",
            with(vec![exposed(mapping("echo").address(EXT1_B).source("192.0.2.0/24"))]),
        ),
        (
            "no range",
            with(vec![
                everywhere()
                    .source("192.0.2.0/24")
                    .source("2001:db8:c::/48")
                    .port(Protocol::Tcp, 80, None, None)
                    .build(),
            ]),
        ),
        ("no mapping", with(vec![without_mapping("echo")])),
        (
            "no masquerade",
            with(vec![exposed(
                everywhere().source("192.0.2.0/24").source("2001:db8:c::/48").masquerade(false),
            )]),
        ),
        ("egress", with(exit("exit", EXT2, &["10.1.0.20"]))),
        ("more egress", with(exit("exit", EXT2, &["10.1.0.20", "10.1.0.21"]))),
        ("egress elsewhere", with(exit("exit", EXT1_B, &["10.1.0.20"]))),
    ]
}

fn connections() -> Vec<Flow> {
    let mut flows = Vec::new();
    for client in ["192.0.2.5", "192.0.2.70", "192.0.2.200", "198.18.0.1"] {
        for external in [EXT1, EXT1_B] {
            for pod in ["10.1.0.7", "10.1.0.8", "10.1.0.9"] {
                flows.push(inbound(6, client, (external, 80), (pod, 8080)));
                flows.push(inbound(17, client, (external, 5003), (pod, 6003)));
            }
        }
    }
    flows.push(inbound(6, "2001:db8:c::5", ("2001:db8:1::10", 80), ("fd01::7", 8080)));
    for number in [1, 2] {
        for pod in ["10.1.0.20", "10.1.0.21"] {
            flows.extend([EXT2, EXT1_B].map(|address| outbound(number, pod, address)));
        }
    }
    flows
}

/// A sweep that is left out must have had nothing to find.
#[test]
fn nothing_is_withdrawn_that_withdraws_does_not_see() {
    let (mut seen, mut pairs) = (0, 0);
    for (from, old) in &variants() {
        assert!(!withdraws(old, old), "{from} to itself");
        for (to, new) in &variants() {
            pairs += 1;
            let (before, after) = (Permissions::new(old), Permissions::new(new));
            let lost = connections().iter().any(|f| before.permits(f) && !after.permits(f));
            assert!(withdraws(old, new) || !lost, "from {from} to {to}");
            seen += usize::from(lost);
        }
    }
    assert!(seen > pairs / 4, "{seen} of {pairs} pairs withdraw something");
}

/// Conntrack is walked when something is withdrawn, not at every change.
#[test]
fn additions_withdraw_nothing() {
    let variants = variants();
    let of = |name: &str| {
        let found = variants.iter().find(|(n, _)| *n == name);
        &found.unwrap_or_else(|| panic!("there is no variant {name}")).1
    };
    for (from, to) in [
        ("base", "more endpoints"),
        ("base", "everyone"),
        ("base", "draining"),
        ("base", "no masquerade"),
        ("base", "egress"),
        ("not serving", "draining"),
        ("no endpoints", "base"),
        ("fewer sources", "everyone"),
        ("no mapping", "base"),
        ("egress", "more egress"),
    ] {
        assert!(!withdraws(of(from), of(to)), "from {from} to {to}");
    }
}

/// Another number for an uplink is another mark: connections that carry the old one are judged.
#[test]
fn a_renumbered_or_vanished_uplink_withdraws() {
    let old = dataplane(base());
    let mut renumbered = old.clone();
    renumbered.uplinks.get_mut("ext2").expect("it is there").number = 9;
    assert!(withdraws(&old, &renumbered));
    let mut gone = old.clone();
    gone.uplinks.remove("ext2");
    assert!(withdraws(&old, &gone));
    assert!(!withdraws(&gone, &old));
}

/// T10: held back where it would be routed on, before the entry goes.
#[test]
fn ended_connections_are_held_back_before_they_are_deleted() {
    let seen_as_gateway = inbound(6, "192.0.2.5", (EXT1, 80), ("10.1.0.7", 8080));
    let mut seen_as_client = inbound(17, "192.0.2.6", (EXT1, 5000), ("10.1.0.8", 6000));
    seen_as_client.reply.destination = ip("192.0.2.6");
    seen_as_client.mark &= !marks().masquerade;
    let from_pod = outbound(2, "10.1.0.20", EXT2);
    let mut ping = from_pod;
    ping.key.original.protocol = 1;
    ping.key.original.layer4 = Layer4::Icmp { kind: 8, code: 0, id: 3 };
    let all = [seen_as_gateway, seen_as_client, from_pod, ping];
    let transactions =
        end_flows(&all, marks(), &BTreeMap::new(), smartnat_core::model::Backend::Iptables);

    let quarantined = |ip_: &str, protocol, port, other: &str| NetworkOp::AddElement {
        set: quarantine_set(Family::V4),
        element: SetElement::IpPortIp { ip: ip(ip_), protocol, port, other: ip(other) },
    };
    assert_eq!(transactions.len(), 2);
    assert_eq!(transactions[0].domain, Domain::Sets);
    assert_eq!(
        transactions[0].ops,
        [
            quarantined("10.1.0.8", Protocol::Udp, 6000, "192.0.2.6"),
            quarantined("10.1.0.20", Protocol::Tcp, 5555, "192.0.2.80"),
        ]
    );
    assert_eq!(transactions[1].domain, Domain::Flows);
    assert_eq!(transactions[1].ops, all.map(|f| NetworkOp::DeleteFlow(f.key)));

    // The pod leaves with another address from now on: its next packet is translated anew.
    let plane = EgressPlane { uplink: "ext1".into(), pods: [ip("10.1.0.20")].into() };
    let still = end_flows(
        &[from_pod],
        marks(),
        &BTreeMap::from([(ip(EXT1), plane)]),
        smartnat_core::model::Backend::Iptables,
    );
    assert_eq!(still.iter().map(|t| t.domain).collect::<Vec<_>>(), [Domain::Flows]);

    assert_eq!(
        end_flows(&[], marks(), &BTreeMap::new(), smartnat_core::model::Backend::Iptables),
        []
    );
    let domains: Vec<Domain> = end_flows(
        &[seen_as_gateway],
        marks(),
        &BTreeMap::new(),
        smartnat_core::model::Backend::Iptables,
    )
    .iter()
    .map(|t| t.domain)
    .collect();
    assert_eq!(domains, [Domain::Flows], "no empty transaction");
}
