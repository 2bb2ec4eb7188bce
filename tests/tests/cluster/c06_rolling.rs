//! Rolling updates as the controllers of deployments and slices do them, under traffic (T9, T10,
//! T18).

use std::collections::BTreeMap;
use std::time::Duration;

use smartnat::lab::traffic::{self, BRIEF, Conversation, PATIENT, Server, Stream, StreamKind};
use smartnat::lab::wait_until;
use smartnat_core::model::Protocol;

use crate::fleet::{Fleet, address_of, external, is_true};
use crate::objects::{State, mapping, service, slice};
use crate::station::{PATIENCE, Run};

/// Pods of the Service at any time.
const REPLICAS: usize = 3;
/// Pods that are replaced: all of them, twice.
const REPLACED: usize = 2 * REPLICAS;
/// After so many connections none of which went to a pod, it gets none.
const ENOUGH: u64 = 60;
const PORT: u16 = 8080;

/// Pods that come and go, each with an address of its own.
struct Pods<'a> {
    fleet: &'a Fleet,
    servers: BTreeMap<usize, Server>,
    /// What the slice says.
    listed: BTreeMap<usize, State>,
}

fn name(pod: usize) -> String {
    format!("p{pod}")
}

fn address(pod: usize) -> String {
    format!("10.244.1.{}", 120 + pod)
}

/// The lab's host that a pod is on.
fn host(pod: usize) -> String {
    format!("pod{}", pod % 3 + 1)
}

impl<'a> Pods<'a> {
    /// Pods `p0`, `p1`, … of a Service that is mapped to [`PORT`].
    fn new(fleet: &'a Fleet, count: usize) -> Self {
        let mut pods = Self { fleet, servers: BTreeMap::new(), listed: BTreeMap::new() };
        for pod in 0..count {
            pods.start(pod);
            pods.listed.insert(pod, State::Ready);
        }
        fleet.plane.apply(&service("default", "rolling", "http"));
        pods.publish();
        fleet.plane.apply(&mapping("default", "rolling", &external(1), PORT, "rolling"));
        pods
    }

    /// A pod that serves, but is not listed yet.
    fn start(&mut self, pod: usize) {
        let lab = &self.fleet.station.lab;
        let with_length = address(pod) + "/24";
        lab.command(&host(pod), &["ip", "address", "add", &with_length, "dev", "eth0"])
            .expect("an address");
        let ip = address(pod).parse().expect("an address");
        let server = Server::start_on(lab, &host(pod), &name(pod), &[ip], &[PORT], &[]);
        self.servers.insert(pod, server.expect("a server"));
    }

    /// The process of a pod ends, and its address goes.
    fn end(&mut self, pod: usize) {
        self.servers.remove(&pod);
        let with_length = address(pod) + "/24";
        let words = ["ip", "address", "del", &with_length, "dev", "eth0"];
        self.fleet.station.lab.command(&host(pod), &words).expect("it has it");
    }

    fn list(&mut self, pod: usize, state: State) {
        self.listed.insert(pod, state);
        self.publish();
    }

    fn unlist(&mut self, pod: usize) {
        self.listed.remove(&pod);
        self.publish();
    }

    fn publish(&self) {
        let endpoints: Vec<_> = self.listed.iter().map(|(p, s)| (address(*p), *s)).collect();
        self.fleet.plane.apply(&slice("default", "rolling", 1, &[("http", PORT)], &endpoints));
    }
}

/// Clients that open connections all the time.
struct Clients(Vec<Stream>);

impl Clients {
    fn start(fleet: &Fleet) -> Self {
        let stream = |_| {
            let (kind, pause) = (StreamKind::NewConnections, Duration::from_millis(3));
            Stream::start(&fleet.station.lab, "client", kind, None, address_of(1, PORT), pause)
                .expect("a stream")
        };
        Self((0..2).map(stream).collect())
    }

    /// Connections that were answered by a pod, and all.
    fn answered(&self, pod: usize) -> (u64, u64) {
        let reports: Vec<_> = self.0.iter().map(Stream::report).collect();
        let by_pod = reports.iter().filter_map(|r| r.servers.get(&name(pod))).sum();
        (by_pod, reports.iter().map(|r| r.answered).sum())
    }

    /// Waits until so many more connections were answered.
    #[track_caller]
    fn wait_more(&self, count: u64) {
        for stream in &self.0 {
            let share = count / u64::try_from(self.0.len()).expect("a few");
            assert!(stream.wait_for_more(share, PATIENCE), "{:?}", stream.report());
        }
    }

    /// Waits until a pod gets new connections.
    #[track_caller]
    fn wait_used(&self, pod: usize) {
        let (before, _) = self.answered(pod);
        let used = wait_until(PATIENCE, || (self.answered(pod).0 > before + 3).then_some(()));
        assert!(used.is_some(), "{}: {:?}", name(pod), self.0[0].report());
    }

    /// Waits until a pod gets none any more.
    #[track_caller]
    fn wait_unused(&self, pod: usize) {
        let mut last = self.answered(pod);
        let unused = wait_until(PATIENCE, || {
            let now = self.answered(pod);
            if now.0 != last.0 {
                last = now;
            }
            (now.1 >= last.1 + ENOUGH).then_some(())
        });
        assert!(unused.is_some(), "{}: {:?}", name(pod), self.0[0].report());
    }

    /// None of their connections failed.
    #[track_caller]
    fn assert_all_answered(self) {
        for stream in self.0 {
            let report = stream.stop();
            assert!(report.answered > ENOUGH, "{report:?}");
            assert_eq!(report.lost(), 0, "{report:?}");
        }
    }
}

/// A connection to this pod.
#[track_caller]
fn converse(fleet: &Fleet, pod: usize) -> Conversation {
    let opened = wait_until(PATIENCE, || {
        let to = address_of(1, PORT);
        let lab = &fleet.station.lab;
        let opened = traffic::open(lab, "client", Protocol::Tcp, None, to, PATIENT);
        let mut opened = opened.expect("the lab").expect("a connection");
        (opened.ask("hello", PATIENT).server() == Some(&name(pod))).then_some(opened)
    });
    opened.unwrap_or_else(|| panic!("{} gets no connection", name(pod)))
}

#[track_caller]
fn assert_lives(conversation: &mut Conversation, pod: usize) {
    assert_eq!(conversation.ask("still there", PATIENT).server(), Some(name(pod).as_str()));
}

/// The gateway has ended it, although the pod would answer.
#[track_caller]
fn wait_ended(mut conversation: Conversation, pod: usize) {
    let ended = wait_until(PATIENCE, || {
        (!conversation.ask("still there", BRIEF).is_answered()).then_some(())
    });
    assert!(ended.is_some(), "{} still answers", name(pod));
}

fn finish(fleet: &Fleet, run: Run, clients: Clients, endpoints: usize) {
    clients.assert_all_answered();
    fleet.wait_mapping("default", "rolling", |m| {
        is_true(m, "Programmed") && m["status"]["endpoints"] == endpoints
    });
    run.terminate();
}

#[test]
fn a_rolling_update_fails_no_connection() {
    let Some(fleet) = Fleet::new(1) else { return };
    let mut pods = Pods::new(&fleet, REPLICAS);
    let run = fleet.serve(1);
    assert!(fleet.station.wait_answer("client", address_of(1, PORT), Some("p0")));
    let clients = Clients::start(&fleet);
    for old in 0..REPLACED {
        let new = old + REPLICAS;
        let mut conversation = converse(&fleet, old);
        let mut other = converse(&fleet, old + 1);
        pods.start(new);
        pods.list(new, State::Ready);
        pods.list(old, State::Draining);
        clients.wait_unused(old);
        clients.wait_used(new);
        assert_lives(&mut conversation, old);
        pods.unlist(old);
        wait_ended(conversation, old);
        pods.end(old);
        assert_lives(&mut other, old + 1);
    }
    finish(&fleet, run, clients, REPLICAS);
}

/// The old pod goes before the new one is ready: it serves until then (T9).
#[test]
fn a_single_pod_serves_until_its_successor_is_ready() {
    let Some(fleet) = Fleet::new(1) else { return };
    let mut pods = Pods::new(&fleet, 1);
    let run = fleet.serve(1);
    assert!(fleet.station.wait_answer("client", address_of(1, PORT), Some("p0")));
    let clients = Clients::start(&fleet);
    for old in 0..REPLICAS {
        let new = old + 1;
        let mut conversation = converse(&fleet, old);
        pods.list(old, State::Draining);
        // Nothing need change in the kernel, so there is nothing else to wait for.
        clients.wait_more(5 * ENOUGH);
        pods.start(new);
        pods.list(new, State::Ready);
        clients.wait_unused(old);
        assert_lives(&mut conversation, old);
        pods.unlist(old);
        wait_ended(conversation, old);
        pods.end(old);
    }
    finish(&fleet, run, clients, 1);
}
