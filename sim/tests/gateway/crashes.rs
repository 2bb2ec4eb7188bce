//! P12: after a crash at any point a new gateway recovers from observation alone, and what the
//! crash left behind let nobody in.

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::Driver;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service, without_mapping};

use crate::common::walk::{Fate, fates};
use crate::common::*;
use crate::order::packets;

/// Every point at which a crash leaves something else than the one before: between the
/// operations that were applied, but not within a table's transaction.
pub(crate) fn crash_points(reference: &Driver) -> Vec<u64> {
    let mut points = vec![0];
    let mut total = 0;
    for record in reference.kernel.log() {
        match record.domain {
            smartnat_core::ops::Domain::Xtables(_) => points.push(total + record.applied),
            _ => points.extend(total + 1..=total + record.applied),
        }
        total += record.applied;
    }
    points.pop();
    points
}

/// A change of everything: an endpoint goes, a Mapping goes, one comes, one moves.
pub(crate) fn change() -> Vec<ClusterObject> {
    let mut change = service("echo")
        .port("http", Protocol::Tcp, 80, 8080)
        .port("", Protocol::Udp, 5000, 6000)
        .ready("10.1.0.8")
        .ready("10.1.0.11")
        .build();
    change.extend(
        service("new").port("", Protocol::Tcp, 90, 90).affinity(5).ready("10.1.0.40").build(),
    );
    change.push(
        mapping("new").address(EXT1).address(EXT2_V6).source("192.0.2.128/25").tcp(90).build(),
    );
    change.push(without_mapping("sticky"));
    change.push(mapping("exit").created(3).address(EXT1_B).tcp(25).egress(true).build());
    change
}

#[test]
fn a_cold_start_recovers_from_a_crash_at_any_point() {
    on_both_backends(|| {
        for flavour in [XtFlavour::Nft, XtFlavour::Legacy] {
            let reference = started_on(kernel(flavour), objects());
            let wanted = held(&reference.kernel);
            for n in crash_points(&reference) {
                let mut fresh = kernel(flavour);
                fresh.crash_after(n);
                let mut driver = started_on(fresh, objects());
                assert!(driver.kernel.is_crashed());
                for packet in packets() {
                    let now = fates(&driver.kernel, packet);
                    let allowed = fates(&reference.kernel, packet);
                    let no_more = now.iter().all(|f| *f == Fate::Untouched || allowed.contains(f));
                    assert!(no_more, "crash after {n}: {packet:?}: {now:?}");
                }
                driver.restart(config(), objects());
                assert_in_sync(&driver);
                assert_eq!(held(&driver.kernel), wanted, "crash after {n}");
                assert!(driver.kernel.trespasses().is_empty());
            }
        }
    });
}

#[test]
fn a_change_recovers_from_a_crash_at_any_point() {
    on_both_backends(|| {
        let before = settled(XtFlavour::Nft);
        let mut reference = before.clone();
        reference.cluster(change());
        assert_in_sync(&reference);
        let wanted = held(&reference.kernel);
        let all = || [objects(), change()].concat();
        let fresh = started_on(kernel(XtFlavour::Nft), all());
        assert_eq!(held(&fresh.kernel), wanted, "P9: the way there makes no difference");
        for n in crash_points(&reference) {
            let mut driver = before.clone();
            driver.kernel.crash_after(n);
            driver.cluster(change());
            assert!(driver.kernel.is_crashed());
            driver.restart(config(), all());
            assert_in_sync(&driver);
            assert_eq!(held(&driver.kernel), wanted, "crash after {n}");
        }
    });
}

/// P10: the cluster may ask for something else when the gateway is back.
#[test]
fn a_crash_in_a_change_that_is_withdrawn_leaves_nothing() {
    on_both_backends(|| {
        let before = settled(XtFlavour::Nft);
        let wanted = held(&before.kernel);
        let mut reference = before.clone();
        reference.cluster(change());
        for n in crash_points(&reference) {
            let mut driver = before.clone();
            driver.kernel.crash_after(n);
            driver.cluster(change());
            driver.restart(config(), objects());
            assert_in_sync(&driver);
            assert_eq!(held(&driver.kernel), wanted, "crash after {n}");
        }
    });
}

#[test]
fn a_clean_up_recovers_from_a_crash_at_any_point() {
    on_both_backends(|| {
        for flavour in [XtFlavour::Nft, XtFlavour::Legacy] {
            let fresh = kernel(flavour);
            let surroundings = Surroundings::of(&fresh);
            let mut before = started_on(fresh, objects());
            before.kernel.take_log();
            before.take_events();
            let mut reference = before.clone();
            reference.clean_up();
            for n in crash_points(&reference) {
                let mut driver = before.clone();
                driver.kernel.crash_after(n);
                driver.clean_up();
                assert_eq!(
                    count(&driver.take_events(), EventKind::CleanedUp),
                    0,
                    "crash after {n}"
                );
                driver.kernel.recover();
                let mut second = Driver::new(config(), driver.kernel);
                second.clean_up();
                assert_clean(&second.kernel, &surroundings);
                assert_eq!(count(second.events(), EventKind::CleanedUp), 1, "crash after {n}");
            }
        }
    });
}

/// P10: also a clean-up after a start that crashed.
#[test]
fn a_start_that_crashed_can_be_cleaned_up() {
    on_both_backends(|| {
        let fresh = kernel(XtFlavour::Nft);
        let surroundings = Surroundings::of(&fresh);
        let reference = started_on(fresh.clone(), objects());
        for n in crash_points(&reference) {
            let mut kernel = fresh.clone();
            kernel.crash_after(n);
            let mut driver = started_on(kernel, objects());
            driver.kernel.recover();
            let mut second = Driver::new(config(), driver.kernel);
            second.clean_up();
            assert_clean(&second.kernel, &surroundings);
        }
    });
}
