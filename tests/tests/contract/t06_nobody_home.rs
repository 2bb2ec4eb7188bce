//! T6: nobody home is answered at once.

use smartnat::lab::traffic::Outcome;
use smartnat_core::model::Protocol;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{
    SIDES, USUAL, at, echo_on, echo_service, first_network, on_all_sides, on_first_network,
    serve_in_pods,
};

on_both_arms!(without_endpoints_or_service_a_reset_or_port_unreachable, |arms| {
    let objects = [
        echo_service().not_ready("10.244.1.11").not_ready("fd00:244:1::11").build(),
        vec![
            on_all_sides("echo").tcp(8080).udp(5353).build(),
            on_all_sides("missing").tcp(9000).udp(9000).build(),
        ],
    ]
    .concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    for side in SIDES {
        for (protocol, port) in
            USUAL.into_iter().chain([(Protocol::Tcp, 9000), (Protocol::Udp, 9000)])
        {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}/{port}");
        }
    }
});

on_both_arms!(a_service_of_one_family_refuses_the_other, |arms| {
    for (number, address) in ["10.244.1.11", "fd00:244:1::11"].into_iter().enumerate() {
        let all = on_first_network("echo").tcp(8080).udp(5353).build();
        let objects = [echo_service().ready(address).build(), vec![all]].concat();
        let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
        serve_in_pods(&mut arm);
        for (family, side) in first_network().into_iter().enumerate() {
            for (protocol, port) in USUAL {
                let outcome =
                    arm.ask((protocol, side.client, side.source, at(side.external, port)));
                if family == number {
                    assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
                } else {
                    assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}");
                }
            }
        }
    }
});

on_both_arms!(a_connection_that_loses_its_last_pod_is_reset, |arms| {
    for masquerade in [true, false] {
        let m = on_first_network("echo").tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions::default());
        let mut arm = arms.start(&topology, config(), [echo_on(&[1]), vec![m]].concat());
        serve_in_pods(&mut arm);
        for side in first_network() {
            arm.sync(echo_on(&[1]));
            let mut open = USUAL.map(|(protocol, port)| {
                arm.converse(protocol, side.client, at(side.source, 0), at(side.external, port))
            });
            arm.sync(echo_service().build());
            assert_eq!(arm.ask_on(&mut open[0]), Outcome::Closed, "{side:?} TCP");
            assert_eq!(arm.ask_on(&mut open[1]), Outcome::Refused, "{side:?} UDP");
        }
    }
});

on_both_arms!(a_pod_without_a_socket_says_so_itself, |arms| {
    for masquerade in [true, false] {
        let m = on_all_sides("echo").tcp(8080).udp(5353).masquerade(masquerade).build();
        let topology = standard(StandardOptions::default());
        let mut arm = arms.start(&topology, config(), [echo_on(&[1]), vec![m]].concat());
        for side in SIDES {
            for (protocol, port) in USUAL {
                let outcome =
                    arm.ask((protocol, side.client, side.source, at(side.external, port)));
                assert_eq!(outcome, Outcome::Refused, "{side:?} {protocol}");
            }
        }
    }
});
