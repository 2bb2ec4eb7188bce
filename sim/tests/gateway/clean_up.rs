//! Clean-up restores what was there before (T16, P10).

use smartnat_core::gateway::{EventKind, Input, Output};
use smartnat_core::model::Family;
use smartnat_core::objects::{SysctlKey, XtTable, XtTableId};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_sim::Driver;
use smartnat_sim::kernel::{OpKind, OpMatcher, XtFlavour};

use crate::common::*;
use crate::connections::Client;

#[test]
fn clean_up_restores_what_was_there() {
    on_both_backends(|| {
        for flavour in [XtFlavour::Nft, XtFlavour::Legacy] {
            for fresh in [bare_kernel(flavour), kernel(flavour)] {
                let before = Surroundings::of(&fresh);
                let mut driver = started_on(fresh, objects());
                assert_in_sync(&driver);
                assert_ne!(Surroundings::of(&driver.kernel), before, "sysctls are changed");
                driver.clean_up();
                assert_clean(&driver.kernel, &before);
                assert_eq!(
                    count(driver.events(), EventKind::CleanedUp),
                    1,
                    "{:?}",
                    driver.events()
                );
                assert!(driver.kernel.trespasses().is_empty(), "{:?}", driver.kernel.trespasses());
            }
        }
    });
}

/// T16: connections end too, and the sets that would hold their packets back are gone by then.
#[test]
fn clean_up_ends_what_was_translated() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
        Client::udp().unmasqueraded().connect(&mut driver.kernel, "10.1.0.8");
        driver.clean_up();
        assert!(driver.kernel.conntrack().is_empty());
        let events = driver.take_events();
        assert_eq!(count(&events, EventKind::CleanedUp), 1, "{events:?}");
        assert_eq!(count(&events, EventKind::KernelError), 0, "{events:?}");
    });
}

/// `smartnat cleanup`: a new program that knows neither cluster nor host.
#[test]
fn clean_up_needs_no_wishes() {
    on_both_backends(|| {
        let fresh = kernel(XtFlavour::Nft);
        let before = Surroundings::of(&fresh);
        let left = started_on(fresh, objects()).kernel;
        let mut driver = Driver::new(config(), left);
        driver.clean_up();
        assert_clean(&driver.kernel, &before);
        assert_eq!(count(driver.events(), EventKind::CleanedUp), 1, "{:?}", driver.events());
    });
}

/// P10: a Mapping that vanished while no gateway ran leaves nothing behind.
#[test]
fn a_mapping_that_vanished_meanwhile_leaves_nothing() {
    on_both_backends(|| {
        let mut reference = started_on(kernel(XtFlavour::Nft), Vec::new());
        let mut driver = settled(XtFlavour::Nft);
        driver.restart(config(), Vec::new());
        assert_in_sync(&driver);
        assert_eq!(held(&driver.kernel), held(&reference.kernel));
        // And without uplinks nothing at all is left.
        for driver in [&mut driver, &mut reference] {
            let nothing =
                smartnat_core::model::GatewayConfig { uplink_pattern: String::new(), ..config() };
            driver.restart(nothing, Vec::new());
            assert_clean(&driver.kernel, &Surroundings::of(&kernel(XtFlavour::Nft)));
        }
    });
}

/// T16: what others changed since stays as they want it.
#[test]
fn what_others_use_by_now_stays() {
    on_both_backends(|| {
        let mut driver = started_on(bare_kernel(XtFlavour::Nft), objects());
        let rp_filter = SysctlKey::ReversePathFilter("ext1".into());
        driver.gateway.handle_input(driver.kernel.now(), Input::CleanUp);
        driver.kernel.write_sysctl(&rp_filter, "0").expect("it exists");
        driver.kernel.write_sysctl(&SysctlKey::MarkReflect(Family::V4), "3").expect("it exists");
        let nat = XtTableId { family: Family::V4, table: XtTable::Nat };
        driver.kernel.foreign_append(nat, "PREROUTING", &stray_rule());
        run(&mut driver.gateway, &mut driver.kernel, |_| {});
        assert_eq!(driver.kernel.sysctl(&rp_filter).as_deref(), Some("0"));
        assert_eq!(driver.kernel.sysctl(&SysctlKey::MarkReflect(Family::V4)).as_deref(), Some("3"));
        let chain = driver.kernel.xtables().table(nat).and_then(|t| t.builtin(HOOKS[0]));
        assert_eq!(chain.expect("others' chain stays").rules.as_slice(), [stray_rule()]);
        assert!(held(&driver.kernel).xtables.is_empty());
    });
}

/// T16: forwarding stays on where others need it, and a message says for whom.
#[test]
fn forwarding_that_others_need_stays_on() {
    on_both_backends(|| {
        for family in Family::ALL {
            let fresh = bare_kernel(XtFlavour::Nft);
            let before = Surroundings::of(&fresh);
            let mut driver = started_on(fresh, objects());
            driver.forwarding_needed([(family, vec!["MASQUERADE of a test".into()])].into());
            driver.clean_up();
            let forwarding = SysctlKey::Forwarding(family);
            assert_eq!(driver.kernel.sysctl(&forwarding).as_deref(), Some("1"));
            let events = driver.take_events();
            assert_eq!(count(&events, EventKind::CleanedUp), 1, "{events:?}");
            let kept: Vec<_> =
                events.iter().filter(|event| event.kind == EventKind::ForwardingKept).collect();
            let [kept] = kept.as_slice() else { panic!("{events:?}") };
            assert!(kept.message.contains(&family.to_string()), "{kept:?}");
            assert!(kept.message.contains("MASQUERADE of a test"), "{kept:?}");
            // With IPv6 forwarding on, router advertisements count where accept_ra is 2 only.
            for interface in ["ext1", "ext2", "int0"] {
                let key = SysctlKey::AcceptRouterAdvertisements(interface.into());
                let accept = if family == Family::V6 { "2" } else { "1" };
                assert_eq!(driver.kernel.sysctl(&key).as_deref(), Some(accept), "{key} {family}");
                driver.kernel.write_sysctl(&key, "1").expect("it exists");
            }
            // Nothing else stays, and nothing of ours remembers it.
            driver.kernel.write_sysctl(&forwarding, "0").expect("it exists");
            assert_clean(&driver.kernel, &before);
        }
    });
}

/// Forwarding that was on before us is none of our business, needed or not.
#[test]
fn forwarding_that_was_on_before_stays_without_a_word() {
    on_both_backends(|| {
        let mut fresh = bare_kernel(XtFlavour::Nft);
        for family in Family::ALL {
            fresh.write_sysctl(&SysctlKey::Forwarding(family), "1").expect("it exists");
        }
        let before = Surroundings::of(&fresh);
        let mut driver = started_on(fresh, objects());
        driver.forwarding_needed(Family::ALL.map(|family| (family, Vec::new())).into());
        driver.clean_up();
        assert_clean(&driver.kernel, &before);
        assert_eq!(count(driver.events(), EventKind::ForwardingKept), 0, "{:?}", driver.events());
    });
}

/// The same when the last uplink goes while the gateway runs, until others no longer need it.
#[test]
fn the_last_uplink_takes_forwarding_along_unless_others_need_it() {
    on_both_backends(|| {
        let forwarding = SysctlKey::Forwarding(Family::V4);
        for needed in [false, true] {
            let mut driver = started_on(bare_kernel(XtFlavour::Nft), objects());
            if needed {
                driver.forwarding_needed([(Family::V4, vec!["bridge br0".into()])].into());
            }
            driver.take_events();
            for link in ["ext1", "ext2"] {
                driver.kernel.remove_link(link);
            }
            driver.host_changed();
            assert_eq!(
                driver.kernel.sysctl(&forwarding).as_deref(),
                Some(if needed { "1" } else { "0" })
            );
            assert_eq!(count(driver.events(), EventKind::ForwardingKept), usize::from(needed));
            assert_eq!(
                driver.kernel.sysctl(&SysctlKey::Forwarding(Family::V6)).as_deref(),
                Some("0")
            );
        }
    });
}

/// A refusal on the way neither switches it off after all nor tells it twice.
#[test]
fn kept_forwarding_survives_every_single_failure() {
    on_both_backends(|| {
        let running = started_on(bare_kernel(XtFlavour::Nft), objects());
        let needed = || Family::ALL.map(|family| (family, vec!["bridge br0".to_owned()])).into();
        let total = {
            let mut driver = running.clone();
            let ops = driver.kernel.applied_ops();
            driver.forwarding_needed(needed());
            driver.clean_up();
            driver.kernel.applied_ops() - ops
        };
        for n in 1..=total {
            let mut driver = running.clone();
            driver.take_events();
            driver.forwarding_needed(needed());
            driver.kernel.fail_nth(n, OpErrorClass::Transient);
            driver.clean_up();
            let advertisements = SysctlKey::AcceptRouterAdvertisements("int0".into());
            assert_eq!(
                driver.kernel.sysctl(&advertisements).as_deref(),
                Some("2"),
                "operation {n}"
            );
            for family in Family::ALL {
                let value = driver.kernel.sysctl(&SysctlKey::Forwarding(family));
                assert_eq!(value.as_deref(), Some("1"), "operation {n}");
            }
            let events = driver.take_events();
            assert_eq!(count(&events, EventKind::ForwardingKept), 2, "operation {n}: {events:?}");
            assert_eq!(count(&events, EventKind::CleanedUp), 1, "operation {n}: {events:?}");
        }
    });
}

/// T16: past a failure, and all of them are reported.
#[test]
fn clean_up_goes_on_past_failures_and_reports_them() {
    on_both_backends(|| {
        let fresh = kernel(XtFlavour::Nft);
        let before = Surroundings::of(&fresh);
        let mut driver = started_on(fresh, objects());
        driver.take_events();
        driver.kernel.fail_every(OpMatcher::kind(OpKind::DeleteRoute), OpErrorClass::Denied);
        driver
            .kernel
            .fail_every(OpMatcher::named("sysctl net/ipv4/ip_forward"), OpErrorClass::Denied);
        driver.clean_up();
        let left = held(&driver.kernel);
        assert!(left.xtables.is_empty() && left.sets.is_empty(), "the rest is gone: {left:?}");
        assert!(!left.routes.is_empty());
        let events = driver.take_events();
        assert_eq!(count(&events, EventKind::CleanUpIncomplete), 1, "{events:?}");
        assert_eq!(count(&events, EventKind::CleanedUp), 0, "{events:?}");
        let text =
            &events.iter().find(|e| e.kind == EventKind::CleanUpIncomplete).expect("it").message;
        assert!(text.contains("route") && text.contains("ip_forward"), "{text}");

        driver.kernel.clear_faults();
        driver.clean_up();
        assert_clean(&driver.kernel, &before);
        assert_eq!(count(driver.events(), EventKind::CleanedUp), 1, "{:?}", driver.events());
    });
}

/// A built-in chain that still held our jump when it was to go, goes once it is empty.
#[test]
fn a_built_in_chain_goes_after_a_jump_that_could_not() {
    let fresh = bare_kernel(XtFlavour::Nft);
    let before = Surroundings::of(&fresh);
    let mut driver = started_on(fresh, objects());
    driver.kernel.fail_every(OpMatcher::kind(OpKind::DeleteJump), OpErrorClass::Invalid);
    driver.clean_up();
    assert_eq!(count(&driver.take_events(), EventKind::CleanUpIncomplete), 1);
    assert!(!held(&driver.kernel).xtables.is_empty());
    driver.kernel.clear_faults();
    driver.clean_up();
    assert_clean(&driver.kernel, &before);
    assert_eq!(count(driver.events(), EventKind::CleanedUp), 1, "{:?}", driver.events());
}

/// A single failure of any operation does not keep it from its end, and reads are tried again.
#[test]
fn clean_up_survives_every_single_failure() {
    on_both_backends(|| {
        let fresh = kernel(XtFlavour::Nft);
        let before = Surroundings::of(&fresh);
        let mut running = started_on(fresh, objects());
        Client::allowed().connect(&mut running.kernel, "10.1.0.7");
        let total = {
            let mut driver = running.clone();
            let ops = driver.kernel.applied_ops();
            driver.clean_up();
            driver.kernel.applied_ops() - ops
        };
        for n in 1..=total {
            let mut driver = running.clone();
            driver.kernel.fail_nth(n, OpErrorClass::Transient);
            driver.clean_up();
            assert_clean(&driver.kernel, &before);
            assert!(driver.kernel.conntrack().is_empty(), "failure of operation {n}");
            assert_eq!(
                count(driver.events(), EventKind::CleanedUp),
                1,
                "operation {n}: {:?}",
                driver.events()
            );
        }
        let mut driver = running;
        driver.kernel.fail_reads(1, OpErrorClass::Transient);
        driver.clean_up();
        assert_clean(&driver.kernel, &before);
    });
}

/// Connections that can't be listed are no reason to leave the rest.
#[test]
fn clean_up_without_conntrack_removes_the_rest() {
    on_both_backends(|| {
        let fresh = kernel(XtFlavour::Nft);
        let before = Surroundings::of(&fresh);
        let mut driver = started_on(fresh, objects());
        driver.gateway.handle_input(driver.kernel.now(), Input::CleanUp);
        let mut told = Vec::new();
        while let Some(output) = driver.gateway.poll_output() {
            if matches!(output, Output::ListFlows(_)) {
                let error = OpError::new(OpErrorClass::Denied, "conntrack", "no such module");
                driver.gateway.handle_input(driver.kernel.now(), Input::Flows(Err(error)));
            } else {
                answer(&mut driver.gateway, &mut driver.kernel, &output, |_| {});
            }
            told.extend(if let Output::Event(event) = output { Some(event) } else { None });
        }
        assert_clean(&driver.kernel, &before);
        assert_eq!(count(&told, EventKind::CleanedUp), 0, "{told:?}");
        let incomplete = told.iter().find(|e| e.kind == EventKind::CleanUpIncomplete);
        assert!(incomplete.is_some_and(|e| e.message.contains("conntrack")), "{told:?}");
    });
}

/// The end is told once, and nothing brings the rules back.
#[test]
fn there_is_no_way_back() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        driver.clean_up();
        assert_eq!(count(&driver.take_events(), EventKind::CleanedUp), 1);
        let ops = driver.kernel.applied_ops();
        driver.kernel_changed();
        driver.cluster(objects());
        driver.kernel.remove_link("ext2");
        driver.host_changed();
        driver.advance(600_000);
        assert_eq!(driver.kernel.applied_ops(), ops);
        assert!(driver.events().is_empty(), "{:?}", driver.events());
        assert_eq!(driver.gateway.poll_timeout(), None);
    });
}
