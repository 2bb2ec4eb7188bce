//! T8: new connections spread evenly; a client with affinity stays.

use std::collections::BTreeMap;

use smartnat_core::model::{Family, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{ask, at, both_flavours, echo_on, echo_service, first_network, pod, servers};

/// Enough that an even spread over three stays within the bounds below except once in 10^9 runs.
const CONNECTIONS: usize = 150;

both_flavours!(connections_spread_over_all_ready_pods, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [echo_on(&[1, 2, 3]), vec![all.tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..CONNECTIONS {
            let to = at(side.external, 8080);
            let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
            *served.entry(outcome.server().expect("an answer").to_owned()).or_default() += 1;
        }
        assert_eq!(served.len(), 3, "{side:?}: {served:?}");
        assert!(served.values().all(|n| (17..=83).contains(n)), "{side:?}: {served:?}");
    }
});

both_flavours!(a_client_with_affinity_stays_with_its_pod, |flavour| {
    let service = (1..=3).fold(echo_service().affinity(600), |s, n| {
        s.ready(&pod(n, Family::V4)).ready(&pod(n, Family::V6))
    });
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [service.build(), vec![all.tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        let to = at(side.external, 8080);
        let serve = || {
            let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
            outcome.server().expect("an answer").to_owned()
        };
        let first = serve();
        for _ in 0..20 {
            assert_eq!(serve(), first, "{side:?}");
        }
    }
});
