//! P9: what a change does not touch need not be looked at.

use std::sync::Arc;

use proptest::prelude::*;
use smartnat_core::gateway::{Gateway, Input};
use smartnat_core::model::{ClusterObject, EndpointSlice, Mapping, ObjectKind, Service};
use smartnat_sim::scenario::without_mapping;
use smartnat_sim::walk::Random;

use crate::common::{EXT1, EXT1_B, EXT1_V6, EXT2, EXT2_V6, ip, step};
use crate::objects::{MAPPINGS, SERVICES, a_mapping, a_service, cluster};
use crate::setup::setups;
use crate::story::{Step, Story, stories};
use crate::world::World;
use crate::{cases, told};

/// Answers within which the next change may come, before a gateway is done with the last one.
const HURRY: u64 = 8;

/// A cluster that serves and then changes a lot, on a host where nothing else happens.
fn busy_clusters() -> impl Strategy<Value = Story> {
    let change = prop_oneof![
        3 => a_mapping().prop_map(|mapping| vec![mapping]),
        3 => a_service(),
        2 => a_rare_change().prop_map(|object| vec![object]),
        1 => (a_mapping(), a_service(), a_rare_change())
            .prop_map(|(m, s, rare)| [vec![m], s, vec![rare]].concat()),
        1 => cluster(),
    ];
    let changes = prop::collection::vec(change.prop_map(Step::Cluster), 4..24);
    (setups(), cluster(), changes, any::<u16>()).prop_map(|(setup, first, changes, seed)| {
        let steps = [vec![Step::Cluster(first)], changes].concat();
        Story { setup, steps, seed: seed.into() }
    })
}

/// What a cluster does at times: a Mapping that is being deleted or is gone, a Service of another
/// kind, a slice that goes alone or to another Service, addresses that are published.
fn a_rare_change() -> impl Strategy<Value = ClusterObject> {
    let deleting = a_mapping().prop_map(|object| match object {
        ClusterObject::Mapping(mapping) => {
            Mapping { deleting: true, ..Arc::unwrap_or_clone(mapping) }.into()
        }
        other => other,
    });
    let external = a_service().prop_map(|mut objects| match objects.swap_remove(0) {
        ClusterObject::Service(service) => {
            Service { external_name: true, ..Arc::unwrap_or_clone(service) }.into()
        }
        other => other,
    });
    let slice = (a_service(), any::<bool>(), any::<bool>(), 0..SERVICES).prop_map(
        |(mut objects, first, gone, to)| match objects.swap_remove(usize::from(first) + 1) {
            ClusterObject::EndpointSlice(slice) if gone => {
                ClusterObject::Deleted(ObjectKind::EndpointSlice, slice.key.clone())
            }
            ClusterObject::EndpointSlice(slice) => EndpointSlice {
                service_name: format!("s{to}").into(),
                ..Arc::unwrap_or_clone(slice)
            }
            .into(),
            other => other,
        },
    );
    let published =
        proptest::sample::subsequence(vec![EXT1, EXT1_B, EXT1_V6, EXT2, EXT2_V6], 3..=5).prop_map(
            |addresses| ClusterObject::Published(addresses.into_iter().map(ip).collect()),
        );
    prop_oneof![
        2 => deleting,
        2 => (0..MAPPINGS).prop_map(|n| without_mapping(&format!("m{n}"))),
        1 => external,
        4 => slice,
        1 => published,
    ]
}

proptest! {
    #![proptest_config(cases(1))]

    /// P9: a gateway that recompiles what a change touches does at every step of any history what
    /// one does that recomputes everything: the same dataplane, objects, transactions, status and
    /// events.
    #[test]
    fn p09_work_on_what_changed_equals_work_on_everything(story in stories(1..20)) {
        told(&story, || Twins::new(&story).live_through(&story))?;
    }

    /// P9, with nothing but changes of the cluster.
    #[test]
    fn p09_also_where_little_else_happens(story in busy_clusters()) {
        told(&story, || Twins::new(&story).live_through(&story))?;
    }
}

/// The same history of a gateway and of one that recomputes everything.
struct Twins([World; 2]);

impl Twins {
    fn new(story: &Story) -> Self {
        let mut twins = Self([0, 1].map(|_| World::new(&story.setup, story.seed)));
        twins.restart();
        twins
    }

    fn restart(&mut self) {
        for (world, new) in self.0.iter_mut().zip([Gateway::new, Gateway::reference]) {
            world.driver.kernel.recover();
            world.driver.gateway = new(world.config());
            world.driver.start(world.objects.clone());
        }
    }

    fn live_through(mut self, story: &Story) -> Result<(), String> {
        let mut random = Random::new(story.seed);
        self.compare()?;
        for (number, what) in story.steps.iter().enumerate() {
            let at = |difference| format!("After sentence {}: {difference}", number + 2);
            match what {
                Step::Connect(_) => {}
                Step::Restart => self.restart(),
                Step::Cluster(_) if random.next_64().is_multiple_of(3) => {
                    self.hurry(what, random.next_64() % HURRY).map_err(at)?;
                }
                _ => self.0.iter_mut().for_each(|world| world.happen(what)),
            }
            self.compare().map_err(at)?;
        }
        Ok(())
    }

    /// A change, and so many answers of the kernel.
    fn hurry(&mut self, change: &Step, answers: u64) -> Result<(), String> {
        let Step::Cluster(objects) = change else { return Ok(()) };
        let [outputs, reference] = self.0.each_mut().map(|world| {
            world.objects.extend(objects.iter().cloned());
            let now = world.driver.kernel.now();
            let (gateway, kernel) = (&mut world.driver.gateway, &mut world.driver.kernel);
            gateway.handle_input(now, Input::Cluster(objects.clone()));
            let outputs = (0..answers).map_while(|_| step(gateway, kernel, |_| ()));
            outputs.collect::<Vec<_>>()
        });
        same("outputs", &outputs, &reference)
    }

    fn compare(&mut self) -> Result<(), String> {
        let [left, right] = &mut self.0;
        same("operations", &left.driver.kernel.take_log(), &right.driver.kernel.take_log())?;
        same("events", &left.driver.take_events(), &right.driver.take_events())?;
        let [left, right] = [&left.driver, &right.driver];
        let [one, other] = [&left.gateway, &right.gateway];
        same("dataplane", &one.dataplane(), &other.dataplane())?;
        same("objects", &one.objects(), &other.objects())?;
        same("status", &one.status(), &other.status())?;
        same("timeout", &one.poll_timeout(), &other.poll_timeout())?;
        same("told status", &left.status(), &right.status())?;
        same("rest", &one.is_idle(), &other.is_idle())?;
        if left.kernel == right.kernel { Ok(()) } else { Err("another kernel".into()) }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, reference: &T) -> Result<(), String> {
    if one == reference {
        return Ok(());
    }
    Err(format!("other {what}: {one:#?}\ninstead of {reference:#?}"))
}
