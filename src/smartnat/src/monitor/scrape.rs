//! Brings the counters of Mappings up to date before a scrape, without making it wait for long.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::traffic::TrafficSource;
use super::{Monitor, lock};

/// Values that are younger are told again: several scrapers must not cost several readings.
const FRESH: Duration = Duration::from_secs(3);
/// A scrape waits no longer for counters; it tells older ones. Scrapers wait 10 s by default.
const PATIENCE: Duration = Duration::from_secs(5);

type Shared = Arc<Mutex<Box<dyn TrafficSource>>>;

/// Reads counters when somebody asks for them, one reading at a time.
pub struct Scraper {
    monitor: Monitor,
    source: Option<Shared>,
    /// The reading that is under way or was the last.
    reading: tokio::sync::Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    task: Option<JoinHandle<()>>,
    ended: Option<Instant>,
}

impl Scraper {
    /// A scraper of this source; without one there are no counters of Mappings.
    pub fn new(monitor: Monitor, source: Option<Box<dyn TrafficSource>>) -> Self {
        let source = source.map(|source| Arc::new(Mutex::new(source)));
        Self { monitor, source, reading: tokio::sync::Mutex::default() }
    }

    /// Returns when the counters are up to date, or will not be soon.
    pub(super) async fn refresh(&self) {
        let Some(source) = &self.source else { return };
        if tokio::time::timeout(PATIENCE, self.read_if_old(source)).await.is_err() {
            tracing::debug!("the counters of Mappings take longer than {PATIENCE:?} to read");
        }
    }

    /// What is given up waiting for goes on, and the next one waits for it.
    async fn read_if_old(&self, source: &Shared) {
        let mut reading = self.reading.lock().await;
        if reading.ended.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let task = reading.task.get_or_insert_with(|| {
            let (monitor, source) = (self.monitor.clone(), Arc::clone(source));
            tokio::task::spawn_blocking(move || read(&monitor, &source))
        });
        // A panic in it has been reported where it happened.
        let _ = task.await;
        *reading = Reading { task: None, ended: Some(Instant::now()) };
    }
}

fn read(monitor: &Monitor, source: &Shared) {
    // Nothing is programmed before the first status, and nothing counted.
    let Some(report) = monitor.health().report() else { return };
    match lock(source).read() {
        Ok(counts) => monitor.traffic().add(&counts, &report),
        Err(error) => {
            monitor.metrics().traffic_read_failed();
            tracing::debug!("the counters of Mappings can't be read: {error}");
        }
    }
}

#[cfg(test)]
impl Scraper {
    /// Takes what was read last for old.
    pub(super) async fn expire(&self) {
        self.reading.lock().await.ended = None;
    }
}
