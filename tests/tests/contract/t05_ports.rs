//! T5: by port, by named Service port, by range.

use smartnat_core::model::{Family, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{at, echo_service, first_network, pod, serve_in_pods};

on_both_arms!(ports_are_translated_by_number_by_name_and_by_range, |arms| {
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
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
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
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}/{port}: {outcome}");
        }
    }
});
