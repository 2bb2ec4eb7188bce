//! `smartnat run`.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use smartnat_core::gateway::Gateway;
use smartnat_core::model::{Backend, HostState, IptablesFlavour};
use smartnat_linux::survey::{Uplinks, survey};
use smartnat_linux::{InstanceLock, LinuxOptions, OpenError, XtablesSettings, is_privileged};
use tokio::sync::{Notify, mpsc, oneshot};

use super::handover::hand_over;
use crate::cli::RunArgs;
use crate::driver::host::Host;
use crate::driver::sources::{Manifests, Signals};
use crate::driver::{Driver, Incoming, Journal, KernelThread, ThreadEnded};
use crate::error::{CommandError, Outcome};
use crate::membership::{self, Membership};
use crate::monitor::{self, KernelTraffic, Monitor, Scraper, SnapshotSource};
use crate::settings::{LEGACY_PREFIX, MonitorSettings, Origin, Settings};
use crate::state_files::{StateFiles, remove_if_there};
use crate::{backend, simulated};

/// Events that may wait for the driver.
const QUEUE: usize = 16;

/// Runs until it is told to end.
pub(super) fn run(settings: &Settings, args: &RunArgs) -> Result<Outcome, CommandError> {
    settings.require_uplinks()?;
    if let Some(path) = &args.ready_file {
        remove_if_there(path).map_err(|error| {
            CommandError::Usage(format!("--ready-file {}: {error}", path.display()))
        })?;
    }
    // Released when this function ends, after the kernel thread has done its last work.
    let _lock = lock(settings)?;
    let settings = &backend::chosen(settings);
    let listener = monitor_settings(settings).map_or(Ok(None), monitor::listen);
    let listener = listener.map_err(|error| CommandError::Failed(error.to_string()))?;
    if settings.gateway.backend != Backend::Simulated {
        backend::require_nftables(settings)?;
        backend::refuse_predecessor(settings)?;
        hand_over(settings)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Failed(format!("no event loop: {error}")))?;
    let result = runtime.block_on(drive(settings, args, listener));
    runtime.shutdown_background();
    result.map(|()| Outcome::Success)
}

/// Nobody else may work on this kernel; a simulated one is nobody else's.
fn lock(settings: &Settings) -> Result<Option<InstanceLock>, CommandError> {
    if settings.gateway.backend == Backend::Simulated {
        return Ok(None);
    }
    if !is_privileged() {
        return Err(CommandError::Failed(format!(
            "{}; `--backend simulated` is a dry run that needs none",
            OpenError::NotPrivileged
        )));
    }
    backend::lock(settings).map(Some)
}

async fn drive(
    settings: &Settings,
    args: &RunArgs,
    listener: Option<TcpListener>,
) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    // First, so that a signal finds the loop and not a half-made start.
    let signals = Signals::open().map_err(|error| failed(&error))?;
    let source = Source::open(settings).await?;
    let simulated = settings.gateway.backend == Backend::Simulated;
    let xtables = (!simulated).then(|| backend::xtables_settings(settings));
    let host = Host::open(xtables).await.map_err(|error| failed(&error))?;
    warn_of_partial_matches(settings, &host.first);
    let (to, incoming) = mpsc::channel(QUEUE);
    let monitor = Monitor::new(kernel_patience(settings));
    tokio::spawn(monitor.clone().beat());
    let (kernel, flavour) = start_kernel(settings, &host).await?;
    let _server = serve_monitor(settings, &monitor, listener, flavour, &to)?;
    let ready_file = args.ready_file.clone();
    let files = state_files(settings)?;
    let mut journal = Journal::new(files, settings.gateway.clone(), ready_file, &monitor)
        .map_err(|error| failed(&error))?;
    tracing::info!(
        instance = settings.gateway.instance,
        backend = backend::name(settings.gateway.backend),
        "started"
    );
    let reload = Arc::new(Notify::new());
    if let Some(xtables) = xtables {
        let uplinks = journal.first_uplinks();
        tokio::spawn(look_for_foreigners(serving(settings), xtables, uplinks, to.clone()));
    }
    tokio::spawn(signals.follow(to.clone(), Arc::clone(&reload)));
    tokio::spawn(host.follow(to.clone(), settings.gateway.clone()));
    let driver = Driver::new(Gateway::new(settings.gateway.clone()), kernel, journal);
    let (driver, membership) = source.follow(settings, driver, to, reload, &monitor)?;
    let result = driver.run(incoming).await.map_err(|error| failed(&error));
    if let Some(membership) = membership {
        membership.leave().await;
    }
    result
}

/// Where Mappings come from.
enum Source {
    Manifests(Box<Manifests>),
    Cluster(kube::Client),
}

impl Source {
    async fn open(settings: &Settings) -> Result<Self, CommandError> {
        let Some(directory) = &settings.manifests else {
            return Ok(Self::Cluster(membership::client(settings).await?));
        };
        let manifests = Manifests::open(directory).map_err(|error| {
            CommandError::Usage(format!("{error}; name a directory with --manifests DIR"))
        })?;
        Ok(Self::Manifests(Box::new(manifests)))
    }

    /// From now on the driver is told of them through `to`.
    fn follow(
        self,
        settings: &Settings,
        driver: Driver,
        to: mpsc::Sender<Incoming>,
        reload: Arc<Notify>,
        monitor: &Monitor,
    ) -> Result<(Driver, Option<Membership>), CommandError> {
        match self {
            Self::Manifests(manifests) => {
                tokio::spawn(manifests.follow(to, reload));
                Ok((driver, None))
            }
            Self::Cluster(client) if settings.gateway.backend == Backend::Simulated => {
                membership::only_read(settings, client, to, reload, monitor);
                Ok((driver, None))
            }
            Self::Cluster(client) => {
                let (membership, listeners) =
                    Membership::join(settings, client, to, reload, monitor)?;
                Ok((driver.with_listeners(listeners), Some(membership)))
            }
        }
    }
}

/// A dry run serves its health only where it is told to, since a real run may do so already.
fn monitor_settings(settings: &Settings) -> Option<MonitorSettings> {
    let simulated = settings.gateway.backend == Backend::Simulated;
    (!simulated || settings.origin("monitorPort").is_some()).then_some(settings.monitor)
}

/// How long the kernel may take for one answer: a process of each family, each of which may wait
/// for the lock of others, and some time for what goes by netlink.
fn kernel_patience(settings: &Settings) -> Duration {
    let process = backend::xtables_settings(settings);
    (process.lock_wait + process.process_time) * 2 + Duration::from_mins(1)
}

fn serve_monitor(
    settings: &Settings,
    monitor: &Monitor,
    listener: Option<TcpListener>,
    flavour: Option<IptablesFlavour>,
    driver: &mpsc::Sender<Incoming>,
) -> Result<Option<monitor::Server>, CommandError> {
    let Some(listener) = listener else { return Ok(None) };
    let simulated = settings.gateway.backend == Backend::Simulated;
    let traffic = (!simulated).then(|| {
        let xtables = backend::xtables_settings(settings);
        let source = KernelTraffic::new(flavour, xtables, settings.gateway.mark_mask);
        Box::new(source) as Box<dyn monitor::TrafficSource>
    });
    let scraper = Scraper::new(monitor.clone(), traffic);
    let snapshots = SnapshotSource::new(driver);
    monitor::Server::start(listener, monitor.clone(), scraper, snapshots)
        .map(Some)
        .map_err(|error| CommandError::Failed(error.to_string()))
}

/// The kernel, and the flavour of iptables that it is driven with, if any.
async fn start_kernel(
    settings: &Settings,
    host: &Host,
) -> Result<(KernelThread, Option<IptablesFlavour>), CommandError> {
    let ended = |error: ThreadEnded| CommandError::Failed(error.to_string());
    match settings.gateway.backend {
        Backend::Simulated => {
            tracing::info!("a dry run on a simulated kernel with this host's interfaces");
            let host = host.first.clone();
            let started =
                KernelThread::start(move || Ok::<_, CommandError>(simulated::open(&host)));
            Ok((started.await.map_err(ended)??, None))
        }
        Backend::Nftables | Backend::Iptables => {
            let own_port = host.own.clone();
            let options = LinuxOptions { own_port, ..backend::options(settings) };
            let (tell, told) = oneshot::channel();
            let started = KernelThread::start(move || {
                let kernel = backend::open(options)?;
                if let Some(flavour) = kernel.flavour() {
                    tracing::info!(?flavour, "iptables found");
                }
                // Nobody waits when the program ends already.
                let _ = tell.send(kernel.flavour());
                Ok::<_, CommandError>(kernel)
            })
            .await;
            Ok((started.map_err(ended)??, told.await.ok().flatten()))
        }
    }
}

/// A dry run writes files only where it is told to, since those of a real run may be there.
fn state_files(settings: &Settings) -> Result<Option<StateFiles>, CommandError> {
    let simulated = settings.gateway.backend == Backend::Simulated;
    if simulated && settings.origin("stateDir").is_none() {
        return Ok(None);
    }
    StateFiles::open(&settings.state_dir)
        .map(Some)
        .map_err(|error| CommandError::Failed(format!("the network namespace: {error}")))
}

/// The flavour of iptables that our rules are in; none where nftables carries the dataplane.
fn serving(settings: &Settings) -> Option<IptablesFlavour> {
    (settings.gateway.backend != Backend::Nftables).then_some(settings.flavour)
}

/// Finds what others have on the uplinks, which are dedicated to us (T14).
async fn look_for_foreigners(
    flavour: Option<IptablesFlavour>,
    xtables: XtablesSettings,
    uplinks: oneshot::Receiver<Uplinks>,
    to: mpsc::Sender<Incoming>,
) {
    let Ok(uplinks) = uplinks.await else { return };
    let look = move || survey(flavour, xtables, &uplinks).messages();
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.unwrap_or_else(|error| vec![format!("the survey failed: {error}")]);
    // Nobody listens when the program ends already.
    let _ = to.send(Incoming::Foreign(found)).await;
}

/// The Go version matched any part of a name; whoever relied on that should learn why an
/// interface is not taken.
fn warn_of_partial_matches(settings: &Settings, host: &HostState) {
    let Some(Origin::Variable(variable)) = settings.origin("uplinkPattern") else { return };
    if !variable.starts_with(LEGACY_PREFIX) {
        return;
    }
    for name in partial_matches(&settings.gateway.uplink_pattern, host) {
        tracing::warn!(
            "{variable} matches only a part of the name of interface {name}, which is no uplink; \
             write a pattern of the whole name, or use --uplink {name}"
        );
    }
}

fn partial_matches<'a>(pattern: &str, host: &'a HostState) -> Vec<&'a str> {
    let compiled = |pattern: &str| regex_lite::Regex::new(pattern).ok();
    let (Some(part), Some(whole)) = (compiled(pattern), compiled(&format!("^(?:{pattern})$")))
    else {
        return Vec::new();
    };
    let names = host.links.keys().map(String::as_str);
    names.filter(|name| part.is_match(name) && !whole.is_match(name)).collect()
}

#[cfg(test)]
mod tests {
    use smartnat_core::model::Link;

    use super::*;

    #[test]
    fn interfaces_that_the_go_version_would_have_taken_are_found() {
        let names = ["eth1", "eth10", "veth1", "lo"];
        let links = names.map(|name| (name.to_owned(), Link::default())).into();
        let host = HostState { links, ..HostState::default() };
        assert_eq!(partial_matches("eth1", &host), ["eth10", "veth1"]);
        assert!(partial_matches(".*eth.*", &host).is_empty());
    }
}
