//! T2: from any other source it is dropped silently, and never reaches a socket of the host.

use smartnat_core::model::GatewayConfig;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{SIDES, USUAL, at, echo_on, ip, on_all_sides, serve_in_pods};

on_both_arms!(a_refused_client_hears_nothing_and_the_host_neither, |arms| {
    let all = SIDES.iter().fold(on_all_sides("echo"), |m, s| m.source(s.source));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).udp(5353).build()]].concat();
    // Without the guard, so that nothing else can drop what must be dropped here.
    let config = GatewayConfig { guard: false, ..config() };
    let mut arm = arms.start(&standard(StandardOptions::default()), config, objects);
    serve_in_pods(&mut arm);
    arm.serve("gateway", "host", &SIDES.map(|s| ip(s.external)), &USUAL);
    let mut refused = Vec::new();
    for side in SIDES {
        for (protocol, port) in USUAL {
            let to = at(side.external, port);
            let allowed = arm.ask((protocol, side.client, side.source, to));
            assert_eq!(allowed.server(), Some("pod1"), "{side:?} {protocol}: {allowed}");
            refused.push((protocol, side.client, side.refused, to));
        }
    }
    arm.assert_silence(&refused);
    assert_eq!(arm.deliveries("host"), 0, "a socket of the host was reached");
});
