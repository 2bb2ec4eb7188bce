//! T15: a restart that changes nothing issues no operation and loses no packet.

use std::time::Duration;

use smartnat::lab::traffic::StreamKind;
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{SIDES, at, echo_on, ip, on_all_sides, serve_in_pods};

fn objects() -> Vec<ClusterObject> {
    let all = on_all_sides("echo").tcp(8080).udp(5353).build();
    let ranged = SIDES
        .iter()
        .fold(on_all_sides("ranged").service("echo"), |m, s| m.source(s.source))
        .port(Protocol::Udp, 6000, Some(6020), Some("dns"))
        .egress(true)
        .masquerade(false);
    [echo_on(&[1, 2, 3]), vec![all, ranged.build()]].concat()
}

on_both_arms!(an_unchanged_restart_is_no_operation_and_no_loss, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    let first = arm.start(config(), objects());
    assert!(first.status.in_sync && first.operations > 0, "{:?}", first.events);
    serve_in_pods(&mut arm);
    for side in SIDES {
        for (kind, port) in [
            (StreamKind::Established, 8080),
            (StreamKind::NewConnections, 8080),
            (StreamKind::Datagrams, 5353),
            (StreamKind::NewFlows, 5353),
        ] {
            let (from, to) = (ip(side.source), at(side.external, port));
            arm.stream(kind, side.client, from, to, Duration::from_millis(2));
        }
    }
    for _ in 0..3 {
        let again = arm.restart(objects());
        assert!(again.status.in_sync, "{:?}", again.events);
        assert_eq!(again.transactions, []);
        assert_eq!(again.operations, 0);
    }
    arm.await_streams(20);
    for report in arm.stop_streams() {
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
});
