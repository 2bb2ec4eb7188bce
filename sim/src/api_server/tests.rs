//! The server's rules.

use smartnat_core::coordination::{FINALIZER, Write, WriteError, Written};

use super::*;
use crate::scenario::mapping;

fn key() -> ObjectKey {
    ObjectKey::new("default", "echo")
}

fn server() -> ApiServer {
    let mut server = ApiServer::default();
    server.put(mapping("echo").address("203.0.113.10").tcp(80).build());
    server
}

fn record(server: &ApiServer) -> smartnat_core::coordination::MappingRecord {
    server.mapping(&key()).expect("it is there").record.clone()
}

fn entries(uid: &str, instance: &str, addresses: &[&str]) -> Write {
    let entry = |address: &&str| smartnat_core::coordination::AddressEntry {
        address: address.parse().expect("an address"),
        instance: instance.into(),
        conditions: Vec::new(),
    };
    Write::Entries {
        mapping: key(),
        uid: uid.into(),
        instance: instance.into(),
        entries: addresses.iter().map(entry).collect(),
    }
}

#[test]
fn generations_follow_the_specification_and_deletion_and_not_the_status() {
    let mut server = server();
    assert_eq!(record(&server).generation, 1);
    let uid = record(&server).uid;
    server.write(&entries(&uid, "a", &["203.0.113.10"]), 0).expect("it is the same Mapping");
    assert_eq!(record(&server).generation, 1);
    server.put(mapping("echo").address("203.0.113.10").tcp(81).build());
    assert_eq!(record(&server).generation, 2);
    let version = record(&server).version;
    server.put(mapping("echo").address("203.0.113.10").tcp(81).build());
    assert_eq!(record(&server).version, version, "a write of the same is none");
}

#[test]
fn a_deleted_mapping_stays_until_its_finalizers_are_gone_and_returns_as_another() {
    let mut server = server();
    let before = record(&server);
    let finalizers = |finalizers: &[&str], version: &str| Write::Finalizers {
        mapping: key(),
        uid: before.uid.clone(),
        replaces: version.into(),
        finalizers: finalizers.iter().map(ToString::to_string).collect(),
    };
    server.write(&finalizers(&[FINALIZER], &before.version), 0).expect("the version is current");
    let stale = server.write(&finalizers(&[], &before.version), 0);
    assert_eq!(stale, Err(WriteError::Conflict));
    server.delete_mapping(&key());
    assert!(record(&server).deleting);
    assert_eq!(record(&server).generation, 2);
    let gone = server.write(&finalizers(&[], &record(&server).version), 0);
    assert_eq!(gone, Ok(Written::Mapping(None)));
    server.put(mapping("echo").address("203.0.113.10").tcp(80).build());
    assert_ne!(record(&server).uid, before.uid);
    let old = server.write(&entries(&before.uid, "a", &[]), 0);
    assert_eq!(old, Err(WriteError::Conflict));
}

#[test]
fn an_entry_goes_when_its_last_owner_lets_go() {
    let mut server = server();
    let uid = record(&server).uid;
    let held = |server: &ApiServer| record(server).entries.len();
    server.write(&entries(&uid, "a", &["203.0.113.10", "203.0.113.11"]), 0).expect("same uid");
    server.write(&entries(&uid, "b", &["203.0.113.10"]), 0).expect("same uid");
    assert_eq!(held(&server), 3);
    server.co_own_entry(&key(), "203.0.113.10".parse().expect("an address"), "a");
    server.write(&entries(&uid, "a", &[]), 0).expect("same uid");
    assert_eq!(held(&server), 2, "somebody keeps one of them");
}

#[test]
fn history_shows_every_state_there_was() {
    let mut server = server();
    server.put(mapping("other").address("203.0.113.10").tcp(81).build());
    server.delete_mapping(&key());
    let names = |steps| server.list(Kind::Mappings, steps).len();
    assert_eq!([names(0), names(1), names(2), names(3)], [0, 1, 2, 1]);
}
