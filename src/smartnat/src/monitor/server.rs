//! The HTTP server, on a thread and an event loop of its own.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use smartnat_core::explain::Scene;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::answer::Answerer;
use super::{Monitor, Scraper};
use crate::driver::Incoming;

/// Connections at once: a few probes and scrapers, each for a moment. Those of this host have
/// places of their own, so that nobody outside can keep a probe from its answer.
const MAX_FROM_HERE: usize = 16;
/// The same for all others.
const MAX_FROM_ELSEWHERE: usize = 48;
/// A peer that takes longer to send its request is dropped.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// A request with more bytes before its body is refused; no body is ever read.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// A connection carries one request, and is dropped after this, answered or not.
const CONNECTION_TIME: Duration = Duration::from_mins(1);
/// Pause after a failed accept, which likely fails again at once: no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Why the monitor can't be started.
#[derive(Debug, Error)]
#[error("the thread for health and metrics can't be started: {0}")]
pub struct MonitorError(#[from] io::Error);

/// Whom to ask for a snapshot: the queue of the driver, which the asker must not keep open.
#[derive(Clone, Debug)]
pub struct SnapshotSource(mpsc::WeakSender<Incoming>);

impl SnapshotSource {
    /// Asks through this queue.
    pub fn new(driver: &mpsc::Sender<Incoming>) -> Self {
        Self(driver.downgrade())
    }

    /// What decisions depend on now; `None` when there is nothing yet or nobody to ask.
    pub(super) async fn take(&self) -> Option<Box<Scene>> {
        let (answer, answered) = oneshot::channel();
        self.0.upgrade()?.send(Incoming::Snapshot(answer)).await.ok()?;
        answered.await.ok()?
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers on `listener` from now on.
    pub fn start(
        listener: StdListener,
        monitor: Monitor,
        scraper: Scraper,
        snapshots: SnapshotSource,
    ) -> Result<Self, MonitorError> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let answerer = Arc::new(Answerer::new(monitor, scraper, snapshots));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("monitor".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, answerer) => {}
                    _ = stopped => {}
                }
            });
            // A reading that is under way ends by itself.
            runtime.shutdown_background();
        })?;
        tracing::info!("health and metrics are served on http://{address}/");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Whether a peer is on this host and says so by a loopback address.
pub(super) fn is_from_here(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

async fn serve(listener: TcpListener, answerer: Arc<Answerer>) {
    let from_here = Arc::new(Semaphore::new(MAX_FROM_HERE));
    let from_elsewhere = Arc::new(Semaphore::new(MAX_FROM_ELSEWHERE));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let places = if is_from_here(peer) { &from_here } else { &from_elsewhere };
                // Whoever finds none is better off with a clear end than with a wait.
                let Ok(place) = Arc::clone(places).try_acquire_owned() else {
                    tracing::debug!(%peer, "a request is not accepted: too many at once");
                    continue;
                };
                tokio::spawn(converse(stream, peer, Arc::clone(&answerer), place));
            }
            Err(error) => {
                tracing::warn!("a request for health or metrics can't be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    answerer: Arc<Answerer>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let answerer = Arc::clone(&answerer);
        async move {
            let answer = answerer.answer(request.method(), request.uri().path(), peer).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, "a request ended early: {error}"),
        Err(_) => tracing::debug!(%peer, "a request took longer than {CONNECTION_TIME:?}"),
    }
}
