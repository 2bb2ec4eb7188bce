//! T21: what is told, and that nothing is told twice.

use smartnat_core::coordination::{FINALIZER, Truth};
use smartnat_core::status::reason;

use crate::setup::*;

#[test]
fn t21_a_new_mapping_is_told_of_by_those_who_serve_it_and_by_the_leader() {
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
}

#[test]
fn a_quiet_minute_sees_no_write_but_leases() {
    let mut fleet = fleet(3);
    fleet.put(echo("echo", &[A, B, C]).build());
    fleet.advance(SOON);
    let before = (writes(&fleet), fleet.sent().len());
    fleet.advance(60_000);
    assert_eq!(writes(&fleet), before.0, "{:#?}", last_writes(&fleet));
    assert!(fleet.sent().len() > before.1 + 3 * 20, "each instance renews its Lease");
}
