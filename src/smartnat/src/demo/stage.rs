//! The lab, the files and the controller of one demo.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smartnat_core::model::IptablesFlavour;
use smartnat_sim::topology::{StandardOptions, standard};

use super::host_state::HostState;
use super::manifests::{self, EndpointEdit};
use super::{DemoError, DemoOptions, interrupt};
use crate::lab::traffic::Server;
use crate::lab::{Lab, LabProcess, wait_until};
use crate::state_files::{StateFiles, Stats};

/// The host that the controller runs on.
pub(super) const GATEWAY: &str = "gateway";

/// The pods, in order.
pub(super) const PODS: [&str; 3] = ["pod1", "pod2", "pod3"];

/// How long the controller may take to start, to end, to clean up.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(30);

/// Lines of the controller's log that are shown after a failure.
const LOG_LINES: usize = 12;

/// TCP ports of every pod.
const TCP_PORTS: [u16; 1] = [8080];

/// UDP ports of every pod: one, and those of the range.
const UDP_PORTS: [u16; 11] = [5353, 5060, 5061, 5062, 5063, 5064, 5065, 5066, 5067, 5068, 5069];

/// Everything that exists while the demo runs; dropping it removes it.
pub(super) struct Stage {
    controller: Option<LabProcess>,
    servers: Vec<Server>,
    lab: Lab,
    program: PathBuf,
    flavour: IptablesFlavour,
    directory: Directory,
    before: HostState,
}

/// How a start went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) took: Duration,
    pub(super) stats: Stats,
}

impl Stage {
    /// Builds the network, starts the servers in the pods, writes the manifests.
    pub(super) fn set_up(options: &DemoOptions) -> Result<Self, DemoError> {
        let path = unused_path();
        interrupt::remove_on_signal(path.clone())?;
        let directory = Directory::create(path)?;
        fs::create_dir(directory.manifests()).map_err(|e| directory.error(e))?;
        manifests::write_samples(&directory.manifests())?;
        let lab = Lab::build(&standard(StandardOptions::default()))?;
        let start = |pod| Server::start(&lab, pod, &TCP_PORTS, &UDP_PORTS);
        let servers = PODS.into_iter().map(start).collect::<Result<_, _>>()?;
        let before = HostState::read(&lab, GATEWAY)?;
        Ok(Self {
            controller: None,
            servers,
            lab,
            program: options.program.clone(),
            flavour: options.flavour,
            directory,
            before,
        })
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// The gateway before the controller touched it.
    pub(super) fn before(&self) -> &HostState {
        &self.before
    }

    /// Requests that any pod has seen.
    pub(super) fn requests(&self) -> u64 {
        self.servers.iter().map(Server::requests).sum()
    }

    /// Starts the controller and waits until it has read back what it programmed.
    pub(super) fn start_controller(&mut self) -> Result<Started, DemoError> {
        let begin = Instant::now();
        let ready = self.directory.0.join("ready");
        let mut command = self.command("run")?;
        command.arg("--manifests").arg(self.directory.manifests());
        command.arg("--uplink-pattern").arg("ext[0-9]").arg("--ready-file").arg(&ready);
        // A file of the run before would say yes too early.
        let _ = fs::remove_file(&ready);
        let mut controller = self.lab.spawn(GATEWAY, command)?;
        let started = wait_until(CONTROLLER_PATIENCE, || {
            let ended = controller.try_wait().ok().flatten();
            if ended.is_some() { Some(false) } else { ready.exists().then_some(true) }
        });
        let took = begin.elapsed();
        self.controller = Some(controller);
        match started {
            Some(true) => Ok(Started { took, stats: self.stats()? }),
            Some(false) => Err(self.controller_error("the controller ended at its start")),
            None => Err(self.controller_error("the controller did not become ready")),
        }
    }

    /// Ends the controller without warning.
    pub(super) fn kill_controller(&mut self) {
        // Dropping it kills it.
        self.controller = None;
    }

    /// Asks the controller to end and waits for that.
    pub(super) fn end_controller(&mut self) -> Result<(), DemoError> {
        let Some(mut controller) = self.controller.take() else { return Ok(()) };
        let failed = |e| DemoError::Io("the controller".into(), e);
        controller.terminate().map_err(failed)?;
        match controller.wait(CONTROLLER_PATIENCE).map_err(failed)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.controller_error(&format!("the controller ended: {status}"))),
            None => Err(self.controller_error("the controller did not end on SIGTERM")),
        }
    }

    /// Runs `smartnat cleanup` on the gateway.
    pub(super) fn clean_up(&mut self) -> Result<(), DemoError> {
        let mut process = self.lab.spawn(GATEWAY, self.command("cleanup")?)?;
        match process.wait(CONTROLLER_PATIENCE) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(self.controller_error(&format!("cleanup ended: {status}"))),
            _ => Err(self.controller_error("cleanup did not end")),
        }
    }

    /// What the running controller has done so far.
    pub(super) fn stats(&self) -> Result<Stats, DemoError> {
        let directory = self.directory.state();
        let read = || {
            let path = StateFiles::open(&directory)?.stats_path();
            Ok(serde_json::from_slice(&fs::read(path)?)?)
        };
        self.lab.run(GATEWAY, read)?.map_err(|e| DemoError::Io("the statistics".into(), e))
    }

    /// Edits the endpoints of a pod in the manifests.
    pub(super) fn edit_pod(&self, pod: &str, edit: EndpointEdit) -> Result<(), DemoError> {
        manifests::edit_endpoints(&self.directory.manifests(), &self.lab.addresses(pod), edit)
    }

    /// The end of the controller's log.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.directory.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn controller_error(&self, what: &str) -> DemoError {
        DemoError::Controller { what: what.into(), log: self.log_tail() }
    }

    /// The program with its own state and log, whatever the environment configures.
    fn command(&self, subcommand: &str) -> Result<Command, DemoError> {
        let log = File::options().create(true).append(true).open(self.directory.log());
        let log = log.map_err(|e| self.directory.error(e))?;
        let flavour = match self.flavour {
            IptablesFlavour::Auto => "auto",
            IptablesFlavour::Nft => "nft",
            IptablesFlavour::Legacy => "legacy",
        };
        let mut command = Command::new(&self.program);
        command.arg(subcommand).args(["--iptables-flavour", flavour]);
        command.arg("--state-dir").arg(self.directory.state());
        for (name, _) in std::env::vars_os() {
            let ours = name
                .to_str()
                .is_some_and(|n| n.starts_with("SMARTNAT_") || n.starts_with("SNCTRLR_"));
            if ours {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }
}

/// An external endpoint of the samples.
pub(super) fn end(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("a constant address"), port)
}

/// A path that no earlier run can have left.
fn unused_path() -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("smartnat-demo-{}-{}", std::process::id(), now.as_nanos());
    std::env::temp_dir().join(name)
}

/// A directory that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn create(path: PathBuf) -> Result<Self, DemoError> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(DemoError::Io(path.display().to_string(), error)),
        }
    }

    fn manifests(&self) -> PathBuf {
        self.0.join("manifests")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn error(&self, error: std::io::Error) -> DemoError {
        DemoError::Io(self.0.display().to_string(), error)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Whether it worked is told by the last step.
        let _ = fs::remove_dir_all(&self.0);
    }
}
