//! T20, T21: addresses that move between hosts, that two hosts hold, and two programs with one name.

use std::collections::BTreeMap;

use smartnat_core::coordination::{HANDOVER_MILLIS, LeaseName, Notice, Truth};
use smartnat_core::status::reason;
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::Fleet;

use crate::setup::*;

/// An address beside the first one of each host.
const MOVING: &str = "203.0.113.99";

/// `gw-a` holds [`MOVING`] and serves it.
fn with_moving() -> Fleet {
    let mut fleet = fleet_with(&[("gw-a", vec![A, MOVING], 0), ("gw-b", vec![B], 99)]);
    fleet.put(echo("echo", &[MOVING]).build());
    wait(&mut fleet, SOON, "served", |f| serves(f, "gw-a", MOVING, "echo"));
    fleet
}

fn publishes(fleet: &Fleet, instance: &str, address: &str) -> bool {
    let lease = fleet.server.lease(&LeaseName::Instance(instance.into()));
    lease.is_some_and(|l| l.addresses.contains(&ip(address)))
}

#[test]
fn the_old_owner_lets_go_before_the_new_one_serves() {
    on_both_backends(|| {
        for (slow, late) in [(3, 3), (40, 3), (3, 300), (40, 300)] {
            let mut fleet = with_moving();
            fleet.pace("gw-a", slow);
            fleet.link("gw-b").lag.insert(Kind::Leases, late);
            let moved = fleet.now();
            fleet.remove_address("gw-a", ip(MOVING));
            fleet.add_address("gw-b", &format!("{MOVING}/24"));
            loop {
                fleet.advance(1);
                let [old, new] = ["gw-a", "gw-b"].map(|host| serves(&fleet, host, MOVING, "echo"));
                assert!(!(old && new), "both serve it {} ms after it moved", fleet.now() - moved);
                if new {
                    break;
                }
                assert!(fleet.now() - moved < HANDOVER_MILLIS, "the handover takes too long");
            }
            assert_as_fresh(&mut fleet);
            let (truth, ..) =
                told_by(&fleet, "echo", "gw-b", reason::PROGRAMMED).expect("it says so");
            assert_eq!(truth, Truth::True);
            assert_eq!(told_by(&fleet, "echo", "gw-a", reason::PROGRAMMED), None);
        }
    });
}

#[test]
fn of_an_owner_that_died_the_new_one_takes_it_in_time() {
    on_both_backends(|| {
        for power in [false, true] {
            let mut fleet = with_moving();
            if power {
                fleet.power_off("gw-a");
            } else {
                fleet.kill("gw-a", 0);
            }
            fleet.add_address("gw-b", &format!("{MOVING}/24"));
            fleet.advance(HANDOVER_MILLIS - 500);
            assert!(!serves(&fleet, "gw-b", MOVING, "echo"), "the old owner may yet let go");
            wait(&mut fleet, 600, "it serves", |f| serves(f, "gw-b", MOVING, "echo"));
            fleet.advance(10 * SOON);
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn two_that_hold_one_address_both_serve_it_and_both_say_so_in_any_order() {
    on_both_backends(|| {
        for order in [["gw-a", "gw-b"], ["gw-b", "gw-a"]] {
            let mut fleet = fleet(2);
            fleet.put(echo("echo", &[MOVING]).build());
            for host in order {
                fleet.add_address(host, &format!("{MOVING}/24"));
                fleet.advance(10);
            }
            fleet.advance(HANDOVER_MILLIS + 500);
            for (host, other) in [("gw-a", "gw-b"), ("gw-b", "gw-a")] {
                assert!(serves(&fleet, host, MOVING, "echo"), "{host}");
                let shared = told_by(&fleet, "echo", host, reason::SHARED).expect("it says so");
                assert_eq!(shared.2, format!("also held by {other}"));
            }
            let text = told(&fleet, &key("echo"), reason::PROGRAMMED).expect("it is told").2;
            assert_eq!(text, "served by gw-a, gw-b");
            assert_as_fresh(&mut fleet);
            fleet.remove_address("gw-a", ip(MOVING));
            wait(&mut fleet, 1_000, "it is shared no more", |f| {
                told_by(f, "echo", "gw-b", reason::SHARED).is_none()
                    && told_by(f, "echo", "gw-a", reason::PROGRAMMED).is_none()
            });
            assert_as_fresh(&mut fleet);
        }
    });
}

#[test]
fn an_address_that_goes_to_and_fro_ends_where_it_is() {
    on_both_backends(|| {
        let mut fleet = with_moving();
        for (from, to) in [("gw-a", "gw-b"), ("gw-b", "gw-a"), ("gw-a", "gw-b")] {
            fleet.remove_address(from, ip(MOVING));
            fleet.advance(20);
            fleet.add_address(to, &format!("{MOVING}/24"));
            fleet.advance(30);
        }
        assert_as_fresh(&mut fleet);
        assert!(serves(&fleet, "gw-b", MOVING, "echo") && publishes(&fleet, "gw-b", MOVING));
        assert!(!publishes(&fleet, "gw-a", MOVING));
    });
}

#[test]
fn of_two_programs_with_one_name_the_second_serves_nothing_until_the_first_is_gone() {
    on_both_backends(|| {
        let mut fleet = fleet_with(&[("gw-a", vec![A], 0)]);
        fleet.add_host("impostor", "gw-a", &[format!("{MOVING}/24")], 0);
        fleet.put(echo("echo", &[A, MOVING]).build());
        fleet.start("impostor", &BTreeMap::new());
        fleet.advance(4 * SOON);
        assert_safe(&fleet);
        assert!(serves(&fleet, "gw-a", A, "echo"));
        assert!(!holds(&fleet, "impostor", "echo"));
        assert_eq!(fleet.notices("impostor"), [Notice::NameTaken { holder: "gw-a".into() }]);
        let before = writes(&fleet);
        fleet.advance(2 * SOON);
        assert_eq!(writes(&fleet), before, "they do not fight: {:#?}", last_writes(&fleet));
        fleet.kill("gw-a", 0);
        wait(&mut fleet, 3 * SOON, "it takes over", |f| serves(f, "impostor", MOVING, "echo"));
        assert!(fleet.notices("impostor").contains(&Notice::Joined));
    });
}
