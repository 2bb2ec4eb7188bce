//! T15: a restart that changes nothing issues no operation and loses no packet.

use std::time::Duration;

use smartnat::lab::traffic::{PATIENT, Stream, StreamKind};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, at, both_flavours, echo_on, ip, servers};

fn objects() -> Vec<ClusterObject> {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let ranged = SIDES
        .iter()
        .fold(mapping("ranged").service("echo"), |m, s| m.address(s.external).source(s.source))
        .port(Protocol::Udp, 6000, Some(6020), Some("dns"))
        .egress(true)
        .masquerade(false);
    [echo_on(&[1, 2, 3]), vec![all.tcp(8080).udp(5353).build(), ranged.build()]].concat()
}

both_flavours!(an_unchanged_restart_is_no_operation_and_no_loss, |flavour| {
    let topology = standard(StandardOptions::default());
    let (mut rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects());
    assert!(first.status.in_sync && first.operations > 0, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    let streams: Vec<Stream> = SIDES
        .iter()
        .flat_map(|side| {
            [
                (StreamKind::Established, 8080),
                (StreamKind::NewConnections, 8080),
                (StreamKind::Datagrams, 5353),
                (StreamKind::NewFlows, 5353),
            ]
            .map(|(kind, port)| {
                let to = at(side.external, port);
                let pause = Duration::from_millis(2);
                Stream::start(&rig.lab, side.client, kind, Some(ip(side.source)), to, pause)
                    .expect("a stream")
            })
        })
        .collect();
    for _ in 0..3 {
        let again = rig.restart(objects());
        assert!(again.status.in_sync, "{:?}", again.events);
        assert_eq!(again.transactions, []);
        assert_eq!(again.operations, 0);
    }
    for stream in streams {
        assert!(stream.wait_for_more(20, PATIENT), "{:?}", stream.report());
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
});
