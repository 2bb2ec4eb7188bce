//! T11, T13: what belongs to an uplink that is down goes nowhere; a pod that changes its external
//! address goes on at once.

use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{at, echo_on, ip, switch_forwarding_on};

const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
const FIRST: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];
const SECOND: [&str; 2] = ["198.51.100.11", "2001:db8:51::11"];

fn leaving(addresses: [&str; 2]) -> ClusterObject {
    addresses
        .iter()
        .fold(mapping("a").service("echo"), |m, address| m.address(address))
        .port(Protocol::Tcp, 1000, None, Some("http"))
        .egress(true)
        .build()
}

on_both_arms!(egress_of_an_uplink_that_is_down_does_not_leave_elsewhere, |arms| {
    let mut arm = arms.build(&standard(StandardOptions { office: true }));
    // Main's default route would take anything.
    switch_forwarding_on(&mut arm);
    let first = arm.start(config(), [echo_on(&[1]), vec![leaving(SECOND)]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    let office = arm.watch("office", "eth0");
    arm.set_link("gateway", "ext1", false);
    for family in 0..2 {
        let to = at(CLIENT[family], 9999);
        arm.send_datagram("pod1", at(POD[family], 40_001), to);
        let escaped = arm.seen_briefly(&office, |p| p.destination == to.ip());
        assert_eq!(escaped, None, "before it is known");
    }
    arm.host_changed();
    let to = at(CLIENT[0], 9998);
    arm.send_datagram("pod1", at(POD[0], 40_002), to);
    assert_eq!(arm.seen_briefly(&office, |p| p.destination == to.ip()), None, "after it is known");
});

on_both_arms!(a_changed_egress_address_serves_the_same_ports_at_once, |arms| {
    let objects = [echo_on(&[1]), vec![leaving(SECOND)]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    for family in 0..2 {
        for addresses in [SECOND, FIRST] {
            arm.sync(vec![leaving(addresses)]);
            let far = arm.watch("client1", "eth0");
            arm.send_datagram("pod1", at(POD[family], 5060), at(CLIENT[family], 9999));
            let arrived = arm.seen(&far, |p| p.destination_port() == Some(9999));
            let arrived = arrived.expect("the datagram arrives");
            assert_eq!(arrived.source, ip(addresses[family]));
        }
    }
});
