//! T23: what cannot reach the API server goes on as it is, and finds back afterwards.

use std::collections::BTreeMap;

use smartnat_core::model::{ClusterObject, ObjectKind};
use smartnat_sim::fleet::Fleet;

use crate::setup::*;

const HOUR: u64 = 3_600_000;

fn served(count: usize) -> Fleet {
    let mut fleet = fleet(count);
    fleet.put(echo("echo", &[A, B, C][..count]).build());
    wait(&mut fleet, SOON, "programmed", |f| is_programmed(f, "echo"));
    fleet.advance(SOON);
    fleet
}

fn all_unreachable(fleet: &mut Fleet, reachable: bool) {
    let hosts: Vec<String> = fleet.hosts().map(str::to_owned).collect();
    for host in hosts {
        fleet.link(&host).reachable = reachable;
    }
}

#[test]
fn an_outage_of_an_hour_changes_nothing_in_the_kernel() {
    on_both_backends(|| {
        let mut fleet = served(2);
        all_unreachable(&mut fleet, false);
        fleet.kernel_mut("gw-a").take_log();
        fleet.advance(HOUR);
        assert!(fleet.kernel("gw-a").log().is_empty(), "no operation");
        assert!(serves(&fleet, "gw-a", A, "echo") && serves(&fleet, "gw-b", B, "echo"));
        all_unreachable(&mut fleet, true);
        fleet.advance(500);
        assert!(is_programmed(&fleet, "echo"), "nobody was taken for dead");
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn a_restart_during_an_outage_changes_nothing_and_a_reboot_serves_what_is_remembered() {
    on_both_backends(|| {
        for reboot in [false, true] {
            let mut fleet = served(2);
            all_unreachable(&mut fleet, false);
            if reboot {
                fleet.power_off("gw-a");
                fleet.power_on("gw-a");
                assert!(!serves(&fleet, "gw-a", A, "echo"));
            } else {
                fleet.kill("gw-a", 0);
                fleet.start("gw-a", &BTreeMap::new());
            }
            fleet.kernel_mut("gw-a").take_log();
            wait(&mut fleet, 10_000, "it serves", |f| serves(f, "gw-a", A, "echo"));
            fleet.advance(60_000);
            assert!(serves(&fleet, "gw-a", A, "echo"));
            assert!(reboot || fleet.kernel("gw-a").log().is_empty(), "no operation");
            fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("echo")));
            fleet.put(echo("new", &[A, B]).build());
            fleet.advance(60_000);
            assert!(serves(&fleet, "gw-a", A, "echo") && serves(&fleet, "gw-b", B, "echo"));
            assert!(!is_gone(&fleet, "echo"));
            all_unreachable(&mut fleet, true);
            wait(&mut fleet, 10 * SOON, "it goes", |f| is_gone(f, "echo"));
            wait(&mut fleet, SOON, "the new one is served", |f| {
                serves(f, "gw-a", A, "new") && serves(f, "gw-b", B, "new")
            });
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn what_vanished_while_a_program_was_down_vanishes_when_it_starts() {
    on_both_backends(|| {
        let mut fleet = served(1);
        fleet.put(echo("second", &[A]).created(2).build());
        let mut second = echo("third", &[A]).created(3).mapping();
        second.spec.ports[0].port = Some(81);
        fleet.put(second.into());
        fleet.advance(SOON);
        fleet.kill("gw-a", 0);
        for name in ["echo", "third"] {
            fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key(name)));
            fleet.strip_finalizer(&key(name));
        }
        fleet.advance(60_000);
        fleet.start("gw-a", &BTreeMap::new());
        wait(&mut fleet, SOON, "served", |f| serves(f, "gw-a", A, "second"));
        assert!(!holds(&fleet, "gw-a", "echo") && !holds(&fleet, "gw-a", "third"));
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn one_that_is_cut_off_serves_on_and_agrees_again_afterwards() {
    on_both_backends(|| {
        let mut fleet = served(3);
        fleet.link("gw-b").reachable = false;
        fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key("echo")));
        wait(&mut fleet, 60_000, "it goes without the one that is cut off", |f| is_gone(f, "echo"));
        assert!(serves(&fleet, "gw-b", B, "echo"), "the outage outranks the deletion");
        fleet.put(echo("new", &[A, B]).build());
        fleet.advance(SOON);
        fleet.link("gw-b").reachable = true;
        wait(&mut fleet, SOON, "it agrees", |f| serves(f, "gw-b", B, "new"));
        assert!(!holds(&fleet, "gw-b", "echo"));
        assert_as_fresh(&mut fleet);
    });
}
