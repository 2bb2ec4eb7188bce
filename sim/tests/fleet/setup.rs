//! The fleets that the tests begin with, and what they ask of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smartnat_core::coordination::{MappingRecord, StatusCondition, Truth, Write};
use smartnat_core::model::{ObjectKey, Protocol};
use smartnat_core::status::reason;
use smartnat_sim::fleet::{Fleet, Times, exposes, holds_anything_of};
use smartnat_sim::scenario::{MappingBuilder, mapping, service};

pub(crate) use crate::common::{backend, on_both_backends};

/// Addresses of the three hosts.
pub(crate) const A: &str = "203.0.113.10";
pub(crate) const B: &str = "203.0.113.20";
pub(crate) const C: &str = "203.0.113.30";
/// The hosts, each of them an instance of that name, with their addresses and clocks: hours
/// apart.
pub(crate) const HOSTS: [(&str, &str, u64); 3] =
    [("gw-a", A, 0), ("gw-b", B, 7 * HOUR), ("gw-c", C, 31 * HOUR)];
const HOUR: u64 = 3_600_000;

/// Everything is done by then when nothing goes wrong: a handover, a pending status and pauses.
pub(crate) const SOON: u64 = 8_000;

/// The first `count` hosts with the Service `echo`, in sync.
pub(crate) fn fleet(count: usize) -> Fleet {
    let hosts: Vec<_> = HOSTS[..count].iter().map(|(n, a, ahead)| (*n, vec![*a], *ahead)).collect();
    fleet_with(&hosts)
}

/// Hosts with their addresses, and the Service `echo`, in sync.
pub(crate) fn fleet_with(hosts: &[(&str, Vec<&str>, u64)]) -> Fleet {
    let mut fleet = Fleet::new(Times::default(), backend());
    service("echo")
        .port("", Protocol::Tcp, 80, 8080)
        .ready("10.1.0.7")
        .build()
        .into_iter()
        .for_each(|object| fleet.put(object));
    for (name, addresses, ahead) in hosts {
        let addresses: Vec<String> = addresses.iter().map(|a| format!("{a}/24")).collect();
        fleet.add_host(name, name, &addresses, *ahead);
        fleet.start(name, &BTreeMap::new());
    }
    fleet.advance(SOON);
    fleet
}

/// Mapping `default/NAME` of the Service `echo`, TCP 80 of these addresses.
pub(crate) fn echo(name: &str, addresses: &[&str]) -> MappingBuilder {
    echo_on(name, addresses, 80)
}

/// The same on another port.
pub(crate) fn echo_on(name: &str, addresses: &[&str], port: u16) -> MappingBuilder {
    let named =
        mapping(name).service("echo").port(Protocol::Tcp, port, None, Some("80")).created(1);
    addresses.iter().fold(named, |m, address| m.address(address))
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("a test's address parses")
}

/// Lets time pass until something is so; fails if it does not come to that.
#[track_caller]
pub(crate) fn wait(fleet: &mut Fleet, millis: u64, what: &str, is_so: impl Fn(&Fleet) -> bool) {
    let came = fleet.advance_until(millis, is_so);
    assert!(came, "{what}: not within {millis} ms\n{:#?}", fleet.picture().mappings);
    assert_safe(fleet);
}

/// Fails if something happened that must never happen.
#[track_caller]
pub(crate) fn assert_safe(fleet: &Fleet) {
    assert!(fleet.violations().is_empty(), "{:#?}", fleet.violations());
}

/// Nothing is written any more, and all is as if it had begun now.
#[track_caller]
pub(crate) fn assert_as_fresh(fleet: &mut Fleet) {
    assert!(fleet.settle(SOON, 10 * SOON), "it does not become quiet: {:#?}", last_writes(fleet));
    assert_safe(fleet);
    let mut fresh = fleet.afresh();
    assert!(fresh.settle(SOON, 10 * SOON), "a fresh fleet does not become quiet");
    let (now, fresh) = (fleet.picture(), fresh.picture());
    assert_eq!(now.mappings, fresh.mappings);
    assert_eq!(now.kernels, fresh.kernels);
}

/// The latest writes that are no Leases.
pub(crate) fn last_writes(fleet: &Fleet) -> Vec<String> {
    let others = fleet.sent().iter().filter(|s| !matches!(s.write, Write::Lease { .. }));
    others.rev().take(6).map(|s| format!("{} ms: {}: {:?}", s.at, s.host, s.write)).collect()
}

/// How many writes but Leases there were.
pub(crate) fn writes(fleet: &Fleet) -> usize {
    fleet.sent().iter().filter(|s| !matches!(s.write, Write::Lease { .. })).count()
}

pub(crate) fn record<'f>(fleet: &'f Fleet, name: &str) -> Option<&'f MappingRecord> {
    fleet.server.mapping(&key(name)).map(|m| &m.record)
}

/// A condition of the whole Mapping, if it is about the current generation.
pub(crate) fn told(fleet: &Fleet, key: &ObjectKey, kind: &str) -> Option<(Truth, String, String)> {
    let record = &fleet.server.mapping(key)?.record;
    current(&record.summary.conditions, kind, record.generation)
}

/// A condition of an instance's entry, if it is about the current generation.
pub(crate) fn told_by(
    fleet: &Fleet,
    name: &str,
    instance: &str,
    kind: &str,
) -> Option<(Truth, String, String)> {
    let record = record(fleet, name)?;
    let entry = record.entries.iter().find(|e| e.instance == instance)?;
    current(&entry.conditions, kind, record.generation)
}

fn current(
    conditions: &[StatusCondition],
    kind: &str,
    generation: i64,
) -> Option<(Truth, String, String)> {
    let found = conditions.iter().find(|c| c.kind == kind && c.generation == generation)?;
    Some((found.truth, found.reason.clone(), found.message.clone()))
}

/// The whole Mapping is said to be programmed.
pub(crate) fn is_programmed(fleet: &Fleet, name: &str) -> bool {
    told(fleet, &key(name), reason::PROGRAMMED).is_some_and(|(truth, ..)| truth == Truth::True)
}

/// A host sends TCP 80 of an address to Mapping `default/NAME`.
pub(crate) fn serves(fleet: &Fleet, host: &str, address: &str, name: &str) -> bool {
    exposes(fleet.kernel(host), ip(address), Protocol::Tcp, 80, &key(name))
}

/// A host's kernel holds something of Mapping `default/NAME`.
pub(crate) fn holds(fleet: &Fleet, host: &str, name: &str) -> bool {
    holds_anything_of(fleet.kernel(host), &key(name))
}

/// The host that leads.
pub(crate) fn leader(fleet: &Fleet) -> Option<String> {
    fleet.hosts().find(|host| fleet.leads(host)).map(str::to_owned)
}

/// Mapping `default/NAME` is gone.
pub(crate) fn is_gone(fleet: &Fleet, name: &str) -> bool {
    record(fleet, name).is_none()
}
