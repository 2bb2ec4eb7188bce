//! `smartnat run`.

use std::sync::Arc;

use smartnat_core::gateway::Gateway;
use smartnat_core::model::{Backend, HostState, IptablesFlavour};
use smartnat_linux::survey::{Uplinks, survey};
use smartnat_linux::{InstanceLock, OpenError, XtablesSettings, is_privileged};
use tokio::sync::{Notify, mpsc, oneshot};

use super::handover::hand_over;
use crate::cli::RunArgs;
use crate::driver::host::Host;
use crate::driver::sources::{Manifests, Signals};
use crate::driver::{Driver, Incoming, Journal, KernelThread, ThreadEnded};
use crate::error::{CommandError, Outcome};
use crate::membership::{self, Membership};
use crate::settings::{LEGACY_PREFIX, Origin, Settings};
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
    let _lock = match settings.gateway.backend {
        Backend::Iptables => Some(preflight(settings)?),
        Backend::Simulated => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Failed(format!("no event loop: {error}")))?;
    let result = runtime.block_on(drive(settings, args));
    runtime.shutdown_background();
    result.map(|()| Outcome::Success)
}

/// Everything without which the first operation must not be.
fn preflight(settings: &Settings) -> Result<InstanceLock, CommandError> {
    if !is_privileged() {
        return Err(CommandError::Failed(format!(
            "{}; `--backend simulated` is a dry run that needs none",
            OpenError::NotPrivileged
        )));
    }
    let lock = backend::lock(settings)?;
    backend::refuse_predecessor(settings)?;
    hand_over(settings)?;
    Ok(lock)
}

async fn drive(settings: &Settings, args: &RunArgs) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    // First, so that a signal finds the loop and not a half-made start.
    let signals = Signals::open().map_err(|error| failed(&error))?;
    let source = Source::open(settings).await?;
    let simulated = settings.gateway.backend == Backend::Simulated;
    let xtables = (!simulated).then(|| backend::xtables_settings(settings));
    let host = Host::open(xtables).await.map_err(|error| failed(&error))?;
    warn_of_partial_matches(settings, &host.first);
    let kernel = start_kernel(settings, &host.first).await?;
    let mut journal =
        Journal::new(state_files(settings)?, settings.gateway.clone(), args.ready_file.clone());
    tracing::info!(
        instance = settings.gateway.instance, backend = ?settings.gateway.backend, "started"
    );
    let (to, incoming) = mpsc::channel(QUEUE);
    let reload = Arc::new(Notify::new());
    if let Some(xtables) = xtables {
        let uplinks = journal.first_uplinks();
        tokio::spawn(look_for_foreigners(settings.flavour, xtables, uplinks, to.clone()));
    }
    tokio::spawn(signals.follow(to.clone(), Arc::clone(&reload)));
    tokio::spawn(host.follow(to.clone(), settings.gateway.clone()));
    let driver = Driver::new(Gateway::new(settings.gateway.clone()), kernel, journal);
    let (driver, membership) = source.follow(settings, driver, to, reload)?;
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
    ) -> Result<(Driver, Option<Membership>), CommandError> {
        match self {
            Self::Manifests(manifests) => {
                tokio::spawn(manifests.follow(to, reload));
                Ok((driver, None))
            }
            Self::Cluster(client) if settings.gateway.backend == Backend::Simulated => {
                membership::only_read(settings, client, to);
                Ok((driver, None))
            }
            Self::Cluster(client) => {
                let (membership, listeners) = Membership::join(settings, client, to)?;
                Ok((driver.with_listeners(listeners), Some(membership)))
            }
        }
    }
}

async fn start_kernel(settings: &Settings, host: &HostState) -> Result<KernelThread, CommandError> {
    let ended = |error: ThreadEnded| CommandError::Failed(error.to_string());
    match settings.gateway.backend {
        Backend::Simulated => {
            tracing::info!("a dry run on a simulated kernel with this host's interfaces");
            let host = host.clone();
            let started = KernelThread::start(move || Ok(simulated::open(&host))).await;
            started.map_err(ended)?
        }
        Backend::Iptables => {
            let options = backend::options(settings);
            let started = KernelThread::start(move || {
                let kernel = backend::open(options)?;
                tracing::info!(flavour = ?kernel.flavour(), "iptables found");
                Ok(kernel)
            })
            .await;
            started.map_err(ended)?
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

/// Finds what others have on the uplinks, which are dedicated to us (T14).
async fn look_for_foreigners(
    flavour: IptablesFlavour,
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
