//! The demo as its user starts it: the program, in throw-away namespaces.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smartnat::demo::{self, DemoOptions};
use smartnat::lab;
use smartnat_core::model::IptablesFlavour;

const PROGRAM: &str = env!("CARGO_BIN_EXE_smartnat");

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Namespaces and files that a demo of this process id has left.
fn left_by(process: u32) -> Vec<String> {
    let prefixes = [format!("smartnat-lab-{process}-"), format!("smartnat-demo-{process}-")];
    let temporary = std::env::temp_dir();
    [Path::new("/var/run/netns"), &temporary]
        .into_iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(Iterator::flatten)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

#[test]
fn every_step_passes_and_is_told_as_json() {
    if !lab::available() {
        return;
    }
    let child = Command::new(PROGRAM)
        .args(["demo", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["passed"], true);
    assert_eq!(report["kernel"], "linux");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 10, "{text}");
    assert!(steps.iter().all(|step| step["passed"] == true), "{text}");
    assert_eq!(left_by(process), [""; 0]);
}

#[test]
fn the_legacy_flavour_tells_the_same_story() {
    if !lab::available() || !is_installed("iptables-legacy-restore") {
        return;
    }
    let options = DemoOptions {
        backend: smartnat_core::model::Backend::Iptables,
        program: PROGRAM.into(),
        flavour: IptablesFlavour::Legacy,
        simulated: None,
        json: true,
    };
    assert!(demo::run(&options).unwrap());
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    if !lab::available() {
        return;
    }
    let mut child = Command::new(PROGRAM)
        .arg("demo")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // In the middle: the controller runs, and traffic flows.
    assert!(lines.by_ref().any(|line| line.unwrap().starts_with("✓ the controller programs")));
    assert_ne!(left_by(process), [""; 0]);
    kill(Pid::from_raw(process.try_into().unwrap()), Signal::SIGINT).unwrap();
    let ended = lab::wait_until(Duration::from_secs(20), || child.try_wait().unwrap());
    let _ = child.kill();
    assert_eq!(ended.and_then(|status| status.code()), Some(130));
    assert_eq!(left_by(process), [""; 0]);
}

/// What the demo does for an unprivileged user.
fn unprivileged(arguments: &[&str]) -> Output {
    // A place that everybody may read, which the build directory need not be.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("smartnat");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("demo").args(arguments);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command.output().unwrap()
}

#[test]
fn without_root_the_story_is_told_on_the_simulated_kernel() {
    let output = unprivileged(&[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let top: Vec<&str> = text.lines().take(3).collect();
    assert!(top[0].contains("ON THE SIMULATED KERNEL"), "{text}");
    assert!(top[1].contains("no real packets, since this is not root"), "{text}");
    assert!(top[2].contains("sudo smartnat demo"), "{text}");
    assert!(text.contains("10 of 10 steps passed on the simulated kernel"), "{text}");
    assert!(!text.contains(" ms"), "{text}");
    let output = unprivileged(&["-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["kernel"], "simulated");
    assert_eq!(report["passed"], true);
    assert_eq!(report["steps"].as_array().unwrap().len(), 10);
}

#[test]
fn the_simulated_kernel_can_be_asked_for() {
    let output = Command::new(PROGRAM).args(["demo", "--backend", "simulated"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("since it was asked for"), "{text}");
}

#[test]
fn real_packets_without_root_are_refused_when_asked_for() {
    let output = unprivileged(&["--backend", "iptables"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("on real packets needs root"), "{message}");
}
