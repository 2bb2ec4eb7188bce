//! Another backend on a running host: it is set up beside the old one, which then goes (T18). At
//! every point of it packets fare as before and after, and a crash there is recovered from (P12).

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{Backend, ClusterObject, GatewayConfig};
use smartnat_core::objects::KernelState;
use smartnat_core::ops::{Domain, OpErrorClass};
use smartnat_sim::kernel::{OpKind, OpMatcher, XtFlavour};
use smartnat_sim::{Driver, SimKernel};

use crate::common::walk::fates;
use crate::common::*;
use crate::crashes::{change, crash_points};
use crate::order::packets;

const BOTH_WAYS: [[Backend; 2]; 2] =
    [[Backend::Iptables, Backend::Nftables], [Backend::Nftables, Backend::Iptables]];

fn on(backend: Backend) -> GatewayConfig {
    GatewayConfig { backend, ..config() }
}

/// A gateway that has begun on what a kernel holds.
fn begun(backend: Backend, kernel: SimKernel, objects: Vec<ClusterObject>) -> Driver {
    let mut driver = Driver::new(on(backend), kernel);
    driver.start(objects);
    driver
}

/// A gateway that was in sync on `backend` and is gone.
fn left_by(backend: Backend, flavour: XtFlavour) -> Driver {
    let mut driver = begun(backend, kernel(flavour), objects());
    assert_in_sync(&driver);
    driver.kernel.take_log();
    driver.take_events();
    driver
}

/// All that is held, but for which empty built-in chains came by us: a clean-up takes them along
/// with the last of ours.
fn rules_of(driver: &Driver) -> KernelState {
    let mut state = held(&driver.kernel);
    state.xtables.values_mut().for_each(|table| table.created_builtins.clear());
    state
}

/// What a kernel holds on which nothing but `backend` ever ran.
fn fresh(backend: Backend, flavour: XtFlavour, objects: Vec<ClusterObject>) -> KernelState {
    rules_of(&begun(backend, kernel(flavour), objects))
}

/// A gateway of another backend on what `before` left, with a crash after `n` operations.
fn crashed(before: &Driver, backend: Backend, n: u64) -> Driver {
    let mut kernel = before.kernel.clone();
    kernel.crash_after(n);
    begun(backend, kernel, objects())
}

#[test]
fn nothing_of_the_old_backend_stays_and_no_connection_ends() {
    for ([old, new], flavour) in BOTH_WAYS.into_iter().zip([XtFlavour::Nft, XtFlavour::Legacy]) {
        let mut driver = left_by(old, flavour);
        driver.restart(on(new), objects());
        assert_in_sync(&driver);
        assert_eq!(rules_of(&driver), fresh(new, flavour, objects()), "{old:?} to {new:?}");
        let told = driver.take_events();
        assert_eq!(count(&told, EventKind::BackendChanged), 2, "{told:?}");
        assert_eq!(count(&told, EventKind::ConnectionsEnded), 0, "{told:?}");
        // Routing and sysctls are both backends'.
        let shared = |domain| matches!(domain, Domain::Routing | Domain::Sysctls | Domain::Flows);
        let touched = driver.kernel.log().iter().any(|record| shared(record.domain));
        assert!(!touched, "{}", report(&driver));
        driver.kernel.take_log();
        driver.kernel_changed();
        driver.advance(700_000);
        assert!(driver.kernel.log().is_empty(), "{}", report(&driver));
        assert!(driver.kernel.trespasses().is_empty());
    }
}

#[test]
fn packets_fare_the_same_at_every_point_and_a_crash_there_is_recovered_from() {
    for [old, new] in BOTH_WAYS {
        let before = left_by(old, XtFlavour::Nft);
        let wanted = fresh(new, XtFlavour::Nft, objects());
        let mut reference = before.clone();
        reference.restart(on(new), objects());
        for n in crash_points(&reference) {
            let mut driver = crashed(&before, new, n);
            assert!(driver.kernel.is_crashed());
            for packet in packets() {
                let (now, always) = (fates(&driver.kernel, packet), fates(&before.kernel, packet));
                assert_eq!(now, always, "{old:?} to {new:?}, crash after {n}: {packet:?}");
            }
            driver.restart(on(new), objects());
            assert_in_sync(&driver);
            assert_eq!(rules_of(&driver), wanted, "crash after {n}");
        }
    }
}

/// Also where the cluster changed meanwhile, and where the old backend is chosen again.
#[test]
fn a_change_of_mind_in_the_middle_leaves_nothing_of_the_other_one() {
    for [old, new] in BOTH_WAYS {
        let before = left_by(old, XtFlavour::Nft);
        let mut reference = before.clone();
        reference.restart(on(new), change_of_all());
        assert_in_sync(&reference);
        for n in crash_points(&reference) {
            for last in [old, new] {
                let mut driver = crashed(&before, new, n);
                driver.restart(on(last), change_of_all());
                assert_in_sync(&driver);
                let wanted = fresh(last, XtFlavour::Nft, change_of_all());
                assert_eq!(rules_of(&driver), wanted, "crash after {n}, then {last:?}");
            }
        }
    }
}

fn change_of_all() -> Vec<ClusterObject> {
    [objects(), change()].concat()
}

/// The new one serves, what is left is named, and goes as soon as the kernel lets it.
#[test]
fn what_cannot_be_removed_is_named_and_tried_again() {
    for ([old, new], kind) in BOTH_WAYS.into_iter().zip([OpKind::DeleteChain, OpKind::Nft]) {
        let mut driver = left_by(old, XtFlavour::Nft);
        let matcher = OpMatcher::kind(kind);
        driver.kernel.fail_every(matcher, OpErrorClass::Busy);
        driver.restart(on(new), objects());
        let status = driver.status().expect("a status");
        assert!(!status.in_sync && !status.degraded.is_empty(), "{status:?}");
        let served = held(&driver.kernel);
        assert!(served.nft.is_some() && !served.xtables.is_empty(), "both are there");
        driver.kernel.clear_faults();
        driver.advance(60_000);
        assert_in_sync(&driver);
        assert_eq!(rules_of(&driver), fresh(new, XtFlavour::Nft, objects()));
    }
}

#[test]
fn a_clean_up_takes_what_every_backend_left() {
    for [old, new] in BOTH_WAYS {
        let before = kernel(XtFlavour::Nft);
        let surroundings = Surroundings::of(&before);
        let mut reference = left_by(old, XtFlavour::Nft);
        let start = reference.clone();
        reference.restart(on(new), objects());
        for n in crash_points(&reference) {
            let mut driver = crashed(&start, new, n);
            driver.kernel.recover();
            let mut second = Driver::new(on(new), driver.kernel);
            second.clean_up();
            assert_clean(&second.kernel, &surroundings);
        }
    }
}
