//! The host's links, addresses and routes, and what else the kernel tells.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use smartnat_core::compile::uplink_names;
use smartnat_core::model::{Backend, GatewayConfig, HostState};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_linux::survey::forwarding_users;
use smartnat_linux::{ChangeWatch, Changes, OwnPort, Routing, XtablesSettings, observe_host};
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
    /// How to look for others that need forwarding; absent on a simulated kernel.
    xtables: Option<XtablesSettings>,
    /// Whose changes of nftables are no news: whoever opens a kernel tells.
    pub own: OwnPort,
    /// As it was when it was opened.
    pub first: HostState,
}

impl Host {
    /// Subscribes to the kernel's notifications, then reads the host.
    pub async fn open(xtables: Option<XtablesSettings>) -> Result<Self, OpError> {
        let watch = ChangeWatch::open(xtables.is_some())
            .map_err(|error| OpError::new(OpErrorClass::Denied, "kernel notifications", error))?;
        let own = OwnPort::default();
        let watch = watch.ignoring(own.clone());
        let reader = Reader::start();
        let first = reader.read().await?;
        Ok(Self { watch, reader, xtables, own, first })
    }

    /// Hands on the host as it is, then each change. Where the last uplink may have gone, it
    /// also says who else needs forwarding, before the gateway gives it up (T16).
    pub async fn follow(self, to: mpsc::Sender<Incoming>, config: GatewayConfig) {
        let Self { watch, reader, xtables, own: _, first } = self;
        let last = HostState::default();
        let mut follower = Follower { watch, reader, xtables, config, to, last, failed: false };
        if follower.tell(first).await.is_ok() {
            while follower.follow_once().await.is_ok() {}
        }
    }
}

type Told = Result<(), mpsc::error::SendError<Incoming>>;

struct Follower {
    watch: ChangeWatch,
    reader: Reader,
    xtables: Option<XtablesSettings>,
    config: GatewayConfig,
    to: mpsc::Sender<Incoming>,
    last: HostState,
    /// The last look failed, so that something may have been missed.
    failed: bool,
}

impl Follower {
    async fn follow_once(&mut self) -> Told {
        let changes = self.changes().await;
        let noticed = Instant::now();
        self.failed = !changes.any();
        if changes.host {
            tokio::time::sleep(QUIET).await;
            match self.reader.read().await {
                Ok(host) if host == self.last => {}
                Ok(host) => self.tell(host).await?,
                Err(error) => {
                    tracing::warn!("the host can't be read, trying again: {error}");
                    self.failed = true;
                }
            }
        }
        // After the host: that a route went with its link is no drift.
        // With nftables our own changes are none of these, and its table is not read regularly.
        let by_others = changes.nftables && self.config.backend == Backend::Nftables;
        if by_others {
            self.to.send(Incoming::ReadAnew).await?;
        } else if changes.kernel {
            self.to.send(Incoming::KernelChanged(noticed)).await?;
        }
        Ok(())
    }

    async fn changes(&mut self) -> Changes {
        if self.failed {
            tokio::time::sleep(RETRY).await;
            return Changes::EVERYTHING;
        }
        self.watch.changed().await.unwrap_or_else(|error| {
            tracing::warn!("notifications of the kernel can't be read: {error}");
            Changes::default()
        })
    }

    async fn tell(&mut self, host: HostState) -> Told {
        let has_uplink = !uplink_names(&host, &self.config).is_empty();
        if let Some(settings) = self.xtables.filter(|_| !has_uplink) {
            match tokio::task::spawn_blocking(move || forwarding_users(settings)).await {
                Ok(needed) => self.to.send(Incoming::ForwardingNeeded(needed)).await?,
                Err(error) => tracing::error!("who else needs forwarding is not known: {error}"),
            }
        }
        tracing::debug!(links = host.links.len(), routes = host.routes.len(), "the host as it is");
        self.last = host.clone();
        self.to.send(Incoming::Host(host)).await
    }
}
