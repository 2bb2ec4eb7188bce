//! Network namespaces, the files and the controller of one demo.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smartnat_core::model::{Backend, IptablesFlavour, Protocol};
use smartnat_sim::topology::{StandardOptions, standard};

use super::{Comparison, Flow, GATEWAY, PODS, Request, Stage, Started, TCP_PORTS, UDP_PORTS, end};
use crate::demo::host_state::HostState;
use crate::demo::manifests::{self, EndpointEdit};
use crate::demo::report::Kernel;
use crate::demo::story::Finding;
use crate::demo::{DemoError, DemoOptions, interrupt};
use crate::lab::traffic::{
    self, BRIEF, Conversation, Outcome, PATIENT, Server, Stream, StreamReport,
};
use crate::lab::{Direction, Lab, LabProcess, Sniffer, wait_until};
use crate::state_files::{StateFiles, Stats};

/// How long the controller may take to start, to end, to clean up.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(30);

/// Wait for an answer on a connection that is about to end.
const QUICK: Duration = Duration::from_millis(100);

/// Pause between two requests of a stream.
const INTERVAL: Duration = Duration::from_millis(2);

/// Lines of the controller's log that are shown after a failure.
const LOG_LINES: usize = 12;

/// Everything that exists while the demo runs; dropping it removes it.
pub(in crate::demo) struct LinuxStage {
    controller: Option<LabProcess>,
    streams: Vec<Stream>,
    servers: Vec<Server>,
    lab: Lab,
    program: PathBuf,
    backend: Backend,
    flavour: IptablesFlavour,
    directory: Directory,
    before: HostState,
}

impl LinuxStage {
    /// Builds the network, starts the servers in the pods, writes the manifests.
    pub(in crate::demo) fn set_up(options: &DemoOptions) -> Result<Self, DemoError> {
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
            streams: Vec::new(),
            servers,
            lab,
            program: options.program.clone(),
            backend: options.backend,
            flavour: options.flavour,
            directory,
            before,
        })
    }

    /// What the running controller has done so far.
    fn stats(&self) -> Result<Stats, DemoError> {
        let directory = self.directory.state();
        let read = || {
            let path = StateFiles::open(&directory)?.stats_path();
            Ok(serde_json::from_slice(&fs::read(path)?)?)
        };
        self.lab.run(GATEWAY, read)?.map_err(|e| DemoError::Io("the statistics".into(), e))
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
        let backend = if self.backend == Backend::Nftables { "nftables" } else { "iptables" };
        command.arg(subcommand).args(["--backend", backend, "--iptables-flavour", flavour]);
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

impl Stage for LinuxStage {
    type Conversation = Conversation;
    type Watch = Sniffer;

    const KERNEL: Kernel = Kernel::Linux;

    fn description(&self) -> String {
        let hosts = self.lab.topology().hosts.len();
        format!("{hosts} hosts, each a network namespace of its own")
    }

    fn ask(
        &mut self,
        client: &str,
        from: Option<IpAddr>,
        how: Protocol,
        to: SocketAddr,
    ) -> Outcome {
        ask(&self.lab, (client, from, how, to), PATIENT)
    }

    fn ask_in_vain(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let lab = &self.lab;
        std::thread::scope(|scope| {
            let ask_one = |&(client, from, how, address, port): &Request| {
                let request = (client, from.parse().ok(), how, end(address, port));
                scope.spawn(move || ask(lab, request, BRIEF))
            };
            let asked: Vec<_> = requests.iter().map(ask_one).collect();
            let outcome = |thread: ScopedJoinHandle<'_, Outcome>| {
                thread.join().unwrap_or(Outcome::Failed("a panic".into()))
            };
            asked.into_iter().map(outcome).collect()
        })
    }

    fn silence(&self) -> Option<Duration> {
        Some(BRIEF)
    }

    fn requests(&self) -> u64 {
        self.servers.iter().map(Server::requests).sum()
    }

    fn open(
        &mut self,
        client: &str,
        to: SocketAddr,
    ) -> Result<Result<Conversation, Outcome>, DemoError> {
        Ok(traffic::open(&self.lab, client, Protocol::Tcp, None, to, PATIENT)?)
    }

    fn ask_on(&mut self, conversation: &mut Conversation, request: &str) -> Outcome {
        conversation.ask(request, PATIENT)
    }

    fn ask_on_ending(&mut self, conversation: &mut Conversation) -> Outcome {
        conversation.ask("still there", QUICK)
    }

    fn local(conversation: &Conversation) -> SocketAddr {
        conversation.local()
    }

    fn start_streams(&mut self, flows: &[Flow]) -> Result<(), DemoError> {
        for &(client, kind, address, port) in flows {
            let to = end(address, port);
            self.streams.push(Stream::start(&self.lab, client, kind, None, to, INTERVAL)?);
        }
        Ok(())
    }

    fn streams(&self) -> Vec<StreamReport> {
        self.streams.iter().map(Stream::report).collect()
    }

    fn stop_streams(&mut self) -> Vec<StreamReport> {
        self.streams.drain(..).map(Stream::stop).collect()
    }

    fn wait_until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) -> bool {
        wait_until(PATIENT, || condition(self).then_some(())).is_some()
    }

    fn retransmissions(&self) -> Result<Option<u64>, DemoError> {
        let hosts = ["client1", "client2"].into_iter().chain(PODS);
        let counts = hosts.map(|host| traffic::retransmissions(&self.lab, host));
        Ok(Some(counts.sum::<Result<u64, _>>()?))
    }

    fn watch(&mut self, interface: &'static str) -> Result<Sniffer, DemoError> {
        Ok(Sniffer::start(&self.lab, GATEWAY, interface)?)
    }

    fn sources_of_replies(&self, watch: &Sniffer, port: u16) -> Vec<IpAddr> {
        let packets = watch.packets().into_iter();
        let left = packets.filter(|p| p.direction == Direction::Out);
        left.filter(|p| p.source_port() == Some(port)).map(|p| p.source).collect()
    }

    fn start_controller(&mut self) -> Result<Started, DemoError> {
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
            Some(true) => {
                let stats = self.stats()?;
                let processes = Some(stats.processes_started);
                Ok(Started { took: Some(took), operations: stats.operations, processes })
            }
            Some(false) => Err(self.controller_error("the controller ended at its start")),
            None => Err(self.controller_error("the controller did not become ready")),
        }
    }

    fn kill_controller(&mut self) {
        // Dropping it kills it.
        self.controller = None;
    }

    fn end_controller(&mut self) -> Result<(), DemoError> {
        let Some(mut controller) = self.controller.take() else { return Ok(()) };
        let failed = |e| DemoError::Io("the controller".into(), e);
        controller.terminate().map_err(failed)?;
        match controller.wait(CONTROLLER_PATIENCE).map_err(failed)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.controller_error(&format!("the controller ended: {status}"))),
            None => Err(self.controller_error("the controller did not end on SIGTERM")),
        }
    }

    fn clean_up(&mut self) -> Result<(), DemoError> {
        let mut process = self.lab.spawn(GATEWAY, self.command("cleanup")?)?;
        match process.wait(CONTROLLER_PATIENCE) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(self.controller_error(&format!("cleanup ended: {status}"))),
            _ => Err(self.controller_error("cleanup did not end")),
        }
    }

    fn compare_host(&self) -> Result<Comparison, DemoError> {
        let after = HostState::read(&self.lab, GATEWAY)?;
        Ok(Comparison { lines: self.before.len(), differences: after.differences(&self.before) })
    }

    fn edit_pod(&mut self, pod: &str, edit: EndpointEdit) -> Result<(), DemoError> {
        manifests::edit_endpoints(&self.directory.manifests(), &self.lab.addresses(pod), edit)
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.directory.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn strike(self) -> Finding {
        let mut places = self.lab.namespace_paths();
        places.push(self.directory.0.clone());
        drop(self);
        let mut finding = Finding::passed("no namespace, no process, no file".into());
        for place in places {
            finding.require(!place.exists(), || format!("{} is left", place.display()));
        }
        finding
    }
}

fn ask(
    lab: &Lab,
    (client, from, how, to): (&str, Option<IpAddr>, Protocol, SocketAddr),
    patience: Duration,
) -> Outcome {
    match how {
        Protocol::Udp => traffic::ask_udp(lab, client, from, to, patience),
        _ => traffic::connect_tcp(lab, client, from, to, patience),
    }
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
