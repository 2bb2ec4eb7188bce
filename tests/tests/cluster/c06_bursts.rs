//! Many changes in quick succession are few syncs, and one change is told at once.

use std::thread;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;
use smartnat::lab::traffic::{PATIENT, Stream, StreamKind};
use smartnat::lab::wait_until;

use crate::fleet::{Fleet, address_of, external, is_true, pod_address};
use crate::objects::{mapping, ready, service, slice};
use crate::station::{PATIENCE, Run};

/// Pods of the Service that is updated: all of them, one after the other.
const PODS: usize = 500;
/// Endpoints of a slice, as the slices' controller fills them.
const SLICE: usize = 100;
/// Single changes that are measured.
const SINGLE: usize = 5;
/// Longer than changes are gathered after a burst.
const QUIET: Duration = Duration::from_secs(3);

/// A pod's address before (0) or after (1) the update. None of them exists.
fn address(pod: usize, update: usize) -> String {
    format!("10.245.{}.{}", update * 100 + pod / 250, pod % 250 + 1)
}

/// A gateway with a Mapping to one pod and one to many.
fn serving(fleet: &Fleet) -> Run {
    let route = ["ip", "route", "add", "10.245.0.0/16", "dev", "eth0"];
    fleet.station.lab.command("gw1", &route).expect("a route");
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1]);
    fleet.plane.apply(&service("default", "many", "http"));
    for number in 0..PODS / SLICE {
        let pods = number * SLICE..(number + 1) * SLICE;
        let endpoints = ready(pods.map(|pod| address(pod, 0)));
        let slice = slice("default", "many", number, &[("http", 8080)], &endpoints);
        fleet.plane.apply(&slice);
    }
    fleet.plane.apply(&mapping("default", "many", &external(1), 8081, "many"));
    let run = fleet.serve(1);
    fleet.wait_answer(1, Some("pod1"));
    fleet.wait_mapping("default", "many", |m| {
        is_true(m, "Programmed") && m["status"]["endpoints"] == PODS
    });
    run
}

/// Replaces the pods of a slice, a change each.
fn update(fleet: &Fleet, number: usize) {
    let (api, name) = fleet.plane.api_of(&slice("default", "many", number, &[], &[]));
    for position in 0..SLICE {
        let patch = json!([{
            "op": "replace",
            "path": format!("/endpoints/{position}/addresses"),
            "value": [address(number * SLICE + position, 1)],
        }]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).expect("a patch"));
        fleet.plane.wait(api.patch(&name, &PatchParams::default(), &patch)).expect("it is there");
    }
}

/// Whether the kernel sends connections to every new pod and to no old one.
fn is_updated(rules: &str) -> bool {
    let has = |pod, update| rules.contains(&(address(pod, update) + ":8080"));
    (0..PODS).all(|pod| has(pod, 1) && !has(pod, 0))
}

#[test]
fn five_hundred_changes_are_a_handful_of_syncs() {
    let Some(fleet) = Fleet::new(1) else { return };
    let run = serving(&fleet);
    let streams = [StreamKind::Established, StreamKind::NewConnections].map(|kind| {
        let (to, pause) = (address_of(1, 8080), Duration::from_millis(5));
        Stream::start(&fleet.station.lab, "client", kind, None, to, pause).expect("a stream")
    });
    let (before, begin) = (run.stats(), Instant::now());
    // Slices are written at the same time, as their controller does.
    thread::scope(|scope| {
        for number in 0..PODS / SLICE {
            let fleet = &fleet;
            scope.spawn(move || update(fleet, number));
        }
    });
    let written = begin.elapsed();
    let updated = wait_until(PATIENCE, || is_updated(&fleet.rules(1)).then_some(()));
    assert!(updated.is_some(), "{}\n{}", fleet.rules(1), run.log());
    let after = run.stats();
    let syncs = after.syncs - before.syncs;
    let operations = after.operations - before.operations;
    eprintln!("{PODS} changes, written in {written:?}: {syncs} syncs, {operations} operations");
    // A sync changes one or two chains. Changes are gathered for up to a second.
    assert!(operations <= 2 * (8 + written.as_secs()), "{operations}:\n{}", run.log());
    for stream in streams {
        assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
    single_changes(&fleet, &run);
    run.terminate();
}

/// Each is a sync of its own, and does not wait for others. How long that takes is only told: the
/// machine may be busy.
fn single_changes(fleet: &Fleet, run: &Run) {
    for change in 0..SINGLE {
        thread::sleep(QUIET);
        let before = run.stats().syncs;
        let pod = 1 + (change + 1) % 2;
        let begin = Instant::now();
        fleet.endpoints("default", &[pod]);
        let written = begin.elapsed();
        let rule = pod_address(pod);
        let served = wait_until(PATIENCE, || fleet.rules(1).contains(&rule).then_some(()));
        let served = served.map(|()| begin.elapsed()).expect("it is served");
        let times = served.as_secs_f64() / written.as_secs_f64();
        eprintln!("one change: written in {written:?}, in the kernel after {times:.1} times that");
        let counted = wait_until(PATIENCE, || (run.stats().syncs > before).then_some(()));
        assert!(counted.is_some(), "{}", run.log());
        assert_eq!(run.stats().syncs, before + 1, "{}", run.log());
    }
}
