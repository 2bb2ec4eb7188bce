use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smartnat_core::model::{Family, GatewayConfig, InterfaceAddress, Link};
use smartnat_core::objects::{Flow, FlowFilter, KernelState, ObservationScope};
use smartnat_core::ops::{Kernel, OpError, Transaction};

use super::*;
use crate::monitor::Monitor;
use crate::simulated::{self, DryRunKernel};
use crate::state_files::{StateFiles, Stats};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A simulated kernel that tells how often it was read.
struct Watched {
    inner: DryRunKernel,
    reads: Arc<AtomicU64>,
    /// Reads from this one on do not come back in an orderly way.
    fails_from: u64,
}

impl Kernel for Watched {
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError> {
        let before = self.reads.fetch_add(1, Ordering::SeqCst);
        assert!(before < self.fails_from, "the test wants the thread to end");
        self.inner.observe(scope)
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        self.inner.apply(transaction)
    }

    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        self.inner.flows(filter)
    }
}

impl CountingKernel for Watched {
    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

fn host() -> HostState {
    let address = InterfaceAddress {
        address: "203.0.113.10/24".parse().expect("a network"),
        link_local: false,
    };
    let link = Link { index: 2, up: true, addresses: vec![address] };
    HostState {
        links: [("eth1".to_owned(), link)].into(),
        routes: Vec::new(),
        families: Family::ALL.to_vec(),
    }
}

struct Running {
    dir: tempfile::TempDir,
    to: mpsc::Sender<Incoming>,
    driver: tokio::task::JoinHandle<Result<(), ThreadEnded>>,
    reads: Arc<AtomicU64>,
    monitor: Monitor,
}

impl Running {
    async fn start(fails_from: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let counter = Arc::new(AtomicU64::new(0));
        let reads = Arc::clone(&counter);
        let kernel = KernelThread::start(move || {
            let inner = simulated::open(&host());
            Ok::<_, OpError>(Watched { inner, reads: counter, fails_from })
        })
        .await
        .expect("the thread starts")
        .expect("the kernel opens");
        let config =
            GatewayConfig { uplink_names: vec!["eth1".into()], ..GatewayConfig::default() };
        let files = StateFiles::open(dir.path()).expect("proc is mounted");
        let monitor = Monitor::new(PATIENCE);
        let ready_file = Some(dir.path().join("ready"));
        let journal = Journal::new(Some(files), config.clone(), ready_file, &monitor)
            .expect("a thread starts");
        let (to, incoming) = mpsc::channel(4);
        let driver = Driver::new(Gateway::new(config), kernel, journal);
        let task = tokio::spawn(driver.run(incoming));
        Self { dir, to, driver: task, reads, monitor }
    }

    async fn send(&self, incoming: Incoming) {
        self.to.send(incoming).await.expect("the driver listens");
    }

    /// All that the gateway needs to begin.
    async fn begin(&self) {
        self.send(Incoming::Host(host())).await;
        self.send(Incoming::Cluster(Vec::new())).await;
    }

    fn files(&self) -> StateFiles {
        StateFiles::open(self.dir.path()).expect("proc is mounted")
    }

    async fn ready(&self) {
        let path = self.dir.path().join("ready");
        until("the ready file is there", || path.exists()).await;
    }

    async fn stop(self) -> (Result<(), ThreadEnded>, tempfile::TempDir) {
        self.send(Incoming::Stop).await;
        (self.driver.await.expect("no panic"), self.dir)
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn stats(path: &Path) -> Stats {
    serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("counters")
}

#[tokio::test]
async fn the_first_sync_makes_the_ready_file_after_status_and_counters() {
    let running = Running::start(u64::MAX).await;
    running.begin().await;
    running.ready().await;
    let report = running.files().read_status().expect("readable").expect("written").report;
    assert!(report.in_sync);
    assert_eq!(report.uplinks.len(), 1);
    let counted = stats(&running.files().stats_path());
    assert_eq!(counted.syncs, 1);
    assert!(counted.operations > 0);
    let (result, _dir) = running.stop().await;
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn what_a_survey_found_goes_with_the_status() {
    let running = Running::start(u64::MAX).await;
    running.begin().await;
    running.ready().await;
    let found = vec!["a program listens".to_owned()];
    running.send(Incoming::Foreign(found.clone())).await;
    let (result, dir) = running.stop().await;
    assert_eq!(result, Ok(()));
    let files = StateFiles::open(dir.path()).expect("proc is mounted");
    let file = files.read_status().expect("readable").expect("written");
    assert_eq!(file.foreign, found);
    assert!(file.report.in_sync);
}

#[tokio::test]
async fn nothing_is_done_before_both_sources_have_told_all() {
    let running = Running::start(u64::MAX).await;
    running.send(Incoming::Host(host())).await;
    running.send(Incoming::KernelChanged(Instant::now())).await;
    let reads = Arc::clone(&running.reads);
    let (result, dir) = running.stop().await;
    assert_eq!(result, Ok(()));
    assert_eq!(reads.load(Ordering::SeqCst), 0);
    assert!(!dir.path().join("ready").exists());
}

#[tokio::test]
async fn a_notification_from_before_the_last_reading_is_no_news_and_a_later_one_is() {
    let running = Running::start(u64::MAX).await;
    let early = Instant::now();
    running.begin().await;
    running.ready().await;
    let reads = running.reads.load(Ordering::SeqCst);
    running.send(Incoming::KernelChanged(early)).await;
    let late = Instant::now() + NOTICE_DELAY * 2;
    running.send(Incoming::KernelChanged(late)).await;
    until("one more reading", || running.reads.load(Ordering::SeqCst) > reads).await;
    let reads_after = Arc::clone(&running.reads);
    let (result, _dir) = running.stop().await;
    assert_eq!(result, Ok(()));
    assert_eq!(reads_after.load(Ordering::SeqCst), reads + 1, "the early one led to nothing");
}

#[tokio::test]
async fn what_is_to_be_read_anew_is_read_however_soon_after_a_reading() {
    let running = Running::start(u64::MAX).await;
    running.begin().await;
    running.ready().await;
    let reads = running.reads.load(Ordering::SeqCst);
    running.send(Incoming::ReadAnew).await;
    until("one more reading", || running.reads.load(Ordering::SeqCst) > reads).await;
    let (result, _dir) = running.stop().await;
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn a_kernel_thread_that_ends_is_an_error_and_no_hang() {
    let running = Running::start(0).await;
    running.begin().await;
    let result = tokio::time::timeout(PATIENCE, running.driver).await.expect("it ends");
    assert_eq!(result.expect("no panic"), Err(ThreadEnded));
}

#[tokio::test]
async fn a_kernel_that_can_not_be_opened_says_why() {
    let refused = || OpError::new(smartnat_core::ops::OpErrorClass::Denied, "x", "no privilege");
    let opened = KernelThread::start(move || Err::<Watched, _>(refused())).await;
    assert_eq!(opened.expect("the thread starts").err(), Some(refused()));
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.parse().ok()
}

#[tokio::test]
async fn a_run_is_ready_after_its_first_sync_and_counts_what_it_did() {
    let running = Running::start(u64::MAX).await;
    let (monitor, now) = (running.monitor.clone(), Instant::now());
    running.send(Incoming::Host(host())).await;
    until("the host is known", || monitor.health().why_not_ready(now).len() == 2).await;
    running.send(Incoming::Cluster(Vec::new())).await;
    running.ready().await;
    assert_eq!(monitor.health().why_not_ready(Instant::now()), Vec::<String>::new());
    let text = monitor.render().expect("rendered");
    assert_eq!(metric(&text, "smartnat_syncs_total{result=\"ok\"}"), Some(1.0), "{text}");
    assert_eq!(metric(&text, "smartnat_sync_duration_seconds_count"), Some(1.0));
    assert_eq!(metric(&text, "smartnat_uplinks"), Some(1.0));
    let verified = metric(&text, "smartnat_last_successful_sync_timestamp_seconds");
    assert!(verified.is_some_and(|at| at > 1.0e9), "{verified:?}");
    for series in [
        "smartnat_kernel_transactions_total{domain=\"iptables\",result=\"ok\"}",
        "smartnat_kernel_operations_total{domain=\"routing\",result=\"ok\"}",
        "smartnat_kernel_reads_total{kind=\"objects\",result=\"ok\"}",
        "smartnat_sync_stage_duration_seconds_count{stage=\"apply\"}",
        "smartnat_sync_stage_duration_seconds_count{stage=\"decide\"}",
    ] {
        assert!(metric(&text, series).is_some_and(|value| value >= 1.0), "{series}\n{text}");
    }
    let (result, _dir) = running.stop().await;
    assert_eq!(result, Ok(()));
    let reasons = monitor.health().why_not_ready(Instant::now());
    assert!(reasons.iter().any(|reason| reason.contains("the program ends")), "{reasons:?}");
}

#[tokio::test]
async fn a_look_at_a_quiet_kernel_is_no_sync_but_shows_that_all_is_well() {
    let running = Running::start(u64::MAX).await;
    running.begin().await;
    running.ready().await;
    let monitor = running.monitor.clone();
    let verified = || {
        let text = monitor.render().expect("rendered");
        metric(&text, "smartnat_last_successful_sync_timestamp_seconds").expect("there")
    };
    let first = verified();
    running.send(Incoming::KernelChanged(Instant::now() + NOTICE_DELAY * 2)).await;
    until("the kernel was looked at", || verified() > first).await;
    let text = monitor.render().expect("rendered");
    assert_eq!(metric(&text, "smartnat_syncs_total{result=\"ok\"}"), Some(1.0), "{text}");
    let (result, _dir) = running.stop().await;
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn a_snapshot_holds_what_the_gateway_was_told() {
    let running = Running::start(u64::MAX).await;
    let (answer, none) = oneshot::channel();
    running.send(Incoming::Snapshot(answer)).await;
    assert_eq!(none.await.expect("an answer"), None, "nothing is known yet");
    running.begin().await;
    running.ready().await;
    let (answer, some) = oneshot::channel();
    running.send(Incoming::Snapshot(answer)).await;
    let scene = some.await.expect("an answer").expect("both sources have told all");
    assert_eq!(scene.host, host());
    assert_eq!(scene.config.uplink_names, ["eth1"]);
    assert!(scene.numbers.contains_key("eth1") && !scene.sysctls.is_empty(), "{scene:?}");
    let (result, _dir) = running.stop().await;
    assert_eq!(result, Ok(()));
}
