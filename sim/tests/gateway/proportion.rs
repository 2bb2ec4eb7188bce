//! Work is proportional to the change: however many Mappings there are, a change of one asks the
//! kernel for the same, and what is told of the others is not made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use smartnat_core::model::{Backend, ClusterObject, ObjectKey, Protocol};
use smartnat_core::status::MappingStatus;
use smartnat_sim::Driver;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service, without_mapping, without_service};

use crate::common::*;

/// Mappings beside the one that changes, on another address.
const OTHERS: [u16; 2] = [1, 200];

fn served(pods: [&str; 2], source: &str) -> Vec<ClusterObject> {
    let echo = service("one").port("http", Protocol::Tcp, 80, 8080);
    let mut objects = pods.iter().fold(echo, |echo, pod| echo.ready(pod)).build();
    objects.push(mapping("one").created(1).address(EXT2).source(source).tcp(80).build());
    objects
}

fn other(number: u16) -> Vec<ClusterObject> {
    let name = format!("other{number}");
    let (port, pod) = (10_000 + number, format!("10.1.{}.{}", 1 + number / 250, 1 + number % 250));
    let mut objects = service(&name).port("http", Protocol::Tcp, port, 8080).ready(&pod).build();
    objects.push(mapping(&name).created(1).address(EXT1).source("192.0.2.0/24").tcp(port).build());
    objects
}

type Statuses = BTreeMap<ObjectKey, Arc<MappingStatus>>;

fn statuses(driver: &Driver) -> Statuses {
    let all = driver.status().expect("a status").mappings.clone();
    all.into_iter().filter(|(key, _)| key.name.starts_with("other")).collect()
}

/// The operations of each change in turn, beside so many others.
fn operations(others: u16) -> Vec<(&'static str, Vec<String>)> {
    let first = served(["10.1.0.1", "10.1.0.2"], "192.0.2.0/24");
    let gone = [vec![without_mapping("one")], without_service("one")].concat();
    let changes = [
        ("added", first.clone()),
        ("endpoint", served(["10.1.0.1", "10.1.0.3"], "192.0.2.0/24")),
        ("source", served(["10.1.0.1", "10.1.0.3"], "198.18.0.0/15")),
        ("no service", without_service("one")),
        ("deleted", gone),
    ];
    let mut driver = started_on(kernel(XtFlavour::Nft), (0..others).flat_map(other).collect());
    assert_in_sync(&driver);
    let before = statuses(&driver);
    assert_eq!(before.len(), usize::from(others));
    let asked = changes.map(|(what, objects)| {
        driver.kernel.take_log();
        driver.cluster(objects);
        assert_in_sync(&driver);
        (what, logged(&driver))
    });
    let after = statuses(&driver);
    for (key, status) in &before {
        assert!(Arc::ptr_eq(status, &after[key]), "{key} was compiled anew");
    }
    asked.into()
}

#[test]
fn a_change_asks_for_the_same_however_many_mappings_there_are() {
    on_both_backends(|| {
        let [few, many] = OTHERS.map(operations);
        assert_eq!(few, many);
        let counts: Vec<(&str, usize)> = few.iter().map(|(what, ops)| (*what, ops.len())).collect();
        let expected = match backend() {
            Backend::Nftables => [5, 2, 5, 5, 4],
            _ => [4, 1, 3, 2, 4],
        };
        let whats = ["added", "endpoint", "source", "no service", "deleted"];
        assert_eq!(counts, whats.into_iter().zip(expected).collect::<Vec<_>>());
    });
}
