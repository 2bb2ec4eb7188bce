//! T22: stale, repeated, reordered and lost news never replace newer ones.

use std::collections::BTreeMap;

use smartnat_core::model::{ClusterObject, ObjectKind};
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::WriteFault;

use crate::setup::*;

#[test]
fn a_list_from_the_past_changes_nothing() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        fleet.put(echo("echo", &[A, B]).build());
        fleet.advance(SOON);
        let before = (fleet.picture(), writes(&fleet));
        for steps_back in [1, 2, 5, 1_000] {
            for kind in Kind::ALL {
                fleet.cut("gw-a", kind, steps_back);
                fleet.cut("gw-b", kind, steps_back);
                fleet.advance(100);
                assert!(serves(&fleet, "gw-a", A, "echo"), "{kind:?}, {steps_back} steps back");
            }
            fleet.advance(SOON);
        }
        assert_eq!((fleet.picture(), writes(&fleet)), before);
        assert_safe(&fleet);
    });
}

#[test]
fn a_start_from_a_stale_list_catches_up() {
    on_both_backends(|| {
        for steps_back in 0..8 {
            let mut fleet = fleet(2);
            fleet.put(echo("echo", &[A, B]).build());
            fleet.advance(SOON);
            fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("echo")));
            fleet.put(echo("next", &[A, B]).build());
            fleet.advance(SOON);
            fleet.kill("gw-b", 0);
            fleet.start("gw-b", &Kind::ALL.map(|kind| (kind, steps_back)).into());
            assert_as_fresh(&mut fleet);
            assert!(serves(&fleet, "gw-b", B, "next"));
        }
    });
}

#[test]
fn what_was_lost_with_a_watch_is_found_by_the_next_list() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        fleet.put(echo("echo", &[A, B]).build());
        fleet.advance(SOON);
        fleet.link("gw-b").reachable = false;
        fleet.advance(100);
        fleet.put(ClusterObject::Deleted(ObjectKind::Service, key("echo")));
        fleet.put(echo("echo", &[A, B]).tcp(81).build());
        fleet.put(echo("short", &[A]).tcp(82).build());
        fleet.advance(100);
        fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("short")));
        for kind in Kind::ALL {
            fleet.cut("gw-b", kind, 0);
        }
        fleet.advance(1_000);
        fleet.link("gw-b").reachable = true;
        assert_as_fresh(&mut fleet);
    });
}

/// The answer tells of a Mapping that is gone by then, as the watch has told already.
#[test]
fn an_answer_that_comes_after_newer_news_is_old_news() {
    on_both_backends(|| {
        for count in 1..=2 {
            let mut fleet = fleet(count);
            for (host, ..) in &HOSTS[..count] {
                fleet.link(host).answer_millis = 700;
            }
            for round in 0..4_u16 {
                fleet.put(echo("echo", &[A, B]).tcp(81 + round).build());
                fleet.advance(100);
                fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("echo")));
                fleet.strip_finalizer(&key("echo"));
                fleet.put(echo("echo", &[B, A]).tcp(91 + round).build());
                fleet.advance(u64::from(round) * 333);
            }
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn writes_that_fail_before_or_after_they_took_effect_are_made_up_for() {
    on_both_backends(|| {
        use WriteFault::{AnswerLost, Lost, Overtaken, Refused};
        for fault in [Lost, AnswerLost, Overtaken, Refused] {
            let mut fleet = fleet(2);
            for host in ["gw-a", "gw-b"] {
                fleet.link(host).faults.extend([fault; 4]);
            }
            fleet.put(echo("echo", &[A, B]).build());
            wait(&mut fleet, 60_000, "programmed", |f| is_programmed(f, "echo"));
            for host in ["gw-a", "gw-b"] {
                fleet.link(host).faults.extend([fault; 3]);
            }
            fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("echo")));
            wait(&mut fleet, 120_000, "it goes", |f| is_gone(f, "echo"));
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn a_kill_at_any_point_is_recovered_from() {
    on_both_backends(|| {
        for moment in 0..40 {
            let mut fleet = fleet(2);
            fleet.put(echo("echo", &[A, B]).build());
            fleet.advance(moment * 2);
            fleet.kill("gw-a", moment % 5);
            fleet.advance(moment * 100);
            fleet.start("gw-a", &BTreeMap::new());
            assert_as_fresh(&mut fleet);
        }
    });
}
