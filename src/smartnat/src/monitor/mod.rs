//! What a run tells of itself over HTTP: health, readiness, metrics, a snapshot.
//!
//! The driver and the tasks around it note what they do in a [`Monitor`], which costs them a
//! short lock at most. A [`Server`] reads it on a thread of its own, so that no request can
//! keep the dataplane waiting, whatever it asks for.

mod answer;
mod health;
mod listen;
mod metrics;
mod recorder;
mod scrape;
mod server;
mod status_gauges;
mod traffic;

#[cfg(test)]
mod tests;

pub use health::{Health, Source};
pub use listen::{ListenError, listen};
pub use metrics::Metrics;
pub use recorder::Recorder;
pub use scrape::Scraper;
pub use server::{MonitorError, Server, SnapshotSource};
pub use traffic::{EndpointCounter, KernelTraffic, RuleCounts, Traffic, TrafficSource};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;

/// Prefix of the names of all metrics.
const PREFIX: &str = "smartnat";
/// How often an event loop shows that it turns.
const BEAT: Duration = Duration::from_secs(1);

/// What is known of a run. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Known>);

#[derive(Debug)]
struct Known {
    registry: Registry,
    metrics: Metrics,
    health: Arc<Health>,
    traffic: Arc<Traffic>,
}

impl Monitor {
    /// A monitor of a run that begins now. A kernel that has not answered for
    /// `kernel_patience` counts as dead.
    pub fn new(kernel_patience: Duration) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = Metrics::register(&mut registry);
        let health = Arc::new(Health::new(Instant::now(), kernel_patience));
        let traffic = Arc::new(Traffic::default());
        let gauges = status_gauges::StatusGauges::new(Arc::clone(&health));
        registry.register_collector(Box::new(gauges));
        registry.register_collector(Box::new(Arc::clone(&traffic)));
        Self(Arc::new(Known { registry, metrics, health, traffic }))
    }

    /// Where events are counted, those of the Kubernetes side included.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What `/healthz` and `/readyz` answer from.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What Mappings have carried.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// A recorder for the one who drives the gateway.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.clone())
    }

    /// Shows that the event loop turns for as long as it does.
    pub async fn beat(self) {
        loop {
            self.health().turned(Instant::now());
            tokio::time::sleep(BEAT).await;
        }
    }

    /// All metrics in the text format of `OpenMetrics`.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// What a panic left behind is as good as before: nothing here spans several changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
