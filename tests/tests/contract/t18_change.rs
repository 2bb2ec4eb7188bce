//! T18: during any change, connections that it does not concern keep their verdict.

use std::time::Duration;

use smartnat::lab::traffic::{PATIENT, Stream, StreamKind};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, at, both_flavours, echo_on, first_network, ip, servers};

/// Beside the Mapping with traffic: others that come, change and go on the same addresses.
fn changes() -> Vec<Vec<ClusterObject>> {
    let other = |name: &str, port: u16| {
        SIDES.iter().fold(mapping(name).service("echo"), |m, s| m.address(s.external)).port(
            Protocol::Tcp,
            port,
            None,
            Some("http"),
        )
    };
    vec![
        vec![other("b", 2000).build(), other("c", 3000).egress(true).build()],
        vec![other("b", 2001).source("192.0.2.0/24").build()],
        echo_on(&[1, 2, 3]),
        vec![other("c", 3000).masquerade(false).build()],
        echo_on(&[1, 3]),
        vec![without_mapping("b"), other("c", 3000).egress(true).build()],
        echo_on(&[1]),
        vec![without_mapping("c")],
    ]
}

both_flavours!(traffic_that_a_change_does_not_concern_goes_on, |flavour| {
    let all = SIDES
        .iter()
        .fold(mapping("a").service("echo"), |m, s| m.address(s.external).source(s.source))
        .tcp(8080)
        .udp(5353);
    let objects = [echo_on(&[1]), vec![all.build()]].concat();
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let streams: Vec<Stream> = first_network()
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
                let pause = Duration::from_millis(1);
                Stream::start(&rig.lab, side.client, kind, Some(ip(side.source)), to, pause)
                    .expect("a stream")
            })
        })
        .collect();
    for change in changes() {
        let step = rig.sync(change);
        assert!(step.status.in_sync, "{:?}", step.events);
        for stream in &streams {
            assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        }
    }
    for stream in streams {
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
});
