//! T20, T21: one leader at a time, whoever dies, and none for ever.

use std::collections::BTreeMap;

use smartnat_core::coordination::{LeaseName, Write};
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::{Fleet, Times};

use crate::setup::*;

/// Hosts that write as the leader from now on, in order, while `millis` pass.
fn summaries_by(fleet: &mut Fleet, millis: u64) -> Vec<String> {
    let before = fleet.sent().len();
    fleet.advance(millis);
    let of_leader = fleet.sent()[before..].iter();
    let mut hosts: Vec<String> = of_leader
        .filter(|s| matches!(s.write, Write::Summary { .. }))
        .map(|s| s.host.clone())
        .collect();
    hosts.dedup();
    hosts
}

#[test]
fn there_is_one_leader_and_its_death_makes_another() {
    on_both_backends(|| {
        let mut fleet = fleet(3);
        let first = leader(&fleet).expect("somebody leads");
        fleet.put(echo("echo", &[A, B, C]).build());
        assert_eq!(summaries_by(&mut fleet, SOON), [first.as_str()]);
        fleet.kill(&first, 0);
        let least = Times::default().lease_millis;
        wait(&mut fleet, 3 * least, "another one leads", |f| leader(f).is_some_and(|l| l != first));
        let second = leader(&fleet).expect("somebody leads");
        fleet.put(echo("second", &[A, B, C]).build());
        assert_eq!(summaries_by(&mut fleet, SOON), [second.as_str()]);
        fleet.start(&first, &BTreeMap::new());
        assert_as_fresh(&mut fleet);
        assert_eq!(fleet.hosts().filter(|host| fleet.leads(host)).count(), 1);
    });
}

#[test]
fn an_orderly_end_hands_over_at_once() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        let first = leader(&fleet).expect("somebody leads");
        fleet.stop(&first);
        wait(&mut fleet, 500, "the other one leads", |f| leader(f).is_some_and(|l| l != first));
        assert!(!fleet.runs(&first), "it ended");
    });
}

#[test]
fn a_leader_that_is_cut_off_stops_writing_before_another_begins() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        let first = leader(&fleet).expect("somebody leads");
        fleet.link(&first).reachable = false;
        let mut led_together = 0;
        for _ in 0..200 {
            fleet.advance(100);
            led_together += u32::from(fleet.hosts().filter(|host| fleet.leads(host)).count() > 1);
        }
        assert_eq!(led_together, 0);
        assert!(leader(&fleet).is_some_and(|l| l != first));
        fleet.link(&first).reachable = true;
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn a_leader_that_starts_again_goes_on_with_its_own_lease() {
    on_both_backends(|| {
        for millis in [0, 100, 3_000] {
            let mut fleet = fleet(2);
            let first = leader(&fleet).expect("somebody leads");
            fleet.kill(&first, 0);
            fleet.advance(millis);
            fleet.start(&first, &BTreeMap::from([(Kind::Leases, 2)]));
            fleet.put(echo("echo", &[A, B]).build());
            wait(&mut fleet, SOON, "told of", |f| is_programmed(f, "echo"));
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn a_lost_answer_of_the_leaders_lease_lets_nobody_lead_twice() {
    on_both_backends(|| {
        let mut fleet = fleet(3);
        for round in 0..6 {
            for host in ["gw-a", "gw-b", "gw-c"] {
                let fault = smartnat_sim::fleet::WriteFault::AnswerLost;
                fleet.link(host).faults.extend([fault; 2]);
            }
            fleet.put(echo(&format!("m{round}"), &[A]).tcp(90 + round).build());
            fleet.advance(1_500);
            assert_safe(&fleet);
        }
        assert_as_fresh(&mut fleet);
        let lease = fleet.server.lease(&LeaseName::Leader).expect("there is one");
        assert_eq!(leader(&fleet).as_deref(), Some(lease.holder.as_str()));
    });
}
