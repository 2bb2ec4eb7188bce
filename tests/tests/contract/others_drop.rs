//! What others drop in table filter of iptables does not touch our connections (T1, T13), with
//! either backend and both families, whether it was there first or comes later.

use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_core::objects::{XtTable, XtTableId};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::{Arm, Foreign, config};
use smartnat_tests::on_both_arms;

use super::common::{
    SIDES, Side, USUAL, at, echo_on, echo_service, ip, on_all_sides, serve_in_pods,
};

/// Pod 1 is exposed, and leaves with the first external address.
fn objects() -> Vec<ClusterObject> {
    [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).udp(5353).egress(true).build()]].concat()
}

fn drop_in(arm: &mut impl Arm, chain: &'static str, rule: &'static str) {
    for family in Family::ALL {
        let table = XtTableId { family, table: XtTable::Filter };
        arm.put(&Foreign::Rule { table, chain, rule });
    }
}

fn assert_served(arm: &mut impl Arm, side: &Side, (protocol, port): (Protocol, u16), by: &str) {
    let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
    assert_eq!(outcome.server(), Some(by), "{side:?} {protocol}: {outcome}");
}

fn assert_served_and_let_out(arm: &mut impl Arm) {
    for side in SIDES {
        for endpoint in USUAL {
            assert_served(arm, &side, endpoint, "pod1");
        }
    }
    for (pod, client, external) in [
        ("10.244.1.11", "192.0.2.10", "198.51.100.10"),
        ("fd00:244:1::11", "2001:db8:2::10", "2001:db8:51::10"),
    ] {
        let outcome = arm.ask((Protocol::Tcp, "pod1", pod, at(client, 8080)));
        let seen = outcome.answer().map(|answer| answer.seen_peer.ip());
        assert_eq!(seen, Some(ip(external)), "{outcome}");
    }
}

on_both_arms!(before_us, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    drop_in(&mut arm, "FORWARD", "-j DROP");
    let start = arm.start(config(), objects());
    assert!(start.status.in_sync, "{:?}", start.events);
    serve_in_pods(&mut arm);
    arm.serve("client1", "far", &[], &USUAL);
    assert_served_and_let_out(&mut arm);
    let again = arm.restart(objects());
    assert_eq!((again.operations, again.transactions), (0, Vec::new()), "T15");
});

on_both_arms!(after_us, |arms| {
    let topology = standard(StandardOptions::default());
    let mut arm = arms.start(&topology, config(), objects());
    serve_in_pods(&mut arm);
    arm.serve("client1", "far", &[], &USUAL);
    drop_in(&mut arm, "FORWARD", "-j DROP");
    let followed = arm.kernel_changed();
    assert!(followed.status.in_sync, "{:?}", followed.events);
    assert_served_and_let_out(&mut arm);
});

on_both_arms!(on_the_way_to_an_endpoint_on_the_host_itself, |arms| {
    let mut arm = arms.build(&standard(StandardOptions { office: true }));
    for chain in ["INPUT", "OUTPUT"] {
        drop_in(&mut arm, chain, "-p tcp -j DROP");
    }
    let own = [addresses::GATEWAY_V4, addresses::GATEWAY_V6];
    let service = own.iter().fold(echo_service(), |s, address| s.ready(address));
    let m = on_all_sides("echo").tcp(8080).build();
    let start = arm.start(config(), [service.build(), vec![m]].concat());
    assert!(start.status.in_sync, "{:?}", start.events);
    arm.serve("gateway", "host", &own.map(ip), &USUAL);
    for side in SIDES {
        assert_served(&mut arm, &side, (Protocol::Tcp, 8080), "host");
    }
});
