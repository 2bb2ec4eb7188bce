//! T19: one owner of an external endpoint in the whole cluster, on every instance, whatever the
//! order in which it hears of the claims.

use std::collections::BTreeMap;

use smartnat_core::coordination::Truth;
use smartnat_core::model::{ClusterObject, ObjectKey, ObjectKind, Protocol};
use smartnat_core::status::reason;
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::exposes;
use smartnat_sim::scenario::{MappingBuilder, service};

use crate::setup::*;

/// The claims of one endpoint: the older wins, in whatever namespace.
fn claims() -> [MappingBuilder; 2] {
    [echo("zz-older", &[A, B]).created(10), echo("younger", &[B, A]).created(20).namespace("team")]
}

fn younger() -> ObjectKey {
    ObjectKey::new("team", "younger")
}

#[test]
fn the_older_serves_and_the_younger_says_who_won_in_any_order_on_all_instances() {
    on_both_backends(|| {
        for younger_first in [false, true] {
            let mut fleet = fleet(2);
            let [older, of_team] = claims();
            let mut sequence = [older.build(), of_team.build()];
            if younger_first {
                sequence.reverse();
            }
            // One instance hears of the second claim much later than the other.
            fleet.link("gw-b").lag.insert(Kind::Mappings, 900);
            for claim in sequence {
                fleet.put(claim);
                fleet.advance(500);
            }
            assert_as_fresh(&mut fleet);
            for (host, address) in [("gw-a", A), ("gw-b", B)] {
                assert!(serves(&fleet, host, address, "zz-older"), "{host}");
            }
            assert!(is_programmed(&fleet, "zz-older"));
            let lost = fleet.server.mapping(&younger()).expect("it is there").record.clone();
            let invalid = lost.summary.invalid.clone().unwrap_or_default();
            assert!(invalid.contains("default/zz-older"), "{invalid}");
            let (truth, why, text) =
                told(&fleet, &younger(), reason::ACCEPTED).expect("it is told");
            assert_eq!((truth, why.as_str()), (Truth::False, reason::CONFLICT));
            assert!(text.contains("default/zz-older"), "{text}");
            assert!(younger_first || lost.finalizers.is_empty(), "nobody has ever served it");
        }
    });
}

#[test]
fn a_mapping_that_is_deleted_owns_until_its_finalizer_is_gone() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        for object in service("echo").namespace("team").port("", Protocol::Tcp, 80, 80).build() {
            fleet.put(object);
        }
        for claim in claims() {
            fleet.put(claim.build());
        }
        fleet.advance(SOON);
        // An instance that hears of nothing keeps serving it, and so it stays.
        fleet.link("gw-b").lag.insert(Kind::Mappings, 3_000);
        fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("zz-older")));
        fleet.advance(2_500);
        assert!(serves(&fleet, "gw-b", B, "zz-older"));
        assert!(!is_gone(&fleet, "zz-older"));
        let serves_younger = |fleet: &smartnat_sim::fleet::Fleet, host: &str, address| {
            exposes(fleet.kernel(host), ip(address), Protocol::Tcp, 80, &younger())
        };
        assert!(!serves_younger(&fleet, "gw-a", A), "the deleted one still owns");
        wait(&mut fleet, SOON, "it goes", |f| is_gone(f, "zz-older"));
        wait(&mut fleet, SOON, "the younger takes over", |f| {
            serves_younger(f, "gw-a", A) && serves_younger(f, "gw-b", B)
        });
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn a_mapping_that_lost_after_it_was_served_is_let_go_of_by_all_and_can_be_deleted() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        let [older, _] = claims();
        fleet.put(older.build());
        fleet.put(echo("other", &[A, B]).created(30).build());
        // A third one, served at first, moves its claim onto the endpoint of the oldest.
        let elsewhere = echo("mover", &[A, B]).created(40);
        let mut moved = elsewhere.clone().mapping();
        moved.spec.ports[0].port = Some(81);
        fleet.put(moved.into());
        wait(&mut fleet, SOON, "it is served", |f| is_programmed(f, "mover"));
        fleet.put(elsewhere.build());
        wait(&mut fleet, SOON, "it lost", |f| {
            told(f, &key("mover"), reason::ACCEPTED)
                .is_some_and(|(truth, ..)| truth == Truth::False)
        });
        assert!(!holds(&fleet, "gw-a", "mover") && !holds(&fleet, "gw-b", "mover"));
        fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("mover")));
        wait(&mut fleet, SOON, "it goes", |f| is_gone(f, "mover"));
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn an_instance_that_starts_late_finds_the_same_owner() {
    on_both_backends(|| {
        let mut fleet = fleet(1);
        let [older, of_team] = claims();
        fleet.put(of_team.build());
        fleet.advance(SOON);
        fleet.add_host("gw-b", "gw-b", &[format!("{B}/24")], 5);
        fleet.put(older.build());
        // Its first list is from before the older claim.
        fleet.start("gw-b", &BTreeMap::from([(Kind::Mappings, 1)]));
        fleet.advance(SOON);
        assert!(serves(&fleet, "gw-b", B, "zz-older"));
        assert_as_fresh(&mut fleet);
    });
}
