//! What is answered on which path, and to whom.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};
use tokio::sync::Semaphore;

use super::server::{SnapshotSource, is_from_here};
use super::{Monitor, Scraper};

/// A driver that does not hand out a snapshot within this is busy with the kernel or hangs.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(20);
/// A snapshot of 10,000 Mappings takes some 20 MiB: one at a time.
const SNAPSHOTS_AT_ONCE: usize = 1;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PATHS: &str = "\
/healthz         200 while the program is alive, else 503 with the reasons
/readyz          200 while the dataplane is as wanted and was read back, else 503 with the reasons
/healthcheck     /healthz in the words of the Go version
/metrics         metrics in the text format of OpenMetrics
/debug/snapshot  what decisions depend on, for `smartnat explain --snapshot`; from this host only
";

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// Answers requests.
pub(super) struct Answerer {
    monitor: Monitor,
    scraper: Scraper,
    snapshots: SnapshotSource,
    snapshot_turns: Semaphore,
}

impl Answerer {
    pub(super) fn new(monitor: Monitor, scraper: Scraper, snapshots: SnapshotSource) -> Self {
        let snapshot_turns = Semaphore::new(SNAPSHOTS_AT_ONCE);
        Self { monitor, scraper, snapshots, snapshot_turns }
    }

    pub(super) async fn answer(&self, method: &Method, path: &str, peer: SocketAddr) -> Answer {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let now = Instant::now();
        let health = self.monitor.health();
        match path {
            "/" => text(StatusCode::OK, PATHS),
            "/healthz" => verdict(&health.why_dead(now), "ok\n"),
            "/readyz" => verdict(&health.why_not_ready(now), "ready\n"),
            "/healthcheck" => verdict(&health.why_dead(now), &format!("OK {}", rfc3339())),
            "/metrics" => self.metrics().await,
            "/debug/snapshot" if is_from_here(peer) => self.snapshot().await,
            "/debug/snapshot" => text(
                StatusCode::FORBIDDEN,
                "a snapshot is handed out to this host alone; ask on it, on a loopback address\n",
            ),
            _ => text(StatusCode::NOT_FOUND, &format!("there is no such path; known are\n{PATHS}")),
        }
    }

    async fn metrics(&self) -> Answer {
        self.scraper.refresh().await;
        match self.monitor.render() {
            Ok(metrics) => whole(StatusCode::OK, OPEN_METRICS, metrics),
            Err(error) => {
                tracing::error!("metrics can't be rendered: {error}");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be rendered\n")
            }
        }
    }

    async fn snapshot(&self) -> Answer {
        let busy = || text(StatusCode::SERVICE_UNAVAILABLE, "no snapshot can be taken now\n");
        let Ok(_turn) = self.snapshot_turns.acquire().await else { return busy() };
        let taken = tokio::time::timeout(SNAPSHOT_PATIENCE, self.snapshots.take()).await;
        let Ok(Some(scene)) = taken else { return busy() };
        let encoded = tokio::task::spawn_blocking(move || serde_json::to_vec(&scene)).await;
        match encoded {
            Ok(Ok(json)) => whole(StatusCode::OK, JSON, json),
            Ok(Err(error)) => {
                tracing::error!("a snapshot can't be encoded: {error}");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the snapshot can't be encoded\n")
            }
            Err(_) => busy(),
        }
    }
}

/// 200 where there is nothing to object to, else the objections, one a line.
fn verdict(reasons: &[String], good: &str) -> Answer {
    if reasons.is_empty() {
        return text(StatusCode::OK, good);
    }
    let lines: String = reasons.iter().flat_map(|reason| [reason.as_str(), "\n"]).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, &lines)
}

fn text(status: StatusCode, content: &str) -> Answer {
    whole(status, TEXT, content.to_owned())
}

fn whole(status: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(content.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Now, to the second, in UTC.
fn rfc3339() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
