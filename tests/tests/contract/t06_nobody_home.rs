//! T6: nobody home is answered at once.

use smartnat::lab::traffic::{Outcome, PATIENT};
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    SIDES, ask, at, both_flavours, conversation, echo_on, echo_service, first_network, servers,
};

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

both_flavours!(a_service_of_one_family_refuses_the_other, |flavour| {
    for (number, address) in ["10.244.1.11", "fd00:244:1::11"].into_iter().enumerate() {
        let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
        let objects =
            [echo_service().ready(address).build(), vec![all.tcp(8080).udp(5353).build()]].concat();
        let topology = standard(StandardOptions::default());
        let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
        let _servers = servers(&rig.lab);
        for (family, side) in first_network().into_iter().enumerate() {
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                let outcome =
                    ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
                if family == number {
                    assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
                } else {
                    assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}");
                }
            }
        }
    }
});

both_flavours!(a_connection_that_loses_its_last_pod_is_reset, |flavour| {
    for masquerade in [true, false] {
        let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
        let m = all.tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions::default());
        let (mut rig, _) =
            Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), vec![m]].concat());
        let _servers = servers(&rig.lab);
        for side in first_network() {
            rig.sync(echo_on(&[1]));
            let mut open =
                [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)].map(|(protocol, port)| {
                    conversation(
                        &rig.lab,
                        protocol,
                        side.client,
                        at(side.source, 0),
                        at(side.external, port),
                    )
                });
            rig.sync(echo_service().build());
            assert_eq!(open[0].ask("again", PATIENT), Outcome::Closed, "{side:?} TCP");
            assert_eq!(open[1].ask("again", PATIENT), Outcome::Refused, "{side:?} UDP");
        }
    }
});

both_flavours!(a_pod_without_a_socket_says_so_itself, |flavour| {
    for masquerade in [true, false] {
        let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
        let m = all.tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions::default());
        let (rig, _) =
            Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), vec![m]].concat());
        for side in SIDES {
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                let outcome =
                    ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
                assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}");
            }
        }
    }
});
