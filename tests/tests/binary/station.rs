//! A lab with the program on its gateway: manifests, state and log of one test, and its processes.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use smartnat::lab::traffic::{self, PATIENT};
use smartnat::lab::{Lab, LabProcess, wait_until};
use smartnat::state_files::{StateFiles, Stats};
use smartnat_core::model::IptablesFlavour;
use smartnat_core::status::StatusReport;
use smartnat_sim::topology::{StandardOptions, Topology, standard};
use smartnat_tests::program;
use tempfile::TempDir;

use smartnat_tests::host_text::{Programs, host_text};

/// The host that the program runs on.
pub(crate) const GATEWAY: &str = "gateway";

/// Longest wait for a start, an end or a change; a busy machine gets its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What somebody changes of ours is back within 5 s (T17), and one to look.
pub(crate) const REPAIR: Duration = Duration::from_secs(6);

/// One test's lab and files.
pub(crate) struct Station {
    pub(crate) lab: Lab,
    directory: TempDir,
    state: PathBuf,
    flavour: IptablesFlavour,
    started: AtomicU32,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A running `smartnat run`; killed when dropped.
pub(crate) struct Run {
    process: LabProcess,
    log: PathBuf,
    ready: PathBuf,
    state: StateFiles,
}

impl Station {
    /// The standard lab.
    pub(crate) fn new(flavour: IptablesFlavour) -> Self {
        Self::on(&standard(StandardOptions::default()), flavour)
    }

    /// A lab of this topology, with a directory of manifests that is empty.
    pub(crate) fn on(topology: &Topology, flavour: IptablesFlavour) -> Self {
        let lab = Lab::build(topology).expect("the lab is built");
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let station = Self { lab, directory, state, flavour, started: AtomicU32::new(0) };
        fs::create_dir(station.manifests()).expect("a directory of manifests");
        station
    }

    /// The directory of manifests.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.path("manifests")
    }

    /// Where the program keeps its state.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Keeps the program's state where that of another station is, as two on one machine do.
    pub(crate) fn share_state(&mut self, other: &Self) {
        self.state.clone_from(&other.state);
    }

    /// A path of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a manifest in place, as some editors do: there is a moment with an empty file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.manifests().join(name), text).expect("a manifest is written");
    }

    /// Writes a manifest beside the directory and moves it into it.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let next = self.path("next");
        fs::write(&next, text).expect("a manifest is written");
        fs::rename(next, self.manifests().join(name)).expect("a manifest is moved");
    }

    /// Deletes a manifest.
    pub(crate) fn delete(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).expect("a manifest is deleted");
    }

    /// The program with this test's state directory, whatever the environment configures.
    pub(crate) fn bare(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--state-dir").arg(self.state()).args(words);
        for (name, _) in std::env::vars_os() {
            let ours = |n: &str| n.starts_with("SMARTNAT_") || n.starts_with("SNCTRLR_");
            if name.to_str().is_some_and(ours) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The same on iptables, with the flavour of this test.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare(words);
        command.env("SMARTNAT_BACKEND", "iptables");
        command.env("SMARTNAT_IPTABLES_FLAVOUR", self.flavour_word());
        command
    }

    /// `run` or `plan` of this test's manifests on the standard uplinks.
    pub(crate) fn serving(&self, word: &str) -> Command {
        let mut command = self.command(&[word, "--uplink-pattern", "ext[0-9]", "--manifests"]);
        command.arg(self.manifests());
        command
    }

    fn flavour_word(&self) -> &'static str {
        match self.flavour {
            IptablesFlavour::Auto => "auto",
            IptablesFlavour::Nft => "nft",
            IptablesFlavour::Legacy => "legacy",
        }
    }

    /// Runs a command on the gateway to its end.
    pub(crate) fn finish(&self, command: Command) -> Said {
        self.finish_on(GATEWAY, command)
    }

    /// Runs a command on a host to its end.
    pub(crate) fn finish_on(&self, host: &str, mut command: Command) -> Said {
        let (out, err) = (self.fresh("out"), self.fresh("err"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&out).expect("a file"));
        command.stderr(File::create(&err).expect("a file"));
        let told = format!("{command:?}");
        let mut process = self.lab.spawn(host, command).expect("the program starts");
        let ended = process.wait(PATIENCE).expect("a child of ours");
        let (out, err) = (text_of(&out), text_of(&err));
        let Some(status) = ended else { panic!("{told} did not end:\n{out}\n{err}") };
        Said { code: status.code(), out, err }
    }

    /// `smartnat cleanup`.
    pub(crate) fn clean_up(&self) -> Said {
        self.finish(self.command(&["cleanup"]))
    }

    /// Starts a `run`.
    pub(crate) fn start(&self, command: Command) -> Run {
        self.start_on(GATEWAY, command)
    }

    /// Starts a `run` on another host.
    pub(crate) fn start_on(&self, host: &str, mut command: Command) -> Run {
        let (log, ready) = (self.fresh("log"), self.fresh("ready"));
        command.arg("--ready-file").arg(&ready);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("a file"));
        let state = self.lab.run(host, || StateFiles::open(&self.state)).expect("the host");
        let process = self.lab.spawn(host, command).expect("the program starts");
        Run { process, log, ready, state: state.expect("proc is mounted") }
    }

    /// Starts a `run` and waits until it serves.
    pub(crate) fn serve(&self) -> Run {
        let mut run = self.start(self.serving("run"));
        run.wait_ready();
        run
    }

    /// What the gateway holds; sets and routes are printed in the order of their creation.
    pub(crate) fn host_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.host_text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// What the gateway holds, as its own programs print it.
    pub(crate) fn host_text(&self) -> String {
        host_text(&self.lab, &self.programs())
    }

    /// The iptables programs of this test.
    pub(crate) fn programs(&self) -> Programs {
        Programs::of(self.flavour)
    }

    /// Runs words on the gateway that must succeed.
    pub(crate) fn sh(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        self.lab.command(GATEWAY, &words).expect("the command succeeds")
    }

    /// Waits until a new TCP connection is answered by this server, or by none.
    pub(crate) fn wait_answer(&self, client: &str, to: SocketAddr, server: Option<&str>) -> bool {
        let patience = if server.is_some() { PATIENT } else { traffic::BRIEF };
        wait_until(PATIENCE, || {
            let outcome = traffic::connect_tcp(&self.lab, client, None, to, patience);
            (outcome.server() == server).then_some(())
        })
        .is_some()
    }

    fn fresh(&self, name: &str) -> PathBuf {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        self.path(&format!("{name}-{number}"))
    }
}

impl Run {
    /// Waits until it has read back what it programmed.
    pub(crate) fn wait_ready(&mut self) {
        let process = &mut self.process;
        let ready = &self.ready;
        let ok = wait_until(PATIENCE, || {
            let ended = process.try_wait().expect("a child of ours").is_some();
            if ended { Some(false) } else { ready.exists().then_some(true) }
        });
        assert_eq!(ok, Some(true), "not ready:\n{}", self.log());
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut LabProcess {
        &mut self.process
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        text_of(&self.log)
    }

    /// The lines of its log that have all these words.
    pub(crate) fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        lines.map(str::to_owned).collect()
    }

    /// Waits for a line of the log with all these words.
    pub(crate) fn wait_line(&self, words: &[&str]) -> String {
        let line = wait_until(PATIENCE, || self.lines_with(words).into_iter().next());
        line.unwrap_or_else(|| panic!("no line with {words:?}:\n{}", self.log()))
    }

    /// Its counters so far.
    pub(crate) fn stats(&self) -> Stats {
        let text = fs::read(self.state.stats_path()).expect("counters");
        serde_json::from_slice(&text).expect("counters are JSON")
    }

    /// Waits for counters.
    pub(crate) fn wait_stats(&self, wanted: impl Fn(&Stats) -> bool) {
        let found = wait_until(PATIENCE, || wanted(&self.stats()).then_some(()));
        assert!(found.is_some(), "{:?}\n{}", self.stats(), self.log());
    }

    /// Its latest status, if there is one.
    pub(crate) fn status(&self) -> Option<StatusReport> {
        let text = fs::read(self.state.status_path()).ok()?;
        Some(serde_json::from_slice(&text).expect("a status is JSON"))
    }

    /// Waits for a status.
    pub(crate) fn wait_status(&self, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
        wait_until(PATIENCE, || self.status().filter(&wanted))
            .unwrap_or_else(|| panic!("status: {:#?}\nlog:\n{}", self.status(), self.log()))
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn terminate(mut self) -> String {
        self.process.terminate().expect("a child of ours");
        let ended = self.process.wait(PATIENCE).expect("a child of ours");
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}:\n{}", self.log());
        self.log()
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("a child of ours");
        let ended = self.process.wait(PATIENCE).expect("a child of ours");
        assert!(ended.is_some(), "SIGKILL ends everything");
    }
}

impl Said {
    /// Panics unless it ended with this code; returns itself.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// What it printed as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\nout:\n{}\nerr:\n{}", self.code, self.out, self.err)
    }
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
