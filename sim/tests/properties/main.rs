//! Properties of the gateway over generated clusters and histories on the simulated kernel.
//! `PROPTEST_CASES` says how many of them; regressions are kept in `tests/regressions`.

#[path = "../common/mod.rs"]
mod common;

mod history;
mod oracle;
mod packets;
mod world;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use common::*;
use history::{World, steps};
use smartnat_core::ops::Kernel as _;

/// Few by default: the five properties take three seconds then, in a debug build.
fn few() -> ProptestConfig {
    let regressions = FileFailurePersistence::Direct("tests/regressions/properties.txt");
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 64 };
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(regressions)),
        max_shrink_iters: 2_000,
        ..asked
    }
}

proptest! {
    #![proptest_config(few())]

    /// P6, P9, P11, P14, T10: whatever happened, once it is quiet the kernel holds what the
    /// snapshot asks for, a second look asks for nothing, and others' things are untouched.
    #[test]
    fn any_history_ends_where_a_fresh_start_would(steps in steps(1..14)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.come_to_rest();
        world.assert_as_asked();
        world.assert_quiet();
        world.assert_connections();
        world.assert_fates();
        world.assert_foreign_untouched();
    }

    /// P10: when all is deleted, or cleaned up, nothing is left and the rest is as without us.
    #[test]
    fn any_history_can_be_undone(steps in steps(1..10), vanished in any::<bool>()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        if vanished {
            // All Mappings are gone when the next gateway looks.
            world.forget_cluster();
            world.come_to_rest();
            world.assert_as_asked();
        }
        world.clean_up();
        world.assert_gone();
    }

    /// P8: the order of events makes no difference.
    #[test]
    fn the_order_of_events_makes_no_difference(
        (objects, shuffled) in world::cluster().prop_flat_map(|objects| {
            (Just(objects.clone()), Just(objects).prop_shuffle())
        })
    ) {
        let kernel = kernel(smartnat_sim::kernel::XtFlavour::Nft);
        let reference = started_on(kernel.clone(), objects);
        let mut driver = started_on(kernel, Vec::new());
        for object in shuffled {
            driver.cluster(vec![object]);
        }
        prop_assert_eq!(held(&driver.kernel), held(&reference.kernel));
        prop_assert_eq!(driver.status(), reference.status());
    }

    /// P12: a crash at any point of any change, and recovery from observation alone.
    #[test]
    fn a_crash_makes_no_difference(
        before in world::cluster(),
        after in world::cluster(),
        point in 0..60_u64,
    ) {
        let kernel = kernel(smartnat_sim::kernel::XtFlavour::Nft);
        let objects = [before.clone(), after.clone()].concat();
        let mut reference = started_on(kernel.clone(), before.clone());
        reference.cluster(after.clone());
        let mut driver = started_on(kernel, before);
        driver.kernel.crash_after(point);
        driver.cluster(after);
        driver.restart(config(), objects);
        prop_assert_eq!(held(&driver.kernel), held(&reference.kernel));
        prop_assert_eq!(driver.status(), reference.status());
        let scope = scope(&driver.kernel);
        prop_assert!(driver.kernel.observe(&scope).is_ok(), "the crash is over");
    }

    /// P13: at any point of any change a first packet meets the old or the new fate.
    #[test]
    fn every_prefix_of_a_change_shows_the_old_or_the_new(
        before in world::cluster(),
        after in world::cluster(),
    ) {
        let mut driver = started_on(kernel(smartnat_sim::kernel::XtFlavour::Nft), before);
        let old = oracle::all_fates(&driver.kernel);
        let mut reference = driver.clone();
        reference.cluster(after.clone());
        let new = oracle::all_fates(&reference.kernel);
        let input = smartnat_core::gateway::Input::Cluster(after);
        driver.gateway.handle_input(driver.kernel.now(), input);
        run(&mut driver.gateway, &mut driver.kernel, |kernel| {
            for (packet, now) in oracle::all_fates(kernel) {
                assert!(now == old[&packet] || now == new[&packet], "{packet:?}: {now:?}");
            }
        });
        prop_assert_eq!(held(&driver.kernel), held(&reference.kernel));
    }
}

proptest! {
    // Each case walks some 500 packets, each through a host of its own.
    #![proptest_config(ProptestConfig { cases: few().cases.div_ceil(4), ..few() })]

    /// P1, P2, P4: packets go where the contract says, and nowhere else.
    #[test]
    fn the_packet_walk_does_what_the_oracle_says(objects in world::cluster()) {
        packets::assert_the_walk_does_what_the_oracle_says(&objects);
    }
}
