//! An API server of this test alone, which can be stopped and started again.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::apiserver;

type Failure = Box<dyn std::error::Error>;

/// Stopped, and its data removed, when dropped.
pub(crate) struct Restartable {
    assets: PathBuf,
    folder: TempDir,
}

impl Restartable {
    /// A new server. `None`, and a word about it, where none can be started.
    pub(crate) fn start() -> Result<Option<Self>, Failure> {
        let Some(assets) = apiserver::assets() else {
            if env::var_os("SMARTNAT_REQUIRE_APISERVER").is_some_and(|v| v == "1") {
                return Err(
                    "SMARTNAT_REQUIRE_APISERVER=1, but there is no API server that can be \
                            started: set KUBEBUILDER_ASSETS"
                        .into(),
                );
            }
            eprintln!("skipped: no API server that can be started (KUBEBUILDER_ASSETS)");
            return Ok(None);
        };
        let server = Self { assets, folder: TempDir::new()? };
        server.resume()?;
        Ok(Some(server))
    }

    /// Starts the server on the data, port and credentials that it had.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        let up = Command::new(self.assets.join("envtest-up"))
            .arg("-d")
            .arg(self.folder.path())
            .output()?;
        if up.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&up.stderr).into())
    }

    /// Kills the server; its storage stays up.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        self.kill_process("kube-apiserver")
    }

    /// Keeps a copy of all that is stored, as it is now; the server runs on.
    pub(crate) fn back_up(&self) -> Result<(), Failure> {
        self.kill()?;
        self.kill_process("etcd")?;
        self.copy("etcd", "etcd.backup")?;
        self.resume()
    }

    /// Puts the copy back in place of what is stored now.
    pub(crate) fn restore(&self) -> Result<(), Failure> {
        self.kill()?;
        self.kill_process("etcd")?;
        std::fs::remove_dir_all(self.folder.path().join("etcd"))?;
        self.copy("etcd.backup", "etcd")?;
        self.resume()
    }

    fn copy(&self, from: &str, to: &str) -> Result<(), Failure> {
        let path = |name| self.folder.path().join(name);
        let copied = Command::new("cp").arg("-a").arg(path(from)).arg(path(to)).status()?;
        if copied.success() { Ok(()) } else { Err(format!("{from} cannot be copied").into()) }
    }

    fn kill_process(&self, name: &str) -> Result<(), Failure> {
        let pid = std::fs::read_to_string(self.folder.path().join(format!("{name}.pid")))?;
        let process = PathBuf::from("/proc").join(pid.trim());
        Command::new("kill").args(["-9", pid.trim()]).status()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        // A zombie has no arguments any more.
        while std::fs::read(process.join("cmdline")).is_ok_and(|arguments| !arguments.is_empty()) {
            if Instant::now() > deadline {
                return Err(format!("{name} does not end").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The file that says how to reach it with all rights.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        let down = Command::new(self.assets.join("envtest-down")).arg(self.folder.path()).status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("the API server of {} may still run", self.folder.path().display());
        }
    }
}
