//! T6: nobody home is answered at once.

use smartnat::lab::traffic::Outcome;
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, at, both_flavours, echo_service};

both_flavours!(without_endpoints_or_service_a_reset_or_port_unreachable, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let missing = SIDES.iter().fold(mapping("missing"), |m, s| m.address(s.external));
    let objects = [
        echo_service().not_ready("10.244.1.11").not_ready("fd00:244:1::11").build(),
        vec![all.tcp(8080).udp(5353).build(), missing.tcp(9000).udp(9000).build()],
    ]
    .concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    for side in SIDES {
        let cases = [
            (Protocol::Tcp, 8080),
            (Protocol::Udp, 5353),
            (Protocol::Tcp, 9000),
            (Protocol::Udp, 9000),
        ];
        for (protocol, port) in cases {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}/{port}");
        }
    }
});
