//! The Linux kernel as configured, and what must be right before it is touched.

use smartnat_core::model::{Backend, GatewayConfig};
use smartnat_core::ops::OpError;
use smartnat_linux::sysctl::Sysctls;
use smartnat_linux::{
    InstanceLock, LinuxKernel, LinuxOptions, NftClient, OpenError, OwnPort, StateDir,
    XtablesSettings, predecessor,
};

use crate::driver::{Counters, CountingKernel};
use crate::error::CommandError;
use crate::settings::Settings;

impl CountingKernel for LinuxKernel {
    fn counters(&self) -> Counters {
        Counters { operations: self.operations(), processes: self.processes_started() }
    }
}

/// How the kernel is to be opened.
pub fn options(settings: &Settings) -> LinuxOptions {
    LinuxOptions {
        backend: settings.gateway.backend,
        flavour: settings.flavour,
        state_dir: StateDir::new(&settings.state_dir),
        lock_wait_seconds: settings.lock_wait.as_secs(),
        sysctls: Sysctls::new(&settings.sysctl_dir),
        own_port: OwnPort::default(),
    }
}

/// The settings with a backend: the one that is named; where that is left open, nftables if the
/// kernel of the calling thread's network namespace has it and lets us use it, else iptables.
/// Reads only.
pub fn chosen(settings: &Settings) -> Settings {
    let mut chosen = settings.clone();
    if settings.automatic_backend {
        let (backend, why) = choose(NftClient::open().map(drop));
        tracing::info!("the backend is {}: {why}", name(backend));
        chosen.gateway = GatewayConfig { backend, ..chosen.gateway };
        chosen.automatic_backend = false;
    }
    chosen
}

/// By what came of asking the kernel for nftables.
fn choose(nftables: Result<(), OpError>) -> (Backend, String) {
    match nftables {
        Ok(()) => (Backend::Nftables, "the kernel has nftables".to_owned()),
        Err(error) => (Backend::Iptables, error.to_string()),
    }
}

/// As the setting is written.
pub fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
        Backend::Simulated => "simulated",
    }
}

/// Refuses to start on nftables that cannot be used: the kernel has none, or somebody else has a
/// table of our name.
pub fn require_nftables(settings: &Settings) -> Result<(), CommandError> {
    if settings.gateway.backend != Backend::Nftables {
        return Ok(());
    }
    let usable = NftClient::open().and_then(|mut client| client.observe());
    usable.map(drop).map_err(|error| CommandError::Failed(error.to_string()))
}

/// Opens the kernel in the calling thread's network namespace.
pub fn open(options: LinuxOptions) -> Result<LinuxKernel, CommandError> {
    let failed = |error: OpenError| CommandError::Failed(error.to_string());
    LinuxKernel::open(options).map_err(failed)
}

/// Makes sure that nobody else changes this network namespace.
pub fn lock(settings: &Settings) -> Result<InstanceLock, CommandError> {
    InstanceLock::acquire(&StateDir::new(&settings.state_dir))
        .map_err(|error| CommandError::Failed(error.to_string()))
}

/// How iptables is called where both flavours are looked into.
pub fn xtables_settings(settings: &Settings) -> XtablesSettings {
    XtablesSettings { lock_wait: settings.lock_wait, ..XtablesSettings::default() }
}

/// How many leftovers a refusal names.
const NAMED: usize = 5;

/// Refuses to start beside what the Go version left (T14): both would translate.
pub fn refuse_predecessor(settings: &Settings) -> Result<(), CommandError> {
    let leftovers = predecessor::find(xtables_settings(settings))
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    for what in &leftovers.unreadable {
        tracing::warn!("could not look for leftovers of the Go version: {what}");
    }
    if leftovers.is_empty() {
        return Ok(());
    }
    let all = leftovers.describe();
    let more = all.len().saturating_sub(NAMED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(CommandError::Failed(format!(
        "the Go version of SmartNat left objects in the kernel: {}{tail}; stop it, then remove \
         them with `smartnat cleanup --legacy`",
        all[..all.len().min(NAMED)].join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use smartnat_core::ops::OpErrorClass;

    use super::*;

    #[test]
    fn what_the_kernel_has_is_chosen_and_the_reason_told() {
        let (backend, why) = choose(Ok(()));
        assert_eq!((backend, why.as_str()), (Backend::Nftables, "the kernel has nftables"));
        let missing = OpError::new(OpErrorClass::Invalid, "nftables", "no module");
        let (backend, why) = choose(Err(missing));
        assert_eq!(backend, Backend::Iptables);
        assert!(why.contains("no module"), "{why}");
    }
}
