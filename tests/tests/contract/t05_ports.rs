//! T5: by port, by named Service port, by range.

use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{ask, at, both_flavours, echo_service, first_network, pod, servers};
use smartnat_core::model::Family;

both_flavours!(ports_are_translated_by_number_by_name_and_by_range, |flavour| {
    let service = echo_service()
        .port("media", Protocol::Udp, 6000, 7000)
        .ready(&pod(1, Family::V4))
        .ready(&pod(1, Family::V6));
    let ports = mapping("echo")
        .address("198.51.100.10")
        .address("2001:db8:51::10")
        .port(Protocol::Tcp, 80, None, None)
        .port(Protocol::Tcp, 8000, None, Some("http"))
        // Not shifted against the pod's 7000, and shifted.
        .port(Protocol::Udp, 7000, Some(7002), Some("6000"))
        .port(Protocol::Udp, 3000, Some(3002), Some("media"));
    let objects = [service.build(), vec![ports.build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    let cases = [
        (Protocol::Tcp, 80),
        (Protocol::Tcp, 8000),
        (Protocol::Udp, 7000),
        (Protocol::Udp, 7001),
        (Protocol::Udp, 7002),
        (Protocol::Udp, 3000),
        (Protocol::Udp, 3002),
    ];
    for side in first_network() {
        for (protocol, port) in cases {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}/{port}: {outcome}");
        }
    }
});
