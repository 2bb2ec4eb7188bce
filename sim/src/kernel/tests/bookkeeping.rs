//! The log, counters, time.

use smartnat_core::ops::OpErrorClass::Exists;

use super::*;

#[test]
fn transactions_are_logged_with_the_names_of_their_objects() {
    let mut kernel = kernel();
    let set = || create_set("smartnat-s", set_spec(SetKind::HashIp));
    apply(&mut kernel, Domain::Sets, vec![set()]).expect("valid");
    kernel.advance(7);
    let _ = apply(&mut kernel, Domain::Sets, vec![set()]);
    let id = table(XtTable::Nat);
    apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[]), put("SMARTNAT-B", &[])]).expect("valid");
    assert_eq!(kernel.applied_ops(), 3);
    let log = kernel.take_log();
    let summary: Vec<_> = log
        .iter()
        .map(|t| (t.applied, t.ops.join(", "), t.outcome.clone().err().map(|e| e.class)))
        .collect();
    assert_eq!(
        summary,
        [
            (1, "CreateSet set smartnat-s".into(), None),
            (0, "CreateSet set smartnat-s".into(), Some(Exists)),
            (
                2,
                "PutChain chain SMARTNAT-A in nat (IPv4), PutChain chain SMARTNAT-B in nat (IPv4)"
                    .to_owned(),
                None
            ),
        ]
    );
    assert_eq!(log[1].at.0 - log[0].at.0, 7);
    assert!(kernel.log().is_empty());
    assert_eq!(kernel.applied_ops(), 3, "taking the log does not reset the count");
}

#[test]
fn equal_histories_make_equal_kernels() {
    let run = || {
        let mut kernel = host();
        let id = table(XtTable::Nat);
        apply_to(&mut kernel, id, vec![put("SMARTNAT-A", &[accept()])]).expect("valid");
        kernel.advance(10);
        kernel
    };
    let kernel = run();
    assert_eq!(kernel, run());
    let mut copy = kernel.clone();
    apply_to(&mut copy, table(XtTable::Nat), vec![delete("SMARTNAT-A")]).expect("valid");
    assert_ne!(kernel, copy, "a copy is independent");
}
