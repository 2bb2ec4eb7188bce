use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

const A: &str = "6c7a1a5e-0000-4000-8000-00000000000a";
const B: &str = "6c7a1a5e-0000-4000-8000-00000000000b";

fn version(uid: &str, revision: &str) -> Version {
    Version::of(&ObjectMeta {
        uid: Some(uid.to_owned()),
        resource_version: Some(revision.to_owned()),
        ..ObjectMeta::default()
    })
}

fn key() -> ObjectKey {
    ObjectKey::new("web", "echo")
}

/// A store that knows `key()` in this version.
fn knowing(uid: &str, revision: &str) -> Versions<u32> {
    let mut versions = Versions::default();
    assert!(versions.admit(&key(), version(uid, revision)));
    *versions.get_mut(&key()).unwrap() = 7;
    versions
}

#[test]
fn only_newer_states_are_news() {
    for (uid, revision, news) in [
        (A, "9", false),
        (A, "10", false),
        (A, "11", true),
        // Numbers, not texts.
        (A, "100", true),
        // A former object of the name, and a later one.
        (B, "9", false),
        (B, "11", true),
        // Incomparable: the order is all there is.
        (A, "x", true),
    ] {
        let mut versions = knowing(A, "10");
        assert_eq!(versions.admit(&key(), version(uid, revision)), news, "{uid} {revision}");
        assert_eq!(versions.get(&key()), Some(&7), "what is known stays until it is replaced");
    }
}

#[test]
fn a_deletion_ends_the_object_that_it_is_about() {
    for (uid, revision, gone) in [
        (A, "11", true),
        // Old servers: the last revision of the object.
        (A, "10", true),
        // Repeated from before the object matched again.
        (A, "9", false),
        // A former object of the name, and one that came after and is gone as well.
        (B, "9", false),
        (B, "12", true),
        (A, "x", true),
        (B, "x", false),
    ] {
        let mut versions = knowing(A, "10");
        let deleted = versions.delete(&key(), &version(uid, revision));
        assert_eq!(deleted, gone.then_some(7), "{uid} {revision}");
        assert_eq!(versions.get(&key()).is_none(), gone, "{uid} {revision}");
    }
}

#[test]
fn what_comes_late_brings_no_deleted_object_back() {
    let mut versions = knowing(A, "10");
    assert!(versions.delete(&key(), &version(A, "12")).is_some());
    for late in ["9", "10", "11", "12"] {
        assert!(!versions.admit(&key(), version(A, late)), "{late}");
    }
    assert!(versions.admit(&key(), version(B, "13")), "a new object of the name");
}

#[test]
fn an_object_that_matches_the_selector_again_is_news() {
    let mut versions = knowing(A, "10");
    assert!(versions.delete(&key(), &version(A, "12")).is_some());
    assert!(versions.admit(&key(), version(A, "14")));
}

#[test]
fn a_deletion_of_what_is_unknown_is_remembered() {
    let mut versions = Versions::<u32>::default();
    assert!(versions.delete(&key(), &version(A, "12")).is_none());
    assert!(!versions.admit(&key(), version(A, "11")));
}

#[test]
fn what_is_missing_in_a_complete_list_is_gone() {
    let mut versions = knowing(A, "10");
    let other = ObjectKey::new("web", "other");
    versions.admit(&other, version(B, "11"));
    versions.begin_list(false);
    // Not news, but there.
    assert!(!versions.admit(&other, version(B, "11")));
    let gone = versions.end_list();
    assert_eq!(gone, [(Arc::new(key()), 7)]);
    assert!(versions.get(&key()).is_none() && versions.get(&other).is_some());
    assert!(versions.admit(&key(), version(A, "10")), "it may come back: no deletion was seen");
}

#[test]
fn an_abandoned_list_deletes_nothing() {
    let mut versions = knowing(A, "10");
    versions.begin_list(false);
    versions.abandon_list();
    assert!(versions.end_list().is_empty());
    assert!(versions.get(&key()).is_some());
}

#[test]
fn a_server_that_was_set_back_for_good_is_believed() {
    let mut versions = knowing(A, "1000");
    versions.begin_list(true);
    assert!(versions.admit(&key(), version(A, "10")));
    assert!(versions.end_list().is_empty());
    assert!(versions.admit(&key(), version(A, "11")), "and from there on as ever");
}

#[test]
fn a_known_version_is_good_for_reading_its_contents() {
    let mut versions = knowing(A, "10");
    assert!(!versions.confirm(&key(), version(A, "9")));
    assert!(versions.confirm(&key(), version(A, "10")));
    assert!(versions.confirm(&key(), version(A, "11")));
    assert!(!versions.admit(&key(), version(A, "11")), "it is known now");
    assert!(!versions.confirm(&ObjectKey::new("web", "unknown"), version(A, "12")));
}

#[test]
fn memory_of_deletions_is_bounded() {
    let mut versions = Versions::<u32>::default();
    for i in 0..5_000_u32 {
        versions.delete(&key(), &version(&format!("uid-{i}"), "5"));
    }
    assert!(versions.admit(&key(), version("uid-0", "5")), "long forgotten");
    let mut versions = Versions::<u32>::default();
    versions.delete(&key(), &version("last", "5"));
    assert!(!versions.admit(&key(), version("last", "5")));
}
