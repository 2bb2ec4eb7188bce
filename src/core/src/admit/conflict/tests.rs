//! T19, P3: one owner of an external endpoint, decided by age, whatever the order of events.

use proptest::prelude::*;

use super::*;
use crate::admit::{AdmittedPort, AllowedSources};
use crate::model::{PortReference, Timestamp};

/// Protocol, first and last port.
type Wanted = (Protocol, u16, u16);

const TCP_80: &[Wanted] = &[(Protocol::Tcp, 80, 80)];
const ONE: &[&str] = &["203.0.113.10"];

fn mapping(
    key: &str,
    created: Option<u64>,
    addresses: &[&str],
    ports: &[Wanted],
) -> AdmittedMapping {
    let (namespace, name) = key.split_once('/').unwrap();
    let port = |(protocol, first, last): &Wanted| AdmittedPort {
        protocol: *protocol,
        ports: PortRange::new(*first, *last).unwrap(),
        service_port: PortReference::Number((*first).into()),
    };
    AdmittedMapping {
        key: ObjectKey::new(namespace, name),
        generation: 1,
        created: created.map(Timestamp),
        deleting: false,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        sources: AllowedSources::everyone(),
        service: ObjectKey::new(namespace, name),
        ports: ports.iter().map(port).collect(),
        masquerade: true,
        egress: false,
    }
}

fn outcome(valid: Vec<AdmittedMapping>) -> Admission {
    let mut admission = Admission::default();
    settle(valid, &mut admission);
    admission
}

fn accepted(admission: &Admission) -> Vec<String> {
    admission.accepted.keys().map(ToString::to_string).collect()
}

#[test]
fn the_oldest_wins_across_namespaces_and_the_loser_is_told() {
    let admission = outcome(vec![
        mapping("a/young", Some(2), ONE, TCP_80),
        mapping("b/old", Some(1), ONE, TCP_80),
    ]);
    assert_eq!(accepted(&admission), ["b/old"]);
    assert_eq!(
        admission.rejected[&ObjectKey::new("a", "young")].to_string(),
        "203.0.113.10 tcp/80 is owned by Mapping b/old, which comes first by age; choose another \
         port or address, or delete one of the two."
    );
}

#[test]
fn equal_age_goes_by_namespace_and_name_and_no_age_comes_last() {
    let cases = [
        (("b/a", Some(1)), ("a/b", Some(1)), "a/b"),
        (("a/b", Some(1)), ("a/a", Some(1)), "a/a"),
        (("a/a", None), ("z/z", Some(u64::MAX)), "z/z"),
        (("a/b", None), ("a/a", None), "a/a"),
    ];
    for ((one, age), (other, other_age), winner) in cases {
        let admission =
            outcome(vec![mapping(one, age, ONE, TCP_80), mapping(other, other_age, ONE, TCP_80)]);
        assert_eq!(accepted(&admission), [winner]);
    }
}

#[test]
fn address_protocol_and_port_must_all_meet() {
    let both = &["203.0.113.10", "2001:db8::10"];
    let cases: [(&[&str], Wanted, bool); 8] = [
        (both, (Protocol::Tcp, 80, 90), true),
        (&["2001:db8::10"], (Protocol::Tcp, 1, 80), true),
        (ONE, (Protocol::Tcp, 1, 65_535), true),
        (ONE, (Protocol::Tcp, 85, 86), true),
        (ONE, (Protocol::Tcp, 91, 65_535), false),
        (ONE, (Protocol::Tcp, 1, 79), false),
        (both, (Protocol::Udp, 80, 90), false),
        (&["203.0.113.11"], (Protocol::Tcp, 80, 90), false),
    ];
    for (addresses, port, conflict) in cases {
        let admission = outcome(vec![
            mapping("a/old", Some(1), both, &[(Protocol::Tcp, 80, 90)]),
            mapping("a/new", Some(2), addresses, &[port]),
        ]);
        assert_eq!(!admission.rejected.is_empty(), conflict, "{addresses:?} {port:?}");
    }
}

/// The loser is rejected whole, so what it alone wanted is free for the next.
#[test]
fn a_loser_stands_in_nobodys_way() {
    let admission = outcome(vec![
        mapping("a/1", Some(1), ONE, &[(Protocol::Tcp, 80, 80)]),
        mapping("a/2", Some(2), ONE, &[(Protocol::Tcp, 80, 80), (Protocol::Tcp, 443, 443)]),
        mapping("a/3", Some(3), ONE, &[(Protocol::Tcp, 443, 443)]),
    ]);
    assert_eq!(accepted(&admission), ["a/1", "a/3"]);
}

#[test]
fn a_mapping_that_is_being_deleted_still_owns() {
    let going = AdmittedMapping { deleting: true, ..mapping("a/old", Some(1), ONE, TCP_80) };
    let admission = outcome(vec![mapping("a/new", Some(2), ONE, TCP_80), going]);
    assert_eq!(accepted(&admission), ["a/old"]);
}

#[test]
fn every_contested_endpoint_is_named_with_its_owner() {
    let both = &["203.0.113.10", "2001:db8::10"];
    let admission = outcome(vec![
        mapping("a/1", Some(1), ONE, &[(Protocol::Udp, 1, 10)]),
        mapping("a/2", Some(1), ONE, &[(Protocol::Udp, 20, 20)]),
        mapping("a/3", Some(1), both, &[(Protocol::Sctp, 5, 5)]),
        mapping("a/4", Some(2), both, &[(Protocol::Sctp, 5, 5), (Protocol::Udp, 8, 30)]),
    ]);
    let Rejection::Conflict(conflicts) = &admission.rejected[&ObjectKey::new("a", "4")] else {
        panic!("no conflict: {admission:?}");
    };
    let named: Vec<_> =
        conflicts.iter().map(|c| format!("{} {}", c.endpoint(), c.winner)).collect();
    assert_eq!(
        named,
        [
            "203.0.113.10 sctp/5 a/3",
            "203.0.113.10 udp/8-10 a/1",
            "203.0.113.10 udp/20 a/2",
            "2001:db8::10 sctp/5 a/3",
        ]
    );
}

/// 10,000 losers that each meet 10,000 owners: the work and the report stay bounded.
#[test]
fn ten_thousand_mappings_are_settled_with_bounded_reports() {
    let mut valid: Vec<_> = (1..=10_000u16)
        .map(|i| mapping(&format!("a/{i}"), Some(i.into()), ONE, &[(Protocol::Tcp, i, i)]))
        .collect();
    valid.extend(
        (1..=10_000).map(|i| mapping(&format!("b/{i}"), None, ONE, &[(Protocol::Tcp, 1, 65_535)])),
    );
    let admission = outcome(valid);
    assert_eq!((admission.accepted.len(), admission.rejected.len()), (10_000, 10_000));
    let text = admission.rejected[&ObjectKey::new("b", "1")].to_string();
    assert!(text.ends_with(". There are more.") && text.len() < 16_384, "{text}");
}

fn arbitrary_mappings() -> impl Strategy<Value = Vec<AdmittedMapping>> {
    let address =
        prop::sample::subsequence(vec!["203.0.113.10", "203.0.113.11", "2001:db8::10"], 1..=3);
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let ports = prop::collection::vec((protocol, 1u16..60, 0u16..5), 1..4)
        .prop_map(|p| p.into_iter().map(|(p, first, n)| (p, first, first + n)).collect::<Vec<_>>());
    let created = prop::option::of(0u64..4);
    prop::collection::vec((created, address, ports), 0..16).prop_map(|wanted| {
        let named = wanted.into_iter().enumerate().map(|(i, (created, addresses, ports))| {
            mapping(&format!("{}/{i}", ["a", "b"][i % 2]), created, &addresses, &ports)
        });
        named.collect()
    })
}

/// The rule word by word: compare with every Mapping accepted before.
fn reference(mut valid: Vec<AdmittedMapping>) -> Admission {
    valid.sort_by_key(|m| (m.created.map_or(u64::MAX, |t| t.0), m.key.clone()));
    let mut admission = Admission::default();
    for mapping in valid {
        let mut conflicts = Vec::new();
        for address in &mapping.addresses {
            for port in &mapping.ports {
                let mut met = Vec::new();
                for other in admission.accepted.values().filter(|o| o.addresses.contains(address)) {
                    for theirs in other.ports.iter().filter(|p| p.protocol == port.protocol) {
                        let first = port.ports.first().max(theirs.ports.first());
                        let last = port.ports.last().min(theirs.ports.last());
                        met.extend(PortRange::new(first, last).map(|ports| ConflictProblem {
                            address: *address,
                            protocol: port.protocol,
                            ports,
                            winner: other.key.clone(),
                        }));
                    }
                }
                met.sort_by_key(|c| c.ports.first());
                conflicts.extend(met);
            }
        }
        if conflicts.is_empty() {
            admission.accepted.insert(mapping.key.clone(), mapping);
        } else {
            conflicts.truncate(MAX_SENTENCES + 1);
            admission.rejected.insert(mapping.key, Rejection::Conflict(conflicts));
        }
    }
    admission
}

/// Whether no two ranges of one protocol meet, which the check of a single Mapping ensures.
fn disjoint(mapping: &AdmittedMapping) -> bool {
    mapping.ports.iter().enumerate().all(|(i, a)| {
        mapping.ports[..i].iter().all(|b| a.protocol != b.protocol || !a.ports.overlaps(b.ports))
    })
}

proptest! {
    /// P3: independent of order, and equal to comparing all pairs.
    #[test]
    fn the_outcome_is_that_of_comparing_all_pairs_in_any_order(
        (mappings, shuffled) in arbitrary_mappings()
            .prop_map(|all| all.into_iter().filter(disjoint).collect::<Vec<_>>())
            .prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle()))
    ) {
        let admission = outcome(mappings.clone());
        prop_assert_eq!(&admission, &outcome(shuffled));
        prop_assert_eq!(&admission, &reference(mappings));
    }
}
