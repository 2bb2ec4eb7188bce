//! T20: a deleted Mapping goes when no live instance holds anything of it, and lapse is what is
//! seen, never what clocks say.

use std::collections::BTreeMap;

use smartnat_core::coordination::{LeaseName, Truth};
use smartnat_core::model::{ClusterObject, ObjectKind};
use smartnat_core::status::reason;
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::{Fleet, Times};

use crate::setup::*;

/// A lapsed instance is waited for that long, beginning with its last renewal.
fn patience() -> u64 {
    let times = Times::default();
    times.lease_millis + times.max_finalize_millis
}

fn delete(fleet: &mut Fleet, name: &str) {
    fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key(name)));
}

/// Mapping `echo` on all hosts, served.
fn served(count: usize) -> Fleet {
    let mut fleet = fleet(count);
    fleet.put(echo("echo", &[A, B, C][..count]).build());
    wait(&mut fleet, SOON, "programmed", |f| is_programmed(f, "echo"));
    fleet
}

#[test]
fn with_one_two_and_three_instances_it_goes_at_once_and_leaves_nothing() {
    on_both_backends(|| {
        for count in 1..=3 {
            let mut fleet = served(count);
            delete(&mut fleet, "echo");
            wait(&mut fleet, 1_000, "it goes", |f| is_gone(f, "echo"));
            for (host, ..) in &HOSTS[..count] {
                assert!(!holds(&fleet, host, "echo"), "{count} instances: {host}");
            }
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn a_slow_kernel_is_waited_for() {
    on_both_backends(|| {
        let mut fleet = served(2);
        fleet.pace("gw-b", 700);
        delete(&mut fleet, "echo");
        fleet.advance(600);
        assert!(!is_gone(&fleet, "echo") && holds(&fleet, "gw-b", "echo"));
        wait(&mut fleet, 20_000, "it goes", |f| is_gone(f, "echo"));
        assert!(!holds(&fleet, "gw-b", "echo"));
    });
}

#[test]
fn one_that_is_dead_is_waited_for_no_longer_than_configured_and_removes_its_leftovers_later() {
    on_both_backends(|| {
        for (count, dead) in [(2, "gw-b"), (3, "gw-b"), (2, "gw-a")] {
            let mut fleet = served(count);
            fleet.kill(dead, 0);
            let died = fleet.now();
            delete(&mut fleet, "echo");
            wait(&mut fleet, 3 * SOON, "it says whom it waits for", |f| {
                told(f, &key("echo"), reason::PROGRAMMED).is_some_and(|(.., text)| {
                    text.contains(&format!("{dead}, which has not renewed"))
                })
            });
            assert!(!is_gone(&fleet, "echo"));
            wait(&mut fleet, 2 * patience(), "it goes", |f| is_gone(f, "echo"));
            assert!(
                fleet.now() - died >= Times::default().max_finalize_millis,
                "it was waited for"
            );
            assert!(holds(&fleet, dead, "echo"), "nobody was there to remove it");
            fleet.start(dead, &BTreeMap::new());
            wait(&mut fleet, SOON, "it removes its leftovers", |f| !holds(f, dead, "echo"));
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn one_that_returns_in_time_confirms_itself() {
    on_both_backends(|| {
        let mut fleet = served(3);
        fleet.kill("gw-c", 0);
        delete(&mut fleet, "echo");
        fleet.advance(10_000);
        assert!(!is_gone(&fleet, "echo"));
        fleet.start("gw-c", &BTreeMap::new());
        wait(&mut fleet, 1_000, "it goes", |f| is_gone(f, "echo"));
        assert!(!holds(&fleet, "gw-c", "echo"));
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn an_instance_whose_host_lost_its_power_is_forgotten_in_the_end() {
    on_both_backends(|| {
        let mut fleet = served(2);
        fleet.power_off("gw-b");
        let says = |f: &Fleet| told_by(f, "echo", "gw-b", reason::PROGRAMMED);
        wait(&mut fleet, 2 * SOON, "unknown", |f| {
            says(f).is_some_and(|(truth, why, _)| {
                (truth, why.as_str()) == (Truth::Unknown, reason::INSTANCE_LOST)
            })
        });
        assert!(is_programmed(&fleet, "echo"), "the other one serves");
        wait(&mut fleet, 2 * patience(), "pruned", |f| says(f).is_none());
        delete(&mut fleet, "echo");
        wait(&mut fleet, 1_000, "it goes", |f| is_gone(f, "echo"));
        fleet.power_on("gw-b");
        assert_as_fresh(&mut fleet);
    });
}

/// The leader hears late of Leases, or of what instances say: of one that has just joined it
/// hears what it says before it hears that there is such an instance.
#[test]
fn watches_that_are_late_by_themselves_let_nothing_go_too_early() {
    on_both_backends(|| {
        for late in [Kind::Leases, Kind::Mappings] {
            for joins in [false, true] {
                let mut fleet = served(if joins { 1 } else { 2 });
                let leads = leader(&fleet).expect("somebody leads");
                fleet.link(&leads).lag.insert(late, 4_000);
                fleet.put(echo_on("second", &[A, B], 81).build());
                if joins {
                    fleet.add_host("gw-b", "gw-b", &[format!("{B}/24")], 0);
                    fleet.start("gw-b", &BTreeMap::new());
                }
                // The leader, which adds the finalizer, hears late of Mappings.
                fleet.advance(if late == Kind::Mappings { 5_000 } else { 1_000 });
                assert!(holds(&fleet, "gw-b", "second"));
                // Deleted, yet the other one does not hear of it for a while.
                fleet.link("gw-b").lag.insert(Kind::Mappings, 2_000);
                let before = writes(&fleet);
                delete(&mut fleet, "second");
                wait(&mut fleet, 8 * SOON, "it goes", |f| is_gone(f, "second"));
                assert!(!holds(&fleet, "gw-b", "second"), "{late:?} late, joins: {joins}");
                let made = writes(&fleet) - before;
                assert!(made <= 12, "{made} writes: {:#?}", last_writes(&fleet));
                fleet.link(&leads).lag.clear();
                fleet.link("gw-b").lag.clear();
                assert_as_fresh(&mut fleet);
            }
        }
    });
}

/// Its host gets an address of the Mapping just when that is deleted, of which it hears late,
/// and the leader hears late that it publishes the address.
#[test]
fn one_that_takes_up_what_is_deleted_is_waited_for() {
    on_both_backends(|| {
        for (deleted, heard) in [(4_000, 900), (900, 4_000), (900, 900)] {
            let mut fleet = fleet(2);
            fleet.put(echo("echo", &[A, C]).build());
            wait(&mut fleet, SOON, "programmed", |f| is_programmed(f, "echo"));
            let leads = leader(&fleet).expect("somebody leads");
            fleet.link("gw-b").lag.insert(Kind::Mappings, deleted);
            fleet.link(&leads).lag.insert(Kind::Leases, heard);
            fleet.add_address("gw-b", &format!("{C}/24"));
            fleet.advance(100);
            assert!(serves(&fleet, "gw-b", C, "echo"));
            delete(&mut fleet, "echo");
            wait(&mut fleet, 3 * SOON, "it goes", |f| is_gone(f, "echo"));
            assert!(!holds(&fleet, "gw-b", "echo"));
        }
    });
}

#[test]
fn a_mapping_that_is_made_again_is_another() {
    on_both_backends(|| {
        let mut fleet = served(2);
        fleet.link("gw-b").answer_millis = 400;
        for lag in [0, 50, 900] {
            fleet.link("gw-b").lag.insert(Kind::Mappings, lag);
            delete(&mut fleet, "echo");
            wait(&mut fleet, 3 * SOON, "it goes", |f| is_gone(f, "echo"));
            fleet.put(echo("echo", &[B]).build());
            wait(&mut fleet, 3 * SOON, "programmed", |f| is_programmed(f, "echo"));
            assert!(serves(&fleet, "gw-b", B, "echo"));
            assert!(!holds(&fleet, "gw-a", "echo"));
        }
        fleet.link("gw-b").lag.clear();
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn a_finalizer_that_is_taken_away_by_force_leaves_nothing_behind() {
    on_both_backends(|| {
        let mut fleet = served(2);
        delete(&mut fleet, "echo");
        fleet.strip_finalizer(&key("echo"));
        assert!(is_gone(&fleet, "echo"));
        wait(&mut fleet, 1_000, "nothing is left", |f| {
            !holds(f, "gw-a", "echo") && !holds(f, "gw-b", "echo")
        });
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn a_lease_that_somebody_deletes_is_written_again() {
    on_both_backends(|| {
        let mut fleet = served(2);
        fleet.delete_lease(&LeaseName::Instance("gw-b".into()));
        fleet.advance(1_000);
        assert!(serves(&fleet, "gw-b", B, "echo"), "it serves on");
        wait(&mut fleet, SOON, "it is back", |f| {
            f.server
                .lease(&LeaseName::Instance("gw-b".into()))
                .is_some_and(|l| l.addresses == [ip(B)].into())
        });
        assert_as_fresh(&mut fleet);
    });
}
