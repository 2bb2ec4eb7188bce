//! Tells this host and network namespace from any other, and is the same after a restart.

use std::io;

use smartnat_linux::NetworkNamespace;

/// Characters of the boot id that are enough to tell two machines with one name apart.
const BOOT_ID: usize = 8;

/// Identity of the process that holds the Lease of `instance`. After a reboot it is another one,
/// since until the Lease has lapsed nobody knows whether the machine that held it still runs.
pub(super) fn identity(instance: &str) -> io::Result<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot: String = boot.chars().filter(char::is_ascii_hexdigit).take(BOOT_ID).collect();
    let namespace = NetworkNamespace::current()?.inode();
    Ok(format!("{instance}_{boot}-{namespace}"))
}
