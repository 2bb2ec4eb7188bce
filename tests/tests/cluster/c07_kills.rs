//! An instance that is killed at random moments, again and again, while the cluster changes
//! (T15, T18, T20; P9, P10, P12).

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use smartnat::lab::traffic::{PATIENT, Stream, StreamKind};

use crate::background::{End, meanwhile};
use crate::fleet::{Fleet, address_of, external, is_true, pod_address};
use crate::fresh::Bare;
use crate::objects::{mapping, ready, service, slice};
use crate::station::Run;
use crate::variables;

/// How often it is killed; another number is taken from `SMARTNAT_TEST_KILLS`.
const KILLS: u64 = 200;
/// Longest time from a start to the next kill.
const MAX_MILLIS: u64 = 1_000;
/// Port of the Mapping that nothing changes in.
const STEADY: u16 = 8080;
/// Ports of those whose endpoints change.
const MOVING: [u16; 3] = [8081, 8082, 8083];
/// First port of those that come and go.
const BRIEF: u16 = 9000;
/// Of those there are so many at a time.
const MAX_BRIEF: usize = 4;

fn moving(port: u16) -> String {
    format!("moving-{port}")
}

fn brief(number: u16) -> String {
    format!("brief-{number}")
}

fn apply_endpoints(fleet: &Fleet, name: &str, pods: &[usize]) {
    let endpoints = ready(pods.iter().map(|pod| pod_address(*pod)));
    fleet.plane.apply(&slice("default", name, 1, &[("http", 8080)], &endpoints));
}

fn apply_mapping(fleet: &Fleet, name: &str, port: u16, to: &str) {
    fleet.plane.apply(&mapping("default", name, &external(1), port, to));
}

/// One with a set of sources, which its rules refer to.
fn apply_brief(fleet: &Fleet, port: u16) {
    let mut object = mapping("default", &brief(port), &external(1), port, "steady");
    object["spec"]["allowedSources"] = json!(["198.51.100.0/24", "203.0.113.0/25"]);
    fleet.plane.apply(&object);
}

fn apply_all(fleet: &Fleet) {
    fleet.plane.apply(&service("default", "steady", "http"));
    apply_endpoints(fleet, "steady", &[1]);
    apply_mapping(fleet, "steady", STEADY, "steady");
    for port in MOVING {
        let mut object = service("default", &moving(port), "http");
        if port == MOVING[0] {
            // Each endpoint has a set of its clients.
            object["spec"]["sessionAffinity"] = json!("ClientIP");
        }
        fleet.plane.apply(&object);
        apply_endpoints(fleet, &moving(port), &[2]);
        apply_mapping(fleet, &moving(port), port, &moving(port));
    }
}

/// Changes the cluster until the end, and deletes what comes and goes then. Returns the ports
/// that were in use by that.
fn change(fleet: &Fleet, seed: u64, end: &End<'_>) -> Range<u16> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut alive: Vec<u16> = Vec::new();
    let mut used = BRIEF..BRIEF;
    while !end.has_come() {
        let port = MOVING[random.usize(..MOVING.len())];
        match random.u8(..5) {
            0 if alive.len() < MAX_BRIEF => {
                apply_brief(fleet, used.end);
                alive.push(used.end);
                used.end += 1;
            }
            1 if !alive.is_empty() => {
                let gone = alive.swap_remove(random.usize(..alive.len()));
                fleet.delete("default", &brief(gone));
            }
            2 => {
                let other = [port, port + 100][random.usize(..2)];
                apply_mapping(fleet, &moving(port), other, &moving(port));
            }
            _ => {
                let pods = [&[2][..], &[3], &[2, 3], &[]][random.usize(..4)];
                apply_endpoints(fleet, &moving(port), pods);
            }
        }
        thread::sleep(Duration::from_millis(random.u64(..150)));
    }
    for gone in alive {
        fleet.delete("default", &brief(gone));
    }
    used
}

/// Starts and kills; tells how many runs had become ready.
fn kill_again_and_again(fleet: &Fleet, mut run: Run, kills: u64, longest: u64, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ready = 0;
    for kill in 0..kills {
        thread::sleep(Duration::from_millis(random.u64(..longest)));
        let ended = run.process().try_wait().expect("a child of ours");
        assert!(ended.is_none(), "run {kill} ended by itself:\n{}", run.log());
        ready += u64::from(!run.lines_with(&["in sync"]).is_empty());
        run.kill();
        run = fleet.start(1);
    }
    run.kill();
    ready
}

#[test]
fn kills_at_any_moment_leave_nothing_behind_and_end_no_connection() {
    let Some(fleet) = Fleet::new(1) else { return };
    let kills = variables::number("SMARTNAT_TEST_KILLS").unwrap_or(KILLS);
    let seed = variables::seed();
    let bare = Bare::of(&fleet, 1);
    apply_all(&fleet);
    fleet.serve(1).kill();
    let begin = Instant::now();
    let run = fleet.serve(1);
    // From the start to some time after it was ready, on a busy machine too.
    let to_ready = u64::try_from(begin.elapsed().as_millis()).expect("short");
    let longest = (to_ready * 3).min(MAX_MILLIS);
    fleet.wait_answer(1, Some("pod1"));
    let streams = [StreamKind::Established, StreamKind::NewConnections].map(|kind| {
        let (to, pause) = (address_of(1, STEADY), Duration::from_millis(10));
        Stream::start(&fleet.station.lab, "client", kind, None, to, pause).expect("a stream")
    });

    let kill = || kill_again_and_again(&fleet, run, kills, longest, seed);
    let (brief_ports, ready) = meanwhile(|end| change(&fleet, seed, &end), kill);
    eprintln!(
        "{kills} kills within {longest} ms of a start, {ready} when ready; {:?}",
        begin.elapsed()
    );
    assert!(ready > 0 && ready < kills, "the moments were not spread: {ready}");

    apply_all(&fleet);
    let run = fleet.serve(1);
    for port in MOVING {
        fleet.wait_mapping("default", &moving(port), |m| {
            let pods = &m["status"]["configuredAddresses"][external(1)]["podIPs"];
            is_true(m, "Programmed") && *pods == json!([pod_address(2)])
        });
    }
    for port in brief_ports {
        fleet.wait_gone("default", &brief(port));
    }
    for stream in streams {
        assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
    bare.assert_as_fresh(&fleet, 1, run).terminate();
}
