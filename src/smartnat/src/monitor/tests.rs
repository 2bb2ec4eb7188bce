use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::SystemTime;

use smartnat_core::explain::Scene;
use smartnat_core::gateway::{Event, EventKind};
use smartnat_core::model::{Family, HostState, ObjectKey};
use smartnat_core::objects::{SysctlKey, SysctlState};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_core::status::{Condition, MappingStatus, PortStatus, StatusReport, reason};
use smartnat_linux::RuleCounter;
use tokio::sync::mpsc;

use super::*;
use crate::driver::Incoming;

const PATIENCE: Duration = Duration::from_secs(10);

/// A server on loopback, with its monitor and the driver's end of the queue.
struct Served {
    monitor: Monitor,
    server: Server,
    asked: mpsc::Receiver<Incoming>,
    _driver: mpsc::Sender<Incoming>,
}

fn serve(source: Option<Box<dyn TrafficSource>>) -> Served {
    let monitor = Monitor::new(PATIENCE);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    listener.set_nonblocking(true).expect("a socket");
    let (driver, asked) = mpsc::channel(1);
    let scraper = Scraper::new(monitor.clone(), source);
    let snapshots = SnapshotSource::new(&driver);
    let server = Server::start(listener, monitor.clone(), scraper, snapshots).expect("a thread");
    Served { monitor, server, asked, _driver: driver }
}

/// Sends bytes and reads all that comes.
fn exchange(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and an end");
    answer
}

/// Status and body, and the whole answer.
fn get(served: &Served, path: &str) -> (u16, String, String) {
    let answer =
        exchange(served.server.address(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
    (status, body, answer)
}

fn make_ready(monitor: &Monitor, report: StatusReport) {
    monitor.health().source_known(Source::Cluster);
    monitor.health().source_known(Source::Host);
    monitor.health().reported(Arc::new(report));
}

fn in_sync() -> StatusReport {
    StatusReport { in_sync: true, ..StatusReport::default() }
}

#[test]
fn health_and_readiness_answer_for_themselves() {
    let served = serve(None);
    assert_eq!(get(&served, "/healthz").0, 200);
    let (status, reasons, _) = get(&served, "/readyz");
    assert_eq!(status, 503);
    assert_eq!(reasons.lines().count(), 3, "{reasons}");
    make_ready(&served.monitor, in_sync());
    assert_eq!(get(&served, "/readyz").0, 200);
    let degraded = vec!["no interface matches".to_owned()];
    make_ready(&served.monitor, StatusReport { degraded, ..StatusReport::default() });
    assert_eq!(get(&served, "/readyz").1, "no interface matches\n");
    assert_eq!(get(&served, "/healthz").0, 200, "what is degraded is alive");
}

#[test]
fn healthcheck_speaks_as_the_go_version_did() {
    let served = serve(None);
    let (status, body, _) = get(&served, "/healthcheck");
    let time = body.strip_prefix("OK ").expect("OK first");
    let time: jiff::Timestamp = time.parse().expect("RFC 3339");
    assert_eq!(status, 200);
    assert!(time.duration_until(jiff::Timestamp::now()).as_secs() < 60, "{body}");
}

#[test]
fn the_root_lists_the_paths_and_others_are_refused() {
    let served = serve(None);
    let (status, body, answer) = get(&served, "/");
    assert_eq!(status, 200);
    assert!(answer.to_lowercase().contains("x-content-type-options: nosniff"), "{answer}");
    for line in body.lines() {
        let path = line.split(' ').next().expect("a path");
        // The last one asks the driver, which is not there.
        if path != "/debug/snapshot" {
            assert_ne!(get(&served, path).0, 404, "{path}");
        }
    }
    assert_eq!(get(&served, "/metrics/").0, 404);
    let posted = exchange(
        served.server.address(),
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
    );
    assert!(posted.starts_with("HTTP/1.1 405") && posted.contains("GET, HEAD"), "{posted}");
}

#[test]
fn requests_are_bounded() {
    let served = serve(None);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(60 << 10));
    let mut stream = TcpStream::connect(served.server.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // The server may close before it has read all.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let idle = TcpStream::connect(served.server.address()).expect("it listens");
    assert_eq!(get(&served, "/healthz").0, 200, "an idle peer keeps nobody waiting");
    idle.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let closed = (&idle).read(&mut [0; 16]).expect("closed before the test's patience ends");
    assert_eq!(closed, 0, "a peer that sends nothing is dropped");
}

#[test]
fn too_many_at_once_are_turned_away_until_there_is_room() {
    let served = serve(None);
    let address = served.server.address();
    let connect = || {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    };
    let idle: Vec<TcpStream> = (0..16).map(|_| connect()).collect();
    let begin = Instant::now();
    let turned_away = connect().read(&mut [0; 1]);
    assert!(!matches!(turned_away, Ok(1..)), "{turned_away:?}");
    assert!(begin.elapsed() < Duration::from_secs(3), "at once, not with the idle ones");
    drop(idle);
    let end = Instant::now() + PATIENCE;
    let request = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    loop {
        let mut stream = connect();
        let mut answer = String::new();
        let sent = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
        if sent.is_ok() && answer.starts_with("HTTP/1.1 200") {
            assert!(answer.ends_with("\r\n\r\n"), "HEAD has no body: {answer}");
            return;
        }
        assert!(Instant::now() < end, "there is room again: {answer}");
    }
}

#[test]
fn a_server_that_is_dropped_frees_its_port() {
    let served = serve(None);
    let address = served.server.address();
    drop(served);
    TcpListener::bind(address).expect("free again");
}

#[test]
fn a_snapshot_comes_whole_from_the_driver() {
    let mut served = serve(None);
    let forwarding = SysctlState { value: "1".into(), original: Some("0".into()) };
    let sent = Scene {
        sysctls: [(SysctlKey::Forwarding(Family::V4), forwarding)].into(),
        host: HostState { families: Family::ALL.to_vec(), ..HostState::default() },
        ..Scene::default()
    };
    let answer = Some(Box::new(sent.clone()));
    let (status, body, _) = std::thread::scope(|scope| {
        let asked = &mut served.asked;
        scope.spawn(move || match asked.blocking_recv() {
            Some(Incoming::Snapshot(reply)) => reply.send(answer).expect("somebody waits"),
            other => panic!("a snapshot is asked for: {other:?}"),
        });
        let address = served.server.address();
        let answer = exchange(address, "GET /debug/snapshot HTTP/1.1\r\nHost: x\r\n\r\n");
        let body = answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
        (answer.starts_with("HTTP/1.1 200"), body, answer)
    });
    assert!(status, "{body}");
    let read: Scene = serde_json::from_str(&body).expect("a scene");
    assert_eq!(read, sent);
}

#[tokio::test]
async fn a_snapshot_is_for_this_host_alone() {
    let monitor = Monitor::new(PATIENCE);
    let (driver, _asked) = mpsc::channel(1);
    let scraper = Scraper::new(monitor.clone(), None);
    let answerer = answer::Answerer::new(monitor, scraper, SnapshotSource::new(&driver));
    drop(driver);
    for (peer, status) in [
        ("192.0.2.1:1", 403),
        ("[2001:db8::1]:1", 403),
        ("[::ffff:192.0.2.1]:1", 403),
        ("127.0.0.1:1", 503),
        ("[::1]:1", 503),
        ("[::ffff:127.0.0.1]:1", 503),
    ] {
        let address = peer.parse().expect("an address");
        let got = answerer.answer(&hyper::Method::GET, "/debug/snapshot", address).await;
        assert_eq!(got.status().as_u16(), status, "{peer}");
    }
}

fn condition(kind: &'static str, status: bool, reason: &'static str) -> Condition {
    Condition { kind: kind.into(), status, reason: reason.into(), message: "".into() }
}

/// A Mapping that serves with two endpoints, and one that was rejected.
fn two_mappings() -> StatusReport {
    let external = "203.0.113.10".parse().expect("an address");
    let endpoints =
        [(external, vec!["10.0.0.1:80".into(), "10.0.0.2:80".into()])].into_iter().collect();
    let port = PortStatus { port: "tcp/8080".into(), endpoints, waiting: None };
    let idle = PortStatus {
        port: "udp/53".into(),
        endpoints: [(external, Vec::new())].into_iter().collect(),
        waiting: Some("no such Service".into()),
    };
    let serves = MappingStatus {
        observed_generation: 1,
        uid: String::new(),
        invalid: "no".into(),
        service_vip: None,
        configured_addresses: [(external, Vec::new())].into_iter().collect(),
        conditions: vec![
            condition(reason::ACCEPTED, true, reason::VALID),
            condition(reason::PROGRAMMED, true, reason::WAITING),
        ],
        ports: vec![port.clone(), idle],
        pods: Vec::new(),
        released: false,
        remarks: Vec::new(),
    };
    let rejected = MappingStatus {
        configured_addresses: std::iter::empty().collect(),
        conditions: vec![
            condition(reason::ACCEPTED, false, reason::CONFLICT),
            condition(reason::PROGRAMMED, false, reason::NOT_ACCEPTED),
        ],
        ports: Vec::new(),
        ..serves.clone()
    };
    let mappings = [
        (ObjectKey::new("default", "echo"), Arc::new(serves)),
        (ObjectKey::new("b", "late"), Arc::new(rejected)),
    ];
    StatusReport { mappings: mappings.into_iter().collect(), ..in_sync() }
}

#[test]
fn metrics_are_open_metrics_and_tell_the_status() {
    let served = serve(None);
    make_ready(&served.monitor, two_mappings());
    let (status, body, answer) = get(&served, "/metrics");
    assert_eq!(status, 200);
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.contains(kind), "{answer}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    for line in [
        concat!("smartnat_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "smartnat_ready 1",
        "smartnat_in_sync 1",
        "smartnat_endpoints 2",
        "smartnat_ports_waiting 1",
        "smartnat_mappings{condition=\"Accepted\",status=\"True\",reason=\"Valid\"} 1",
        "smartnat_mappings{condition=\"Accepted\",status=\"False\",reason=\"Conflict\"} 1",
        "smartnat_mappings{condition=\"Programmed\",status=\"True\",reason=\"Waiting\"} 1",
        "smartnat_syncs_total{result=\"ok\"} 0",
        "# UNIT smartnat_sync_duration_seconds seconds",
        "smartnat_last_successful_sync_timestamp_seconds 0.0",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is missing in\n{body}");
    }
    assert!(!body.contains("smartnat_leader"), "nobody has said yet who leads:\n{body}");
    assert!(!body.contains("smartnat_mapping_"), "there is no source of counters:\n{body}");
}

#[test]
fn what_the_kubernetes_side_tells_is_told_on() {
    let monitor = Monitor::new(PATIENCE);
    let metrics = monitor.metrics();
    metrics.api_error("conflict");
    metrics.watch_restarted("services");
    metrics.watch_restarted("services");
    metrics.api_write("status", "ok");
    metrics.leader(true);
    metrics.lease_renewed(SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    let text = monitor.render().expect("rendered");
    for line in [
        "smartnat_api_errors_total{class=\"conflict\"} 1",
        "smartnat_watch_restarts_total{resource=\"services\"} 2",
        "smartnat_api_writes_total{kind=\"status\",result=\"ok\"} 1",
        "smartnat_leader 1",
        "smartnat_lease_renewed_timestamp_seconds 7.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    metrics.leader(false);
    assert!(monitor.render().expect("rendered").contains("smartnat_leader 0\n"));
}

#[test]
fn events_are_counted_by_kind_and_repairs_once_more() {
    let monitor = Monitor::new(PATIENCE);
    let recorder = monitor.recorder();
    for kind in [EventKind::Accepted, EventKind::DriftRepaired] {
        recorder.event(&Event { kind, mapping: None, message: String::new() });
    }
    let text = monitor.render().expect("rendered");
    assert!(text.contains("smartnat_events_total{kind=\"accepted\"} 1\n"), "{text}");
    assert!(text.contains("smartnat_events_total{kind=\"drift_repaired\"} 1\n"), "{text}");
    assert!(text.contains("smartnat_drift_repairs_total 1\n"), "{text}");
}

/// Counts its readings; each finds one packet more. The third fails.
struct Counting(u64);

impl TrafficSource for Counting {
    fn read(&mut self) -> Result<RuleCounts, OpError> {
        self.0 += 1;
        if self.0 == 3 {
            return Err(OpError::new(OpErrorClass::Transient, "iptables", "busy"));
        }
        let key = ObjectKey::new("default", "echo");
        let rule = RuleCounter {
            family: Family::V4,
            chain: smartnat_core::names::mapping_chain(&key).0,
            rule: "-p tcp -j SMARTNAT-P-X".into(),
            packets: self.0,
            bytes: 60,
        };
        Ok(RuleCounts { rules: vec![rule], ..RuleCounts::default() })
    }
}

#[tokio::test]
async fn scrapes_that_follow_close_share_a_reading_and_a_failed_one_tells_older_values() {
    let monitor = Monitor::new(PATIENCE);
    let scraper = Scraper::new(monitor.clone(), Some(Box::new(Counting(0))));
    scraper.refresh().await;
    assert!(!monitor.render().expect("rendered").contains("smartnat_mapping_"), "no status yet");
    make_ready(&monitor, two_mappings());
    let line = |packets: u64| {
        format!(
            "smartnat_mapping_new_connections_total{{mapping=\"default/echo\",verdict=\
             \"translated\"}} {packets}\n"
        )
    };
    scraper.expire().await;
    scraper.refresh().await;
    scraper.refresh().await;
    let text = monitor.render().expect("rendered");
    assert!(text.contains(&line(1)), "{text}");
    assert!(!text.contains("b/late\",verdict"), "it is not served here: {text}");
    scraper.expire().await;
    scraper.refresh().await;
    assert!(monitor.render().expect("rendered").contains(&line(2)));
    scraper.expire().await;
    scraper.refresh().await;
    let text = monitor.render().expect("rendered");
    assert!(text.contains(&line(2)), "{text}");
    assert!(text.contains("smartnat_traffic_read_failures_total 1\n"), "{text}");
}

/// The names of all metrics, with the suffixes of their series.
fn all_names() -> Vec<String> {
    let monitor = Monitor::new(PATIENCE);
    let metrics = monitor.metrics();
    metrics.api_error("conflict");
    metrics.watch_restarted("services");
    metrics.api_write("status", "ok");
    metrics.leader(true);
    metrics.lease_renewed(SystemTime::now());
    metrics.event(EventKind::Accepted);
    metrics.read("objects", None);
    metrics.transaction(smartnat_core::ops::Domain::Sets, 1, None);
    let report = two_mappings();
    monitor
        .traffic()
        .add(&RuleCounts { flows: Some(Vec::new()), ..RuleCounts::default() }, &report);
    make_ready(&monitor, report);
    let text = monitor.render().expect("rendered");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect()
}

fn names_in(text: &str) -> std::collections::BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("smartnat_")).collect()
}

#[test]
fn guide_alerts_and_dashboard_name_metrics_that_exist_and_the_guide_names_all() {
    let mut names = all_names();
    // Only where the kernel tracks connections.
    names.extend(["", "_limit"].map(|end| format!("smartnat_conntrack_entries{end}")));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let guide = read("docs/monitoring.md");
    for path in [
        "docs/monitoring.md",
        "deploy/alerts/smartnat.rules.yaml",
        "deploy/dashboards/smartnat.json",
    ] {
        let text = read(path);
        let told = names_in(&text);
        assert!(!told.is_empty(), "{path}");
        for name in told {
            let plain = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(names.iter().any(|known| known == plain), "{path}: there is no {name}");
        }
    }
    let told = names_in(&guide);
    for name in &names {
        assert!(told.contains(name.as_str()), "the guide does not tell of {name}");
    }
}

#[test]
fn alerts_and_dashboard_are_well_formed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let rules: serde_json::Value =
        serde_yaml_ng::from_str(&read("alerts/smartnat.rules.yaml")).expect("YAML");
    for rule in rules["groups"][0]["rules"].as_array().expect("rules") {
        for field in ["alert", "expr"] {
            assert!(rule[field].is_string(), "{field} of {rule}");
        }
        assert!(rule["labels"]["severity"].is_string(), "{rule}");
        assert!(rule["annotations"]["summary"].is_string(), "{rule}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("dashboards/smartnat.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 5));
}
