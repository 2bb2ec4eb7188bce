//! The Linux kernel as configured, and what must be right before it is touched.

use smartnat_linux::{InstanceLock, LinuxKernel, LinuxOptions, OpenError, StateDir};

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
        flavour: settings.flavour,
        state_dir: StateDir::new(&settings.state_dir),
        lock_wait_seconds: settings.lock_wait.as_secs(),
    }
}

/// Opens the kernel in the calling thread's network namespace, and says which iptables it is.
pub fn open(options: LinuxOptions) -> Result<LinuxKernel, CommandError> {
    let failed = |error: OpenError| CommandError::Failed(error.to_string());
    let kernel = LinuxKernel::open(options).map_err(failed)?;
    tracing::info!(flavour = ?kernel.flavour(), "iptables found");
    Ok(kernel)
}

/// Makes sure that nobody else changes this network namespace.
pub fn lock(settings: &Settings) -> Result<InstanceLock, CommandError> {
    InstanceLock::acquire(&StateDir::new(&settings.state_dir))
        .map_err(|error| CommandError::Failed(error.to_string()))
}
