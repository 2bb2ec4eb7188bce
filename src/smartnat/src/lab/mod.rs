//! Throw-away networks of namespaces on this machine, with real traffic in them.
//!
//! A [`Lab`] is a [`Topology`] made real: one network namespace a host, veth pairs and
//! bridges between them. Everything goes when it is dropped, and what a killed process
//! left goes when the next one starts. Labs of several processes run side by side.

mod error;
mod namespace;
mod plan;
mod process;
mod registry;
mod sniffer;
#[cfg(test)]
mod tests;
pub mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use smartnat_sim::topology::Topology;

pub use error::LabError;
use namespace::Namespace;
pub use process::LabProcess;
pub use registry::remove_all;
pub use sniffer::{Direction, Packet, Sniffer, Transport};

/// How long links may take to come up.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running network. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    /// Number in the registry of live labs.
    id: u32,
    topology: Topology,
    namespaces: BTreeMap<String, Namespace>,
}

/// Whether this process may build labs.
///
/// Where it may not, it says so on standard error and returns false, for a test to end there;
/// with `SMARTNAT_REQUIRE_PRIVILEGES=1` it panics instead, so that nothing is skipped unseen.
pub fn available() -> bool {
    let Err(reason) = check_privileges() else { return true };
    let required = std::env::var_os("SMARTNAT_REQUIRE_PRIVILEGES").is_some_and(|v| v == "1");
    assert!(!required, "SMARTNAT_REQUIRE_PRIVILEGES=1, but {reason}");
    eprintln!("skipped: {reason}");
    false
}

/// Why this process may not build labs, if it may not.
pub fn check_privileges() -> Result<(), LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::Unprivileged);
    }
    match Command::new("ip").arg("-Version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(LabError::NoIproute2),
    }
}

impl Lab {
    /// Makes `topology` real and waits until its links are up.
    pub fn build(topology: &Topology) -> Result<Self, LabError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        check_privileges()?;
        let problems = topology.problems();
        if !problems.is_empty() {
            return Err(LabError::Topology(problems));
        }
        registry::remove_leftovers_once();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        registry::enter(id);
        // From here on, dropping it removes what exists so far.
        let mut lab = Self { id, topology: topology.clone(), namespaces: BTreeMap::new() };
        let plan = plan::Plan::of(topology, &|host| registry::namespace_name(id, host));
        for host in plan.hosts.keys() {
            lab.namespaces.insert(host.clone(), registry::create_namespace(id, host)?);
        }
        for (host, steps) in &plan.hosts {
            lab.set_sysctls(host, &steps.sysctls_before)?;
        }
        for (host, steps) in &plan.hosts {
            lab.ip_batch(host, &steps.links)?;
        }
        for (host, steps) in &plan.hosts {
            lab.ip_batch(host, &steps.configuration)?;
            lab.set_sysctls(host, &steps.sysctls_after)?;
        }
        for host in plan.hosts.keys() {
            lab.wait_for_links(host)?;
        }
        Ok(lab)
    }

    /// The description that it was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The name of the host's namespace, as `ip netns` knows it.
    pub fn namespace(&self, host: &str) -> Result<&str, LabError> {
        Ok(self.host(host)?.name())
    }

    /// Where the names of all its namespaces are, the switch's included.
    pub fn namespace_paths(&self) -> Vec<PathBuf> {
        self.namespaces.values().map(Namespace::path).collect()
    }

    /// The host's addresses, in the order of the description.
    pub fn addresses(&self, host: &str) -> Vec<IpAddr> {
        self.topology.addresses(host).collect()
    }

    /// Runs `work` on a fresh thread inside the host's namespace. A panic goes on in the caller.
    pub fn run<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.host(host)?.run(work)
    }

    /// Starts a thread inside the host's namespace that outlives this call.
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<std::thread::JoinHandle<T>, LabError> {
        self.host(host)?.spawn_thread(work)
    }

    /// Starts a program inside the host's namespace; it is killed when the result is dropped.
    pub fn spawn(&self, host: &str, mut command: Command) -> Result<LabProcess, LabError> {
        LabProcess::start(self.id, || {
            self.run(host, || command.spawn())?
                .map_err(|e| LabError::Program(command.get_program().to_string_lossy().into(), e))
        })
    }

    /// Runs a program to its end inside the host's namespace.
    pub fn output(&self, host: &str, words: &[&str]) -> Result<Output, LabError> {
        let (program, arguments) = words.split_first().ok_or(LabError::NoProgram)?;
        self.run(host, || Command::new(program).args(arguments).stdin(Stdio::null()).output())?
            .map_err(|e| LabError::Program((*program).into(), e))
    }

    /// What a program prints that must succeed, inside the host's namespace.
    pub fn command(&self, host: &str, words: &[&str]) -> Result<String, LabError> {
        let output = self.output(host, words)?;
        if !output.status.success() {
            return Err(LabError::Failed {
                host: host.into(),
                command: words.join(" "),
                message: String::from_utf8_lossy(&output.stderr).trim().into(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into())
    }

    /// Sets a sysctl of the host by its dotted name (interfaces with dots are not known here).
    pub fn set_sysctl(&self, host: &str, key: &str, value: &str) -> Result<(), LabError> {
        self.set_sysctls(host, &[(key.into(), value.into())])
    }

    /// Reads a sysctl of the host by its dotted name.
    pub fn sysctl(&self, host: &str, key: &str) -> Result<String, LabError> {
        let path = sysctl_path(key);
        let value = self.run(host, || fs::read_to_string(&path))?;
        Ok(value.map_err(|e| LabError::Sysctl(key.into(), e))?.trim().into())
    }

    fn host(&self, host: &str) -> Result<&Namespace, LabError> {
        self.namespaces.get(host).ok_or_else(|| LabError::UnknownHost(host.into()))
    }

    fn set_sysctls(&self, host: &str, settings: &[(String, String)]) -> Result<(), LabError> {
        self.run(host, || {
            settings.iter().try_for_each(|(key, value)| {
                fs::write(sysctl_path(key), value).map_err(|e| LabError::Sysctl(key.clone(), e))
            })
        })?
    }

    fn ip_batch(&self, host: &str, lines: &[String]) -> Result<(), LabError> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.join("\n") + "\n";
        let output =
            self.run(host, || process::run_with_input("ip", &["-batch", "-"], &text))??;
        if output.status.success() {
            return Ok(());
        }
        Err(LabError::Failed {
            host: host.into(),
            command: format!("ip -batch -\n{text}"),
            message: String::from_utf8_lossy(&output.stderr).trim().into(),
        })
    }

    /// Waits for carrier on every interface and for IPv6 addresses that may be used.
    fn wait_for_links(&self, host: &str) -> Result<(), LabError> {
        let end = Instant::now() + LINK_PATIENCE;
        loop {
            let links = self.command(host, &["ip", "-oneline", "link", "show"])?;
            let addresses = self.command(host, &["ip", "-oneline", "address", "show"])?;
            // A bridge forwards whatever its own state is said to be.
            let counts = |l: &&str| !l.contains("LOOPBACK") && !l.contains(" br");
            let down = links.lines().filter(counts).find(|l| !l.contains("state UP"));
            let tentative = addresses.lines().find(|l| l.contains("tentative"));
            let Some(waiting) = down.or(tentative) else { return Ok(()) };
            if Instant::now() > end {
                return Err(LabError::LinkDown { host: host.into(), link: waiting.into() });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Files that refer to the namespaces are closed first, so that the kernel frees them at once.
        self.namespaces.clear();
        registry::remove(self.id);
    }
}

/// Waits until `condition` yields something, at most for `patience`.
pub fn wait_until<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}
