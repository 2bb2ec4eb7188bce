//! P3, P8: the order of events makes no difference.

use std::collections::BTreeSet;

use proptest::prelude::*;
use smartnat_core::model::{ClusterObject, ObjectKey};
use smartnat_core::status::reason;
use smartnat_sim::Driver;
use smartnat_sim::oracle::owning_mappings;
use smartnat_sim::scenario::without_mapping;

use crate::cases;
use crate::common::{cluster as fold, held};
use crate::objects::{MAPPINGS, a_mapping, cluster};
use crate::setup::setups;
use crate::story;

/// The Mappings that the gateway says are accepted.
fn accepted(driver: &Driver) -> BTreeSet<ObjectKey> {
    let status = driver.gateway.status().expect("a status");
    let is_accepted = |conditions: &[smartnat_core::status::Condition]| {
        conditions.iter().any(|c| c.kind == reason::ACCEPTED && c.status)
    };
    let accepted = status.mappings.iter().filter(|(_, m)| is_accepted(&m.conditions));
    accepted.map(|(key, _)| key.clone()).collect()
}

proptest! {
    #![proptest_config(cases(1))]

    /// P3 (T19): one owner, whatever the order in which Mappings come, change and go.
    #[test]
    fn p03_one_owner_independent_of_order(
        setup in setups(),
        (events, order) in prop::collection::vec(event(), 1..10).prop_flat_map(|events| {
            (Just(events.clone()), Just(events).prop_shuffle())
        }),
    ) {
        for events in [events, order] {
            let mut driver = Driver::new(setup.config(), setup.kernel());
            driver.start(Vec::new());
            for event in &events {
                driver.cluster(vec![event.clone()]);
            }
            let expected = owning_mappings(&fold(&events), &setup.config());
            prop_assert_eq!(accepted(&driver), expected, "{}", sentences(&events));
        }
    }

    /// P3, P8: the same objects in any order, one by one or at once, lead to the same bytes.
    #[test]
    fn p08_permuted_events_lead_to_the_same_bytes(
        setup in setups(),
        (objects, shuffled) in cluster().prop_flat_map(|objects| {
            (Just(objects.clone()), Just(objects).prop_shuffle())
        })
    ) {
        let mut reference = Driver::new(setup.config(), setup.kernel());
        reference.start(objects);
        let mut driver = Driver::new(setup.config(), setup.kernel());
        driver.start(Vec::new());
        for object in &shuffled {
            driver.cluster(vec![object.clone()]);
        }
        let (got, expected) = (held(&driver.kernel), held(&reference.kernel));
        prop_assert_eq!(got, expected, "{}", sentences(&shuffled));
        prop_assert_eq!(driver.gateway.status(), reference.gateway.status());
        prop_assert_eq!(accepted(&driver), owning_mappings(&fold(&shuffled), &setup.config()));
    }
}

fn event() -> impl Strategy<Value = ClusterObject> {
    prop_oneof![
        4 => a_mapping(),
        1 => (0..MAPPINGS).prop_map(|n| without_mapping(&format!("m{n}"))),
    ]
}

fn sentences(events: &[ClusterObject]) -> String {
    let mut known = BTreeSet::new();
    let sentences = events.iter().map(|e| story::cluster(std::slice::from_ref(e), &mut known));
    sentences.collect::<Vec<_>>().join("\n")
}
