//! P9, P10, P11, P14: where a history ends.

use proptest::prelude::*;
use smartnat_core::model::ClusterObject;
use smartnat_core::objects::KernelState;
use smartnat_sim::Driver;
use smartnat_sim::scenario::without_mapping;

use crate::common::held;
use crate::objects::{a_mapping_named, cluster};
use crate::renumber::Renumbering;
use crate::setup::setups;
use crate::story::{Step, Story, stories};
use crate::world::{World, numbers};
use crate::{cases, told};

proptest! {
    #![proptest_config(cases(1))]

    /// P9, P11, T10: any history ends where a fresh start on the same host would, up to the
    /// numbers of uplinks, and others' things are untouched.
    #[test]
    fn p09_any_history_equals_a_fresh_build(story in stories(1..14)) {
        told(&story, || {
            let mut world = World::after_in_silence(&story);
            world.come_to_rest()?;
            world.assert_as_asked();
            let mut fresh = Driver::new(world.config(), world.untouched.clone());
            fresh.start(world.objects.clone());
            let [old, new] = [&world.driver.kernel, &fresh.kernel];
            let [from, to] = [old, new].map(|kernel| numbers(kernel, &world.config()));
            let renumbered = Renumbering::new(&world.config(), &from, &to).of(held(old));
            assert_eq!(comparable(renumbered), comparable(held(new)), "P9");
            Ok(())
        })?;
    }

    /// P10: after any history clean-up leaves the host as if we had never been there, also when
    /// some or all Mappings vanish while the program is down.
    #[test]
    fn p10_any_history_can_be_undone(story in stories(1..12), vanish in any::<u8>()) {
        told(&story, || {
            let mut world = World::after_in_silence(&story);
            if vanish > 0 {
                let left = without_some_mappings(&world.objects, vanish);
                world.restart_with(left);
                world.come_to_rest()?;
                world.assert_as_asked();
            }
            world.clean_up();
            world.assert_gone();
            Ok(())
        })?;
    }

    /// P10: a Mapping that comes and goes leaves the kernel as it was, also when it goes while
    /// the program is down.
    #[test]
    fn p10_deletion_restores_the_prior_state(
        setup in setups(),
        before in cluster(),
        added in a_mapping_named("m9"),
        while_down in any::<bool>(),
    ) {
        let steps = vec![Step::Cluster(before.clone()), Step::Cluster(vec![added])];
        let story = Story { setup, steps, seed: 7 };
        told(&story, || {
            let first = Story { steps: story.steps[..1].to_vec(), ..story.clone() };
            let prior = held(&World::after_in_silence(&first).driver.kernel);
            let mut world = World::after(&story)?;
            if while_down {
                world.restart_with(before);
            } else {
                world.driver.cluster(vec![without_mapping("m9")]);
            }
            assert_eq!(held(&world.driver.kernel), prior, "P10: gone while down: {while_down}");
            Ok(())
        })?;
    }

    /// P11 (T14): whatever happens, and after clean-up, nothing of others is modified.
    #[test]
    fn p11_foreign_objects_are_never_modified(story in stories(1..14)) {
        told(&story, || {
            let mut setup = story.setup.clone();
            setup.others = true;
            let mut world = World::new(&setup, story.seed);
            for step in &story.steps {
                world.happen(step);
                world.assert_foreign_untouched();
            }
            world.come_to_rest()?;
            world.assert_foreign_untouched();
            world.clean_up();
            world.assert_foreign_untouched();
            Ok(())
        })?;
    }

    /// P14: once faults stop and nothing changes any more, the gateway converges in a bounded
    /// number of rounds, and then there are no operations.
    #[test]
    fn p14_convergence_then_silence(story in stories(1..14)) {
        told(&story, || {
            let mut world = World::after(&story)?;
            world.come_to_rest()?;
            world.assert_as_asked();
            world.assert_connections()?;
            world.judge()?;
            world.assert_quiet();
            Ok(())
        })?;
    }
}

/// Tables that hold nothing of ours are none, and how a sysctl was before is each host's own.
fn comparable(mut state: KernelState) -> KernelState {
    state.contested.clear();
    state.xtables.retain(|_, table| !table.is_empty());
    for table in state.xtables.values_mut() {
        table.created_builtins.clear();
    }
    for sysctl in state.sysctls.values_mut() {
        sysctl.original = None;
    }
    state
}

/// The n-th Mapping vanishes where the n-th bit is set.
fn without_some_mappings(objects: &[ClusterObject], vanish: u8) -> Vec<ClusterObject> {
    let vanishes =
        |name: &str| (0..8).any(|n| vanish & (1 << n) != 0 && name == format!("m{}", n % 4));
    let stays = |object: &&ClusterObject| match object {
        ClusterObject::Mapping(m) => !vanishes(&m.key.name),
        _ => true,
    };
    objects.iter().filter(stays).cloned().collect()
}
