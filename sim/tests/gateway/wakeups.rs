//! Inputs at every point of a round: none is lost, none is taken for something else.

use smartnat_core::gateway::{EventKind, Gateway, Input, Output};
use smartnat_core::model::{EndpointSlice, Family, ObjectKey};
use smartnat_core::objects::SysctlKey;
use smartnat_core::ops::Kernel;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::{Driver, SimKernel};

use crate::common::*;
use crate::connections::Client;
use crate::crashes::change;

/// Where in a step something happens: before the kernel has done what was asked, or after it
/// has, but before the gateway knows.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Before,
    After,
}

/// A round for [`change`], with a connection to end, in which `happens` happens at step `at`.
/// `None` when the round has fewer steps.
fn interrupted(
    at: usize,
    moment: Moment,
    mut happens: impl FnMut(&mut Gateway, &mut SimKernel),
) -> Option<Driver> {
    let mut driver = settled(XtFlavour::Nft);
    Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
    let (gateway, kernel) = (&mut driver.gateway, &mut driver.kernel);
    gateway.handle_input(kernel.now(), Input::Cluster(change()));
    let mut steps = 0;
    while let Some(output) = gateway.poll_output() {
        steps += 1;
        assert!(steps < 1_000, "the gateway does not come to rest");
        if steps == at && matches!(moment, Moment::Before) {
            happens(gateway, kernel);
        }
        let answer = match &output {
            Output::Observe(scope) => Input::Observed(kernel.observe(scope).map(Box::new)),
            Output::Apply(transaction) => Input::Applied(kernel.apply(transaction)),
            Output::ListFlows(filter) => Input::Flows(kernel.flows(filter)),
            Output::Status(_) | Output::Event(_) => {
                if steps == at && matches!(moment, Moment::After) {
                    happens(gateway, kernel);
                }
                continue;
            }
        };
        if steps == at && matches!(moment, Moment::After) {
            happens(gateway, kernel);
        }
        gateway.handle_input(kernel.now(), answer);
    }
    (steps >= at).then_some(driver)
}

/// Calls `check` with a round that was interrupted, for every step and moment; returns how many.
fn at_every_point(
    mut happens: impl FnMut(&mut Gateway, &mut SimKernel),
    mut check: impl FnMut(Driver, String),
) {
    let mut rounds = 0;
    for at in 1.. {
        for moment in [Moment::Before, Moment::After] {
            let Some(driver) = interrupted(at, moment, &mut happens) else {
                assert!(rounds > 20, "a round has more steps than {rounds}");
                return;
            };
            rounds += 1;
            check(driver, format!("step {at}, {moment:?}"));
        }
    }
}

fn wanted() -> smartnat_core::objects::KernelState {
    let mut driver = settled(XtFlavour::Nft);
    driver.cluster(change());
    held(&driver.kernel)
}

fn in_sync(driver: &Driver) -> bool {
    driver.gateway.status().is_some_and(|s| s.in_sync)
}

/// A notification is acted on, whatever is under way: no time passes here.
#[test]
fn a_notification_is_never_lost() {
    on_both_backends(|| {
        let wanted = wanted();
        let happens = |gateway: &mut Gateway, kernel: &mut SimKernel| {
            flush_by_others(kernel);
            gateway.handle_input(kernel.now(), Input::KernelChanged);
        };
        at_every_point(happens, |driver, at| {
            assert_eq!(held(&driver.kernel), wanted, "{at}");
            assert!(in_sync(&driver), "{at}");
            assert!(driver.kernel.conntrack().is_empty(), "{at}");
        });
    });
}

/// A notification of nothing costs a look and no more.
#[test]
fn a_needless_notification_costs_no_operation() {
    on_both_backends(|| {
        let happens = |gateway: &mut Gateway, kernel: &mut SimKernel| {
            gateway.handle_input(kernel.now(), Input::KernelChanged);
            gateway.handle_input(kernel.now(), Input::Tick);
        };
        let ops = interrupted(usize::MAX, Moment::Before, |_, _| {});
        assert!(ops.is_none());
        let expected =
            interrupted(1, Moment::Before, |_, _| {}).expect("a step").kernel.applied_ops();
        at_every_point(happens, |driver, at| {
            assert_eq!(driver.kernel.applied_ops(), expected, "{at}");
            assert!(in_sync(&driver), "{at}");
        });
    });
}

/// A change of the cluster is in the kernel at the end of the round that it interrupted.
#[test]
fn a_change_of_the_cluster_is_never_lost() {
    on_both_backends(|| {
        let wanted = held(&settled(XtFlavour::Nft).kernel);
        let happens = |gateway: &mut Gateway, kernel: &mut SimKernel| {
            let mut back = objects();
            back.push(smartnat_sim::scenario::without_mapping("new"));
            gateway.handle_input(kernel.now(), Input::Cluster(back));
        };
        at_every_point(happens, |driver, at| {
            assert_eq!(held(&driver.kernel), wanted, "{at}");
            assert!(in_sync(&driver), "{at}");
            assert_eq!(driver.gateway.status().expect("a status").mappings.len(), 3, "{at}");
        });
    });
}

/// A link that vanishes takes its routes along in the middle of a round; one that comes brings
/// settings that were not read yet.
#[test]
fn a_change_of_the_host_is_never_lost() {
    on_both_backends(|| {
        let wanted = {
            let mut driver = settled(XtFlavour::Nft);
            driver.cluster(change());
            driver.kernel.remove_link("ext2");
            driver.host_changed();
            driver.kernel.add_link("ext3");
            driver.kernel.add_address("ext3", "198.18.5.1/24");
            driver.host_changed();
            assert_in_sync(&driver);
            held(&driver.kernel)
        };
        let happens = |gateway: &mut Gateway, kernel: &mut SimKernel| {
            kernel.remove_link("ext2");
            kernel.add_link("ext3");
            kernel.add_address("ext3", "198.18.5.1/24");
            gateway.handle_input(kernel.now(), Input::Host(kernel.host()));
        };
        at_every_point(happens, |mut driver, at| {
            // An operation may have met the link that was gone, and is tried again.
            driver.advance(1_000);
            assert!(in_sync(&driver), "{at}: {:#?}", driver.gateway.status());
            assert_eq!(held(&driver.kernel), wanted, "{at}");
        });
    });
}

/// Clean-up interrupts whatever is under way.
#[test]
fn clean_up_interrupts_any_round() {
    on_both_backends(|| {
        let surroundings = Surroundings::of(&kernel(XtFlavour::Nft));
        let happens = |gateway: &mut Gateway, kernel: &mut SimKernel| {
            gateway.handle_input(kernel.now(), Input::CleanUp);
        };
        at_every_point(happens, |driver, at| {
            assert_clean(&driver.kernel, &surroundings);
            assert!(driver.kernel.conntrack().is_empty(), "{at}");
            assert_eq!(driver.gateway.poll_timeout(), None, "{at}");
        });
    });
}

/// A notification that belongs to our own change must not look like drift.
#[test]
fn a_notification_of_our_own_change_is_no_drift() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        driver.gateway.handle_input(driver.kernel.now(), Input::Cluster(change()));
        let mut told = Vec::new();
        while let Some(output) = driver.gateway.poll_output() {
            answer(&mut driver.gateway, &mut driver.kernel, &output, |_| {});
            match output {
                Output::Apply(_) => {
                    driver.gateway.handle_input(driver.kernel.now(), Input::KernelChanged);
                }
                Output::Event(event) => told.push(event),
                _ => {}
            }
        }
        assert_eq!(count(&told, EventKind::DriftRepaired), 0, "{told:?}");
    });
}

/// T17: changes that need no look of their own do not put the next one off.
#[test]
fn a_stream_of_changes_does_not_put_off_the_next_look() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let wanted = held(&driver.kernel);
        let filter = SysctlKey::ReversePathFilter("ext2".into());
        driver.kernel.write_sysctl(&filter, "0").expect("it exists");
        for n in 0..5 {
            driver.advance(1_000);
            let unrelated = EndpointSlice {
                key: ObjectKey::new("elsewhere", format!("slice-{n}")),
                service_name: "unrelated".into(),
                family: Family::V4,
                ports: Vec::new(),
                endpoints: Vec::new(),
            };
            driver.cluster(vec![unrelated.into()]);
        }
        assert_eq!(held(&driver.kernel), wanted);
        assert_eq!(count(driver.events(), EventKind::DriftRepaired), 1, "{:?}", driver.events());
    });
}

/// An answer that nobody asked for is a defect of the driver and must not pass silently.
#[test]
#[should_panic(expected = "an answer to what was asked")]
fn an_answer_that_was_not_asked_for_is_refused() {
    let mut driver = settled(XtFlavour::Nft);
    driver.gateway.handle_input(driver.kernel.now(), Input::Applied(Ok(())));
}
