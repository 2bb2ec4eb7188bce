//! Signals end the program and leave the dataplane serving.

use std::time::{Duration, Instant};

use smartnat::lab::traffic::{PATIENT, Stream, StreamKind};

use crate::common::{SIDES, at, both_flavours, ip, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{GATEWAY, Station};

/// What is at rest ends at once.
const PROMPT: Duration = Duration::from_secs(3);

both_flavours!(sigterm_and_sigint_end_the_program_and_no_traffic, |flavour| {
    let station = Station::new(flavour);
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
    let _servers = servers(&station.lab);
    for signal in ["TERM", "INT"] {
        let mut run = station.serve();
        let side = SIDES[0];
        let streams =
            [(StreamKind::Established, 8080), (StreamKind::NewFlows, 5353)].map(|(kind, port)| {
                let (from, to) = (Some(ip(side.source)), at(side.external, port));
                let pause = Duration::from_millis(5);
                Stream::start(&station.lab, side.client, kind, from, to, pause).expect("a stream")
            });
        let begin = Instant::now();
        let id = run.id().to_string();
        station.lab.command(GATEWAY, &["kill", &format!("-{signal}"), &id]).expect("a signal");
        let ended = run.process().wait(PROMPT).expect("a child of ours");
        assert!(ended.is_some_and(|status| status.success()), "{signal}: {ended:?}");
        assert!(begin.elapsed() < PROMPT + PROMPT);
        assert!(run.log().contains("the dataplane is left serving"), "{}", run.log());
        for stream in streams {
            assert!(stream.wait_for_more(20, PATIENT), "{signal}: {:?}", stream.report());
            let report = stream.stop();
            assert_eq!((report.lost(), report.ended), (0, false), "{signal}: {report:?}");
        }
    }
});

both_flavours!(an_end_in_the_middle_of_the_first_sync_is_made_good_by_the_next_start, |flavour| {
    let station = Station::new(flavour);
    let texts: Vec<String> = (0..200)
        .map(|n| mapping(&format!("m{n}"), &[SIDES[0].external], 10_000 + n, "echo"))
        .collect();
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mappings.yaml", &texts.join("---\n"));
    let _servers = servers(&station.lab);
    for signal in ["TERM", "KILL"] {
        let mut command = station.serving("run");
        command.args(["--log-level", "debug"]);
        let mut run = station.start(command);
        run.wait_line(&["apply"]);
        let id = run.id().to_string();
        station.lab.command(GATEWAY, &["kill", &format!("-{signal}"), &id]).expect("a signal");
        let ended = run.process().wait(crate::station::PATIENCE).expect("a child of ours");
        assert!(ended.is_some(), "{}", run.log());
        drop(run);
        let run = station.serve();
        assert!(station.wait_answer("client1", at(SIDES[0].external, 10_199), Some("pod1")));
        assert_eq!(
            station.finish(station.serving("plan")).expect(0).out,
            "Nothing would change.\n"
        );
        run.terminate();
        station.clean_up().expect(0);
    }
});
