//! What may not be in a dataplane, wherever it comes from.

use smartnat_core::dataplane::{Dataplane, EgressPlane};
use smartnat_core::lint::{Violation, lint};
use smartnat_core::model::{Family, ObjectKey, PortRange, Protocol, ServiceEndpoint};
use smartnat_sim::scenario::{mapping, service};

use super::{dataplane, ip};

fn good() -> Dataplane {
    let mut objects = service("a").port("", Protocol::Tcp, 80, 80).ready("10.1.0.7").build();
    objects.push(
        mapping("a")
            .address("203.0.113.10")
            .port(Protocol::Tcp, 80, Some(90), None)
            .egress(true)
            .build(),
    );
    objects.push(mapping("b").address("203.0.113.10").tcp(91).build());
    dataplane(objects)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

type Spoil = fn(&mut Dataplane);

#[test]
fn every_violation_is_found_and_says_where() {
    assert!(lint(&good()).is_empty());
    let cases: [(&str, Spoil, &str); 7] = [
        (
            "two owners",
            |d| {
                let ports = PortRange::new(90, 95).expect("a range");
                d.mappings.get_mut(&key("b")).expect("it").ports[0].ports = ports;
            },
            "203.0.113.10 tcp/90-95",
        ),
        (
            "a range in a range, with another between their beginnings",
            |d| {
                let range = |a, b| PortRange::new(a, b).expect("a range");
                let a = d.mappings.get_mut(&key("a")).expect("it");
                a.ports[0].ports = range(10, 1000);
                let mut more = a.ports[0].clone();
                more.ports = range(2000, 2001);
                a.ports.push(more);
                let b = d.mappings.get_mut(&key("b")).expect("it");
                b.ports[0].ports = range(900, 901);
            },
            "default/b",
        ),
        (
            "an address that no uplink holds",
            |d| {
                d.mappings.get_mut(&key("b")).expect("it").addresses.insert(ip("203.0.113.99"));
            },
            "203.0.113.99",
        ),
        (
            "an endpoint of the other family",
            |d| {
                let a = d.mappings.get_mut(&key("a")).expect("it");
                let set = a.ports[0].endpoints.get_mut(&Family::V4).expect("it");
                set.active.push(ServiceEndpoint { address: ip("fd01::1"), port: 80 });
            },
            "fd01::1",
        ),
        ("an uplink's number twice", |d| d.uplinks.get_mut("ext2").expect("it").number = 1, "1"),
        (
            "a pod with two addresses",
            |d| {
                let plane = EgressPlane { uplink: "ext2".into(), pods: [ip("10.1.0.7")].into() };
                d.egress.insert(ip("198.51.100.10"), plane);
            },
            "10.1.0.7",
        ),
        (
            "the same protocol on IPv6 too",
            |d| {
                for name in ["a", "b"] {
                    let mapping = d.mappings.get_mut(&key(name)).expect("it");
                    mapping.addresses = [ip("2001:db8:1::10")].into();
                    mapping.ports[0].ports = PortRange::single(80).expect("a port");
                }
            },
            "2001:db8:1::10 tcp/80",
        ),
    ];
    for (what, spoil, part) in cases {
        let mut plane = good();
        spoil(&mut plane);
        let found = lint(&plane);
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        let text = found.first().map(Violation::to_string).unwrap_or_default();
        assert!(text.contains(part), "{what}: {text}");
    }
}
