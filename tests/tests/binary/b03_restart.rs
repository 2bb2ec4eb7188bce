//! T15 with the program: a restart that changes nothing issues no operation and loses no packet.

use std::time::Duration;

use smartnat::lab::traffic::{PATIENT, Stream, StreamKind};

use crate::common::{SIDES, at, both_flavours, ip, servers};
use crate::manifests::{echo_mapping, service};
use crate::station::{Run, Station};

fn streams(station: &Station) -> Vec<Stream> {
    SIDES[..2]
        .iter()
        .flat_map(|side| {
            [
                (StreamKind::Established, 8080),
                (StreamKind::NewConnections, 8080),
                (StreamKind::Datagrams, 5353),
                (StreamKind::NewFlows, 5353),
            ]
            .map(|(kind, port)| {
                let (from, to) = (Some(ip(side.source)), at(side.external, port));
                let pause = Duration::from_millis(5);
                Stream::start(&station.lab, side.client, kind, from, to, pause).expect("a stream")
            })
        })
        .collect()
}

fn restarted_by(station: &Station, end: impl Fn(Run)) {
    station.write("service.yaml", &service("echo", &["10.244.1.11", "10.244.1.12"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external, SIDES[1].external]));
    let _servers = servers(&station.lab);
    let mut run = station.serve();
    assert!(run.stats().operations > 0);
    let lines = station.host_lines();
    let streams = streams(station);
    for _ in 0..3 {
        end(run);
        for stream in &streams {
            assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        }
        run = station.serve();
        assert_eq!(run.stats().operations, 0, "{}", run.log());
        assert_eq!(run.stats().syncs, 1);
    }
    for stream in streams {
        assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    assert_eq!(station.host_lines(), lines);
}

both_flavours!(a_restart_by_sigterm_is_no_operation_and_no_loss, |flavour| {
    restarted_by(&Station::new(flavour), |run| {
        run.terminate();
    });
});

both_flavours!(a_restart_by_sigkill_is_no_operation_and_no_loss, |flavour| {
    restarted_by(&Station::new(flavour), Run::kill);
});
