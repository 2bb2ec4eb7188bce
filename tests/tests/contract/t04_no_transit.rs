//! T4: no transit between uplinks and cluster side, whatever routes the sender adds; nothing leaves an
//! uplink with a foreign source; if we switched forwarding on, nothing else is forwarded.

use smartnat::lab::Direction;
use smartnat::lab::traffic::Outcome;
use smartnat_core::model::Protocol;
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::{Arm, config};
use smartnat_tests::on_both_arms;

use super::common::{
    USUAL, at, echo_on, first_network, ip, on_first_network, serve_in_pods, switch_forwarding_on,
};

const NEIGHBOUR: [&str; 2] = ["198.51.100.77", "2001:db8:51::77"];
const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const OTHER_ROUTER: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];

/// The neighbour on the first uplink's link adds routes to whatever it wants to reach.
fn add_sneaky_routes(arm: &mut impl Arm) {
    for (net, via) in [
        ("10.244.1.0/24", "198.51.100.10"),
        ("203.0.113.0/24", "198.51.100.10"),
        ("fd00:244:1::/64", "2001:db8:51::10"),
        ("2001:db8:113::/64", "2001:db8:51::10"),
    ] {
        arm.add_route("neighbour", net, via);
    }
}

on_both_arms!(nobody_routes_into_the_cluster_or_across, |arms| {
    for forwarding in [false, true] {
        let mut arm = arms.build(&standard(StandardOptions::default()));
        add_sneaky_routes(&mut arm);
        serve_in_pods(&mut arm);
        arm.serve("router2", "router2", &[], &USUAL);
        if forwarding {
            switch_forwarding_on(&mut arm);
            // The way is open before us, so that it is we who close it.
            let outcome = arm.ask((Protocol::Tcp, "neighbour", NEIGHBOUR[0], at(POD[0], 8080)));
            assert_eq!(outcome.server(), Some("pod1"), "{outcome}");
        }
        let first = arm.start(config(), Vec::new());
        assert!(first.status.in_sync, "{:?}", first.events);
        let requests: Vec<_> = [POD, OTHER_ROUTER]
            .into_iter()
            .flat_map(|targets| NEIGHBOUR.into_iter().zip(targets))
            .flat_map(|(from, to)| USUAL.map(|(p, port)| (p, "neighbour", from, at(to, port))))
            .collect();
        let reached = |arm: &A| ["pod1", "router2"].map(|owner| arm.deliveries(owner));
        let before = reached(&arm);
        arm.assert_silence(&requests);
        // An answer might be dropped where the question was not.
        assert_eq!(reached(&arm), before);
    }
});

on_both_arms!(a_pod_cannot_leave_an_uplink_with_its_own_address, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), Vec::new());
    arm.serve("neighbour", "neighbour", &[], &USUAL);
    add_sneaky_routes(&mut arm);
    let requests: Vec<_> = POD
        .into_iter()
        .zip(NEIGHBOUR)
        .flat_map(|(from, to)| USUAL.map(|(p, port)| (p, "pod1", from, at(to, port))))
        .collect();
    arm.assert_silence(&requests);
    assert_eq!(arm.deliveries("neighbour"), 0);
});

on_both_arms!(where_we_switched_forwarding_on_nothing_else_is_forwarded, |arms| {
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), Vec::new());
    // Straight through the gateway's one cluster interface: from a pod to what the office routes.
    arm.serve("office", "office", &[], &USUAL);
    arm.assert_silence(&[
        (Protocol::Udp, "pod1", POD[0], at(addresses::OFFICE_V4, 5353)),
        (Protocol::Udp, "pod1", POD[1], at(addresses::OFFICE_V6, 5353)),
    ]);
});

on_both_arms!(the_host_cannot_leave_an_uplink_with_its_inside_address, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), Vec::new());
    let seen = arm.watch("neighbour", "eth0");
    let inside = [addresses::GATEWAY_V4, addresses::GATEWAY_V6];
    let requests: Vec<_> = inside
        .into_iter()
        .zip(NEIGHBOUR)
        .flat_map(|(from, to)| {
            [Protocol::Tcp, Protocol::Udp].map(|p| (p, "gateway", from, at(to, 5353)))
        })
        .collect();
    for outcome in arm.ask_all_briefly(&requests) {
        assert!(!outcome.is_answered(), "{outcome}");
    }
    let escaped = arm.packets(&seen).into_iter().find(|p| inside.map(ip).contains(&p.source));
    assert_eq!(escaped, None);
});

on_both_arms!(a_segment_without_syn_opens_nothing_in_either_direction, |arms| {
    let m = on_first_network("echo").tcp(8080).egress(true).masquerade(false);
    let objects = [echo_on(&[1]), vec![m.build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), objects);
    serve_in_pods(&mut arm);
    arm.serve("client1", "far", &[], &[(Protocol::Tcp, 9999)]);
    for (family, side) in first_network().into_iter().enumerate() {
        let tcp = Protocol::Tcp;
        let inward = arm.converse(tcp, side.client, at(side.source, 0), at(side.external, 8080));
        let outward = arm.converse(tcp, "pod1", at(POD[family], 0), at(side.source, 9999));
        // The gateway knows of neither any more.
        arm.forget_connections();
        let [inside, outside] = ["eth0", "ext1"].map(|i| arm.watch("gateway", i));
        for outcome in arm.ask_all_on_briefly(&mut [inward, outward]) {
            assert_eq!(outcome, Outcome::TimedOut);
        }
        for (watch, from) in
            [(&inside, side.source), (&outside, POD[family]), (&outside, side.external)]
        {
            let passed = arm
                .packets(watch)
                .into_iter()
                .find(|p| p.direction == Direction::Out && p.source == ip(from));
            assert_eq!(passed, None, "{side:?} {from}");
        }
    }
});
