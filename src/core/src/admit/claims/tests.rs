//! T19: what is settled anew is what settling all would give, and no more is looked at.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::conflict::settle;
use super::*;
use crate::admit::{Admission, AdmittedPort, AllowedSources, Rejection};
use crate::model::PortReference;

fn mapping(name: &str, created: Option<u64>, ports: &[(&str, u16, u16)]) -> AdmittedMapping {
    let key = ObjectKey::new("default", name);
    let address = |(address, ..): &(&str, u16, u16)| address.parse().expect("an address");
    let mut addresses: Vec<IpAddr> = ports.iter().map(address).collect();
    addresses.dedup();
    let port = |(_, first, last): &(&str, u16, u16)| AdmittedPort {
        protocol: Protocol::Tcp,
        ports: PortRange::new(*first, *last).expect("a range"),
        service_port: PortReference::Number(80),
    };
    AdmittedMapping {
        key: key.clone(),
        generation: 1,
        created: created.map(Timestamp),
        deleting: false,
        addresses,
        sources: AllowedSources::everyone(),
        service: key,
        ports: ports.iter().map(port).collect(),
        masquerade: true,
        egress: false,
    }
}

/// Ranges on one address that meet in all ways, blocks and none.
fn a_mapping() -> impl Strategy<Value = AdmittedMapping> {
    let ranges = vec![
        (1, 65_535),
        (80, 80),
        (80, 90),
        (85, 87),
        (90, 200),
        (64, 127),
        (32_768, 65_535),
        (65_535, 65_535),
    ];
    let address = select(vec!["203.0.113.1", "203.0.113.2"]);
    (0..7_u8, proptest::option::of(0..4_u64), address, select(ranges), any::<bool>()).prop_map(
        |(name, created, address, (first, last), more)| {
            let mut ports = vec![(address, first, last)];
            if more && last < 65_000 {
                ports.push((address, last + 1, last + 3));
            }
            mapping(&format!("m{name}"), created, &ports)
        },
    )
}

proptest! {
    #[test]
    fn any_history_of_claims_ends_where_settling_all_of_them_does(
        batches in vec(vec((a_mapping(), prop::bool::weighted(0.7)), 1..4), 1..12),
    ) {
        let mut claims = Claims::default();
        let mut valid: BTreeMap<ObjectKey, AdmittedMapping> = BTreeMap::new();
        let mut verdicts = BTreeMap::new();
        for batch in batches {
            for (mapping, stays) in batch {
                let key = mapping.key.clone();
                claims.replace(&key, stays.then_some(&mapping));
                if stays {
                    valid.insert(key, mapping);
                } else {
                    valid.remove(&key);
                }
            }
            let settled = claims.settle();
            let mut reference = Admission::default();
            settle(valid.values().cloned().collect(), &mut reference);
            let now: BTreeMap<_, _> = valid
                .keys()
                .map(|key| (key.clone(), (claims.owns(key), claims.conflicts(key))))
                .collect();
            for (key, (owns, conflicts)) in &now {
                prop_assert_eq!(*owns, reference.accepted.contains_key(key));
                if let Some(rejection) = reference.rejected.get(key) {
                    prop_assert_eq!(rejection, &Rejection::Conflict(conflicts.clone()));
                }
                if verdicts.get(key).is_some_and(|before| before != &(*owns, conflicts.clone())) {
                    prop_assert!(settled.contains(key), "{} has another verdict", key);
                }
            }
            let mut afresh = Claims::default();
            for (key, mapping) in &valid {
                afresh.replace(key, Some(mapping));
            }
            afresh.settle();
            prop_assert_eq!(&claims, &afresh);
            verdicts = now;
        }
    }
}

#[test]
fn who_shares_no_endpoint_is_not_looked_at() {
    let mut claims = Claims::default();
    for n in 1..=1000_u16 {
        let mapping = mapping(&format!("m{n}"), Some(n.into()), &[("203.0.113.1", n, n)]);
        claims.replace(&mapping.key, Some(&mapping));
    }
    claims.settle();
    let young = mapping("young", Some(2000), &[("203.0.113.1", 500, 501)]);
    claims.replace(&young.key, Some(&young));
    assert_eq!(claims.settle(), [young.key.clone()].into(), "no owner is younger");
    let winner = ObjectKey::new("default", "m500");
    claims.replace(&winner, None);
    assert_eq!(claims.settle(), [young.key.clone()].into());
    assert_eq!(claims.conflicts(&young.key).len(), 1, "the other winner is left");
}

#[test]
fn a_range_consists_of_few_blocks() {
    for (first, last) in [(1, 65_535), (1, 1), (2, 65_534), (80, 90), (65_535, 65_535)] {
        let range = PortRange::new(first, last).expect("a range");
        let blocks: Vec<_> = blocks(range).collect();
        assert!(blocks.len() <= 30);
        let ports: u32 = blocks.iter().map(|(_, size)| 1 << size).sum();
        assert_eq!(ports, range.count());
        assert!(blocks.iter().all(|(first, size)| block_of(*first, *size) == *first));
    }
}
