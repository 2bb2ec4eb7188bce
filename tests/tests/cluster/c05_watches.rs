//! T22, T23: watches that are cut all the time, and a long time without any.

use std::thread;
use std::time::Duration;

use smartnat::lab::traffic::{PATIENT, Server, Stream, StreamKind};
use smartnat_tests::relay::Relay;

use crate::background::{End, meanwhile};
use crate::fleet::{Fleet, LEASE_SECONDS, address_of, external, is_true, pod_address};
use crate::fresh::Bare;
use crate::objects::{mapping, ready, service, slice};
use crate::station::Run;
use crate::variables;

/// Port of the Mapping that nothing changes in.
const STEADY: u16 = 8080;
/// The ports of the one that changes, which has one of them at a time.
const MOVING: [u16; 2] = [8081, 8082];
/// Port of the Mappings that come and go.
const BRIEF: u16 = 8090;
/// Rounds of changes of which each is waited for.
const ROUNDS: usize = 3;
/// Changes of which only the last is waited for.
const BURST: usize = 60;

/// A gateway with a Mapping that stays and one that changes, and traffic of the first.
struct Scene {
    fleet: Fleet,
    bare: Bare,
    streams: Vec<Stream>,
    _servers: Vec<Server>,
}

impl Scene {
    fn new() -> Option<(Self, Run)> {
        let fleet = Fleet::new(1)?;
        let bare = Bare::of(&fleet, 1);
        let servers = [2, 3].map(|pod| {
            let (host, name) = (format!("pod{pod}"), format!("pod{pod}-alt"));
            let address = pod_address(pod).parse().expect("an address");
            Server::start_on(&fleet.station.lab, &host, &name, &[address], &[9090], &[])
                .expect("a server")
        });
        let mut scene = Self { fleet, bare, streams: Vec::new(), _servers: servers.into() };
        scene.apply_service("steady", "http");
        scene.apply_endpoints("steady", &[1]);
        scene.apply_mapping("steady", STEADY, "steady");
        scene.apply_service("moving", "http");
        scene.apply_endpoints("moving", &[2]);
        scene.apply_mapping("moving", MOVING[0], "moving");
        let run = scene.fleet.serve(1);
        scene.wait_answer(STEADY, Some("pod1"));
        scene.wait_answer(MOVING[0], Some("pod2"));
        for kind in [StreamKind::Established, StreamKind::NewConnections] {
            let (to, pause) = (address_of(1, STEADY), Duration::from_millis(5));
            let stream = Stream::start(&scene.fleet.station.lab, "client", kind, None, to, pause);
            scene.streams.push(stream.expect("a stream"));
        }
        Some((scene, run))
    }

    fn apply_service(&self, name: &str, port: &str) {
        self.fleet.plane.apply(&service("default", name, port));
    }

    fn apply_endpoints(&self, name: &str, pods: &[usize]) {
        let ports = [("http", 8080), ("alt", 9090)];
        let endpoints = ready(pods.iter().map(|pod| pod_address(*pod)));
        self.fleet.plane.apply(&slice("default", name, 1, &ports, &endpoints));
    }

    fn apply_mapping(&self, name: &str, port: u16, service: &str) {
        self.fleet.plane.apply(&mapping("default", name, &external(1), port, service));
    }

    #[track_caller]
    fn wait_answer(&self, port: u16, server: Option<&str>) {
        let to = address_of(1, port);
        let answered = self.fleet.station.wait_answer("client", to, server);
        assert!(answered, "{server:?} on {to}");
    }

    /// The way to the API server.
    fn relay(&self) -> &Relay {
        self.fleet.relay(1)
    }

    /// One change of each kind, each of which is waited for.
    fn change_all(&self) {
        self.apply_endpoints("moving", &[3]);
        self.wait_answer(MOVING[0], Some("pod3"));
        self.apply_service("moving", "alt");
        self.wait_answer(MOVING[0], Some("pod3-alt"));
        self.apply_mapping("moving", MOVING[1], "moving");
        self.wait_answer(MOVING[1], Some("pod3-alt"));
        self.wait_answer(MOVING[0], None);
        self.apply_mapping("brief", BRIEF, "steady");
        self.wait_answer(BRIEF, Some("pod1"));
        self.fleet.wait_mapping("default", "brief", |m| is_true(m, "Programmed"));
        self.fleet.delete("default", "brief");
        self.fleet.wait_gone("default", "brief");
        self.wait_answer(BRIEF, None);
        self.change_back();
    }

    fn change_back(&self) {
        self.apply_endpoints("moving", &[2]);
        self.apply_service("moving", "http");
        self.apply_mapping("moving", MOVING[0], "moving");
        self.wait_answer(MOVING[0], Some("pod2"));
        self.wait_answer(MOVING[1], None);
    }

    /// Many changes that nobody waits for.
    fn burst(&self, random: &mut fastrand::Rng) {
        for _ in 0..BURST {
            match random.u8(..3) {
                0 => self.apply_endpoints("moving", [&[2][..], &[3], &[2, 3]][random.usize(..3)]),
                1 => self.apply_service("moving", ["http", "alt"][random.usize(..2)]),
                _ => self.apply_mapping("moving", MOVING[random.usize(..2)], "moving"),
            }
        }
    }

    /// The traffic of what did not change has not noticed anything.
    #[track_caller]
    fn assert_undisturbed(&mut self) {
        for stream in self.streams.drain(..) {
            assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
            let report = stream.stop();
            assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
        }
    }
}

/// Cuts what goes through a relay every few hundred milliseconds; tells how often.
fn cut(relay: &Relay, seed: u64, end: &End<'_>) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cuts = 0;
    while !end.has_come() {
        thread::sleep(Duration::from_millis(random.u64(100..=500)));
        relay.cut();
        cuts += 1;
    }
    cuts
}

#[test]
fn nothing_is_lost_when_watches_are_cut_all_the_time() {
    let Some((mut scene, run)) = Scene::new() else { return };
    let seed = variables::seed();
    let before = scene.relay().connections();
    let work = || {
        for _ in 0..ROUNDS {
            scene.change_all();
        }
        scene.burst(&mut fastrand::Rng::with_seed(seed));
        scene.change_back();
        scene.fleet.wait_mapping("default", "moving", |m| {
            let pods = &m["status"]["configuredAddresses"][external(1)]["podIPs"];
            is_true(m, "Programmed") && *pods == serde_json::json!([pod_address(2)])
        });
    };
    let (cuts, ()) = meanwhile(|end| cut(scene.relay(), seed, &end), work);
    let connections = scene.relay().connections() - before;
    eprintln!("{cuts} cuts, {connections} connections after them, {:?}", run.stats());
    assert!(connections > 10, "what was cut was not in use");
    scene.assert_undisturbed();
    scene.bare.assert_as_fresh(&scene.fleet, 1, run).terminate();
}

#[test]
fn a_long_time_without_the_cluster_is_caught_up_with() {
    let Some((mut scene, run)) = Scene::new() else { return };
    scene.apply_mapping("leaving", BRIEF, "steady");
    scene.wait_answer(BRIEF, Some("pod1"));
    scene.fleet.wait_mapping("default", "leaving", |m| is_true(m, "Programmed"));
    let operations = run.stats().operations;

    scene.relay().close();
    scene.apply_endpoints("moving", &[3]);
    scene.apply_service("moving", "alt");
    scene.apply_mapping("moving", MOVING[1], "moving");
    scene.fleet.delete("default", "leaving");
    scene.apply_mapping("new", BRIEF + 1, "steady");
    run.wait_line(&["unreachable"]);
    // Long enough for the Lease to lapse.
    thread::sleep(Duration::from_secs(2 * LEASE_SECONDS));
    scene.wait_answer(BRIEF, Some("pod1"));
    scene.wait_answer(MOVING[0], Some("pod2"));
    assert_eq!(run.stats().operations, operations, "{}", run.log());

    scene.relay().open();
    scene.wait_answer(MOVING[1], Some("pod3-alt"));
    scene.wait_answer(MOVING[0], None);
    scene.wait_answer(BRIEF + 1, Some("pod1"));
    scene.fleet.wait_gone("default", "leaving");
    scene.wait_answer(BRIEF, None);
    scene.fleet.wait_mapping("default", "moving", |m| is_true(m, "Programmed"));
    scene.fleet.wait_mapping("default", "new", |m| is_true(m, "Programmed"));
    scene.assert_undisturbed();
    scene.bare.assert_as_fresh(&scene.fleet, 1, run).terminate();
}
