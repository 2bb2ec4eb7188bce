//! The host's links, addresses and routes, and what else the kernel tells.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use smartnat_core::model::HostState;
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_linux::{ChangeWatch, Changes, Routing, observe_host};
use tokio::sync::{mpsc, oneshot};

use super::Incoming;

/// Changes of the host that come so close together are handed on as one.
const QUIET: Duration = Duration::from_millis(50);
/// Pause after a failed look at the host.
const RETRY: Duration = Duration::from_secs(1);

type Answer = Result<HostState, OpError>;

/// A thread that reads the host, since reading blocks.
#[derive(Debug)]
struct Reader {
    requests: SyncSender<oneshot::Sender<Answer>>,
}

impl Reader {
    fn start() -> Self {
        let (requests, asked) = sync_channel::<oneshot::Sender<Answer>>(1);
        thread::spawn(move || {
            let mut routing = Routing::open();
            while let Ok(answer) = asked.recv() {
                let host = match &mut routing {
                    Ok(routing) => observe_host(routing),
                    Err(error) => Err(OpError::new(OpErrorClass::Denied, "netlink", error)),
                };
                // Nobody waits when the program ends.
                let _ = answer.send(host);
            }
        });
        Self { requests }
    }

    async fn read(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ended = || OpError::new(OpErrorClass::Transient, "host", "its reader ended");
        self.requests.try_send(answer).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// The host, followed by the kernel's notifications.
#[derive(Debug)]
pub struct Host {
    watch: ChangeWatch,
    reader: Reader,
    /// As it was when it was opened.
    pub first: HostState,
}

impl Host {
    /// Subscribes to the kernel's notifications, then reads the host.
    pub async fn open(nftables: bool) -> Result<Self, OpError> {
        let watch = ChangeWatch::open(nftables)
            .map_err(|error| OpError::new(OpErrorClass::Denied, "kernel notifications", error))?;
        let reader = Reader::start();
        let first = reader.read().await?;
        Ok(Self { watch, reader, first })
    }

    /// Hands on the host as it is, then each change.
    pub async fn follow(self, to: mpsc::Sender<Incoming>) {
        let Self { mut watch, reader, first } = self;
        let mut last = first;
        if to.send(Incoming::Host(last.clone())).await.is_err() {
            return;
        }
        let mut failed = false;
        loop {
            let changes = if failed {
                tokio::time::sleep(RETRY).await;
                Changes::EVERYTHING
            } else {
                watch.changed().await.unwrap_or_else(|error| {
                    tracing::warn!("notifications of the kernel can't be read: {error}");
                    Changes::default()
                })
            };
            failed = !changes.any();
            if changes.kernel && to.send(Incoming::KernelChanged(Instant::now())).await.is_err() {
                return;
            }
            if !changes.host {
                continue;
            }
            tokio::time::sleep(QUIET).await;
            match reader.read().await {
                Ok(host) if host == last => {}
                Ok(host) => {
                    last = host;
                    if to.send(Incoming::Host(last.clone())).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!("the host can't be read, trying again: {error}");
                    failed = true;
                }
            }
        }
    }
}
