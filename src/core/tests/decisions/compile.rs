//! Which Mappings this instance serves, and which pods leave with which address.

use std::net::IpAddr;

use smartnat_core::model::{Family, ObjectKey, Protocol};
use smartnat_sim::scenario::{mapping, service};

use super::{compiled, ip};

const EXT1: &str = "203.0.113.10";
const EXT1_B: &str = "203.0.113.11";
const EXT1_V6: &str = "2001:db8:1::10";
const EXT2: &str = "198.51.100.10";

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

#[test]
fn a_mapping_is_served_on_the_addresses_that_uplinks_hold() {
    let compiled = compiled([
        mapping("here").address(EXT1).address("192.0.2.99").address(EXT1_V6).tcp(1).build(),
        mapping("elsewhere").address("192.0.2.99").tcp(2).build(),
        mapping("inside").address("10.0.0.2").tcp(3).build(),
        mapping("wrong").address("nonsense").tcp(4).build(),
    ]);
    let served: Vec<&ObjectKey> = compiled.dataplane.mappings.keys().collect();
    assert_eq!(served, [&key("here")]);
    assert_eq!(compiled.dataplane.mappings[&key("here")].addresses, [ip(EXT1), ip(EXT1_V6)].into());
    for (name, part) in
        [("here", "192.0.2.99"), ("elsewhere", "192.0.2.99"), ("inside", "10.0.0.2")]
    {
        let remarks = &compiled.remarks[&key(name)];
        assert!(remarks.len() == 1 && remarks[0].contains(part), "{name}: {remarks:?}");
    }
    assert!(compiled.admission.rejected.contains_key(&key("wrong")));
    assert!(compiled.warnings.is_empty());
}

/// A Mapping that is being deleted owns (T19) and serves nobody any more (T20).
#[test]
fn a_mapping_that_is_being_deleted_is_served_no_more_but_owns() {
    let mut leaving = mapping("leaving").created(1).address(EXT1).tcp(1).egress(true).mapping();
    leaving.deleting = true;
    let mut objects = service("leaving").port("", Protocol::Tcp, 1, 1).ready("10.1.0.7").build();
    objects.push(leaving.into());
    objects.push(mapping("heir").created(2).address(EXT1).tcp(1).build());
    let compiled = compiled(objects);
    assert!(compiled.dataplane.mappings.is_empty());
    assert!(compiled.dataplane.egress.is_empty());
    assert!(compiled.admission.rejected.contains_key(&key("heir")));
}

/// Endpoints are listed for the families in which the Mapping has an address here.
#[test]
fn endpoints_of_other_families_are_left_out() {
    let mut objects =
        service("a").port("", Protocol::Tcp, 1, 1).ready("10.1.0.7").ready("fd01::7").build();
    objects.push(mapping("a").address(EXT2).tcp(1).build());
    let compiled = compiled(objects);
    let port = &compiled.dataplane.mappings[&key("a")].ports[0];
    assert_eq!(port.endpoints.keys().collect::<Vec<_>>(), [&Family::V4]);
}

/// T13: one address a pod, that of the oldest, and the others hear of it.
#[test]
fn the_oldest_mapping_with_egress_wins_a_pod() {
    let mut objects =
        service("shared").port("", Protocol::Tcp, 1, 1).ready("10.1.0.7").ready("10.1.0.8").build();
    objects.extend(
        service("own").port("", Protocol::Tcp, 1, 1).ready("10.1.0.7").ready("10.1.0.9").build(),
    );
    let on = |name: &str, service: &str, created: u64, address: &str| {
        mapping(name).service(service).created(created).address(address).tcp(1).egress(true).build()
    };
    objects.push(on("z-oldest", "shared", 5, EXT1));
    objects.push(on("a-younger", "own", 7, EXT2));
    objects.push(mapping("undated").service("own").address(EXT1_B).tcp(1).egress(true).build());
    objects.push(mapping("without").service("own").created(1).address(EXT1_B).tcp(2).build());
    let compiled = compiled(objects);
    let egress = |address: &str| -> Vec<String> {
        let plane = compiled.dataplane.egress.get(&ip(address));
        plane.map(|p| p.pods.iter().map(ToString::to_string).collect()).unwrap_or_default()
    };
    assert_eq!(egress(EXT1), ["10.1.0.7", "10.1.0.8"]);
    assert_eq!(egress(EXT2), ["10.1.0.9"]);
    assert_eq!(egress(EXT1_B), [""; 0]);
    assert_eq!(compiled.dataplane.egress[&ip(EXT2)].uplink, "ext2");
    let remark = |name: &str| compiled.remarks.get(&key(name)).cloned().unwrap_or_default();
    assert_eq!(remark("z-oldest"), [""; 0]);
    assert_eq!(remark("a-younger").len(), 1);
    assert!(
        remark("a-younger")[0].contains("10.1.0.7") && remark("a-younger")[0].contains("z-oldest")
    );
    assert_eq!(remark("undated").len(), 2, "{:?}", remark("undated"));
    assert_eq!(remark("without"), [""; 0]);
}

/// T13: the first local address of the family, in the order of the specification.
#[test]
fn egress_leaves_with_the_first_local_address_of_the_family() {
    let mut objects = service("a")
        .port("", Protocol::Tcp, 1, 1)
        .ready("10.1.0.7")
        .not_ready("10.1.0.8")
        .ready("fd01::7")
        .build();
    objects.push(
        mapping("a").address("192.0.2.99").address(EXT2).address(EXT1).tcp(1).egress(true).build(),
    );
    let compiled = compiled(objects);
    let addresses: Vec<&IpAddr> = compiled.dataplane.egress.keys().collect();
    assert_eq!(addresses, [&ip(EXT2)], "and none for IPv6, which has no local address");
    // A pod that is not ready still opens connections.
    assert_eq!(compiled.dataplane.egress[&ip(EXT2)].pods, [ip("10.1.0.7"), ip("10.1.0.8")].into());
}

/// Per Mapping over the gateway's setting (T7, T13).
#[test]
fn a_mapping_overrides_the_gateway() {
    let mut objects = service("a").port("", Protocol::Tcp, 1, 1).ready("10.1.0.7").build();
    objects.push(mapping("a").address(EXT1).tcp(1).build());
    objects.push(
        mapping("b").service("a").address(EXT1).tcp(2).masquerade(true).egress(false).build(),
    );
    let config =
        smartnat_core::model::GatewayConfig { masquerade: false, egress: true, ..super::config() };
    let compiled = super::compiled_on(&super::host(), &config, objects);
    assert!(!compiled.dataplane.mappings[&key("a")].masquerade);
    assert!(compiled.dataplane.mappings[&key("b")].masquerade);
    assert_eq!(compiled.dataplane.egress.len(), 1);
}

/// P8.
#[test]
fn the_same_snapshot_gives_the_same_bytes() {
    let objects = || {
        let mut objects = service("a").port("", Protocol::Tcp, 1, 1).ready("10.1.0.7").build();
        objects.push(mapping("a").address(EXT1).address(EXT1_V6).tcp(1).egress(true).build());
        objects.push(mapping("b").address(EXT1).tcp(1).build());
        objects
    };
    let mut reversed = objects();
    reversed.reverse();
    let (one, other) = (compiled(objects()), compiled(reversed));
    assert_eq!(one, other);
    assert_eq!(
        serde_json::to_string(&one.dataplane).ok(),
        serde_json::to_string(&other.dataplane).ok()
    );
}
