//! Objects and what is read of them.

use std::collections::BTreeMap;

use serde_json::json;
use smartnat_core::coordination::{
    AddressEntry, LeaseName, StatusCondition, Summary, Truth, Write,
};
use smartnat_core::model::{ObjectKey, Timestamp};

use super::*;

fn write(name: LeaseName) -> Write {
    Write::Lease {
        name,
        replaces: Some("7".into()),
        holder: "gw-a_1".into(),
        duration_millis: 15_000,
        addresses: ["203.0.113.10", "2001:db8::10"].map(|a| a.parse().expect("one")).into(),
    }
}

#[test]
fn a_lease_says_what_was_written() {
    let name = LeaseName::Instance("gw-a".into());
    let lease = leases::lease(&write(name.clone())).expect("a Lease");
    assert_eq!(lease.metadata.name.as_deref(), Some("smartnat-instance-gw-a"));
    let (read, record) = lease_record(&lease).expect("ours");
    assert_eq!(read, name);
    assert_eq!((record.holder.as_str(), record.duration_millis), ("gw-a_1", 15_000));
    assert_eq!(record.addresses.len(), 2);
    let leader = leases::lease(&write(LeaseName::Leader)).expect("a Lease");
    assert_eq!(lease_record(&leader).expect("ours").0, LeaseName::Leader);
}

#[test]
fn a_lease_of_somebody_else_is_none_of_ours() {
    let mut lease = leases::lease(&write(LeaseName::Leader)).expect("a Lease");
    lease.metadata.labels = None;
    assert_eq!(lease_record(&lease), None);
}

#[test]
fn every_instance_has_a_lease_with_a_possible_name_of_its_own() {
    let long = "g".repeat(253);
    let names = ["gw-a", "GW_A", "gw a", &long].map(|n| LeaseName::Instance(n.into()));
    let all: std::collections::BTreeSet<String> = names.iter().map(lease_name).collect();
    assert_eq!(all.len(), names.len());
    assert!(all.iter().all(|n| n.len() <= 128 && crate::convert::is_dns_name(n)), "{all:?}");
}

fn condition() -> StatusCondition {
    StatusCondition {
        kind: "Programmed".into(),
        truth: Truth::Unknown,
        reason: "InstanceLost".into(),
        message: "text".into(),
        generation: 3,
        since: Timestamp(1_700_000_000_000),
    }
}

fn mapping(status: &serde_json::Value) -> Mapping {
    serde_json::from_value(json!({
        "apiVersion": crate::api::API_VERSION,
        "kind": crate::api::KIND,
        "metadata": {
            "name": "echo", "namespace": "default", "uid": "u", "resourceVersion": "9",
            "generation": 3, "finalizers": ["f"],
        },
        "spec": { "addresses": ["203.0.113.10", "nonsense"], "serviceName": "echo", "ports": [] },
        "status": status,
    }))
    .expect("a Mapping")
}

#[test]
fn a_status_is_read_as_it_was_written() {
    let address = "203.0.113.10".parse().expect("one");
    let entries =
        vec![AddressEntry { address, instance: "gw-a".into(), conditions: vec![condition()] }];
    let summary = Summary {
        invalid: Some("no".into()),
        service_vip: Some("10.96.0.1".parse().expect("one")),
        configured_addresses: BTreeMap::from([(address, vec!["10.1.0.7".parse().expect("one")])]),
        observed_generation: Some(3),
        endpoints: Some(1),
        conditions: vec![condition()],
    };
    let mut status = patch::summary(&summary);
    status["addresses"] = patch::entries(&entries)["addresses"].clone();
    let record = mapping_record(&mapping(&status)).expect("it can be read");
    assert_eq!(record.entries, entries);
    assert_eq!(record.summary, summary);
    assert_eq!((record.version.as_str(), record.generation), ("9", 3));
    assert_eq!(record.addresses, [address].into());
}

#[test]
fn what_the_go_version_left_in_a_status_is_removed() {
    let left = json!({
        "invalid": "no",
        "serviceVIP": "10.96.0.1",
        "configuredAddresses": { "203.0.113.10": { "podIPs": [] }, "203.0.113.99": {} },
    });
    let address = "203.0.113.10".parse().expect("one");
    let wanted = Summary {
        configured_addresses: BTreeMap::from([(address, Vec::new())]),
        ..Summary::default()
    };
    let patch = patch::leftovers(&mapping(&left), &wanted).expect("something is left");
    let expected = json!({
        "status": { "configuredAddresses": { "203.0.113.99": null }, "serviceVIP": null },
    });
    assert_eq!(patch, expected);
    assert_eq!(patch::leftovers(&mapping(&patch::summary(&wanted)), &wanted), None);
    let key = ObjectKey::new("default", "echo");
    assert_eq!(patch::apply(&key, "u", &json!({}))["metadata"]["uid"], "u");
}
