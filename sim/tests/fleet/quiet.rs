//! T21: what is told, and that nothing is told twice.

use smartnat_core::coordination::{FINALIZER, Truth};
use smartnat_core::status::reason;

use crate::setup::*;

#[test]
fn t21_a_new_mapping_is_told_of_by_those_who_serve_it_and_by_the_leader() {
    on_both_backends(|| {
        let mut fleet = fleet(3);
        fleet.put(echo("echo", &[A, B]).build());
        wait(&mut fleet, SOON, "programmed", |f| is_programmed(f, "echo"));
        assert!(serves(&fleet, "gw-a", A, "echo") && serves(&fleet, "gw-b", B, "echo"));
        let by_all = told(&fleet, &key("echo"), reason::PROGRAMMED);
        let text = "served by gw-a, gw-b";
        assert_eq!(by_all, Some((Truth::True, reason::SERVING.into(), text.into())));
        for instance in ["gw-a", "gw-b"] {
            let (truth, ..) =
                told_by(&fleet, "echo", instance, reason::PROGRAMMED).expect("it says so");
            assert_eq!(truth, Truth::True);
        }
        assert_eq!(told_by(&fleet, "echo", "gw-c", reason::PROGRAMMED), None);
        let record = record(&fleet, "echo").expect("it is there");
        assert_eq!(record.finalizers, [FINALIZER]);
        assert_eq!(record.summary.invalid.as_deref(), Some("no"));
        assert_as_fresh(&mut fleet);
    });
}

#[test]
fn a_quiet_minute_sees_no_write_but_leases() {
    on_both_backends(|| {
        let mut fleet = fleet(3);
        fleet.put(echo("echo", &[A, B, C]).build());
        fleet.advance(SOON);
        let before = (writes(&fleet), fleet.sent().len());
        fleet.advance(60_000);
        assert_eq!(writes(&fleet), before.0, "{:#?}", last_writes(&fleet));
        assert!(fleet.sent().len() > before.1 + 3 * 20, "each instance renews its Lease");
    });
}

#[test]
fn an_entry_that_somebody_else_keeps_is_not_fought_over() {
    on_both_backends(|| {
        let mut fleet = fleet(2);
        fleet.put(echo("echo", &[A, B]).build());
        fleet.advance(SOON);
        fleet.co_own_entry(&key("echo"), ip(B), "gw-b");
        fleet.remove_address("gw-b", ip(B));
        fleet.advance(60_000);
        assert!(
            record(&fleet, "echo").is_some_and(|r| r.entries.iter().any(|e| e.address == ip(B)))
        );
        let before = writes(&fleet);
        fleet.advance(600_000);
        let tries = writes(&fleet) - before;
        assert!(tries <= 40, "{tries} writes in ten minutes: {:#?}", last_writes(&fleet));
    });
}

#[test]
fn a_change_is_told_with_few_writes() {
    on_both_backends(|| {
        let mut fleet = fleet(3);
        fleet.put(echo("echo", &[A, B, C]).build());
        fleet.advance(SOON);
        let before = writes(&fleet);
        fleet.put(echo("echo", &[A, B, C]).tcp(81).build());
        fleet.advance(SOON);
        let made = writes(&fleet) - before;
        // Each of three says so, and the leader once; an entry may be written twice.
        assert!(made <= 7, "{made} writes: {:#?}", last_writes(&fleet));
    });
}
