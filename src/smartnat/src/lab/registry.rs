//! Which namespaces and processes live labs have, so that an interrupted process can remove them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use netns_rs::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LabError;
use super::namespace::Namespace;

/// Where named namespaces are.
const NAMESPACE_DIRECTORY: &str = "/var/run/netns";

/// How every name of ours starts; the id of the process follows.
const NAME_PREFIX: &str = "smartnat-lab-";

#[derive(Debug, Default)]
struct Entry {
    namespaces: Vec<String>,
    processes: BTreeSet<u32>,
}

static LABS: Mutex<BTreeMap<u32, Entry>> = Mutex::new(BTreeMap::new());

fn labs() -> MutexGuard<'static, BTreeMap<u32, Entry>> {
    // A panic elsewhere must not keep what it left from being removed.
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn namespace_name(lab: u32, host: &str) -> String {
    format!("{NAME_PREFIX}{}-{lab}-{host}", std::process::id())
}

pub(super) fn enter(lab: u32) {
    labs().insert(lab, Entry::default());
}

/// Makes a namespace that belongs to `lab`, while nothing can be removed.
pub(super) fn create_namespace(lab: u32, host: &str) -> Result<Namespace, LabError> {
    let mut labs = labs();
    let name = namespace_name(lab, host);
    labs.entry(lab).or_default().namespaces.push(name.clone());
    Namespace::create(&name)
}

/// Starts a process that belongs to `lab`, while nothing can be removed.
pub(super) fn start_process(
    lab: u32,
    start: impl FnOnce() -> Result<Child, LabError>,
) -> Result<Child, LabError> {
    let mut labs = labs();
    let child = start()?;
    labs.entry(lab).or_default().processes.insert(child.id());
    Ok(child)
}

pub(super) fn forget_process(lab: u32, process: u32) {
    if let Some(entry) = labs().get_mut(&lab) {
        entry.processes.remove(&process);
    }
}

/// Removes one lab.
pub(super) fn remove(lab: u32) {
    let entry = labs().remove(&lab);
    if let Some(entry) = entry {
        entry.remove();
    }
}

/// Removes every lab of this process, for the end after a signal, when nothing is dropped.
///
/// Whoever builds or uses a lab from now on waits for ever, so the process must end after this.
pub fn remove_all() {
    let mut labs = labs();
    for entry in std::mem::take(&mut *labs).into_values() {
        entry.remove();
    }
    std::mem::forget(labs);
}

impl Entry {
    fn remove(self) {
        for process in self.processes {
            end_process(process);
        }
        for name in &self.namespaces {
            remove_namespace(name);
        }
    }
}

/// Removes what labs left whose processes are gone. Once a process is enough.
pub(super) fn remove_leftovers_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(remove_leftovers);
}

fn remove_leftovers() {
    let Ok(directory) = fs::read_dir(NAMESPACE_DIRECTORY) else { return };
    let names = directory.flatten().filter_map(|e| e.file_name().into_string().ok());
    for name in names.filter(|n| creator(n).is_some_and(|p| !is_alive(p))) {
        for process in processes_in(&name) {
            end_process(process);
        }
        remove_namespace(&name);
    }
}

/// The process that made a namespace of this name, if it was a lab.
fn creator(name: &str) -> Option<u32> {
    name.strip_prefix(NAME_PREFIX)?.split('-').next()?.parse().ok()
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

fn processes_in(namespace: &str) -> Vec<u32> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|l| l.trim().parse().ok()).collect()
}

fn end_process(process: u32) {
    if let Ok(pid) = i32::try_from(process) {
        // It fails only when the process is gone.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn remove_namespace(name: &str) {
    // Both fail only when somebody else removed it.
    let removed = NetNs::get(name).is_ok_and(|netns| netns.remove().is_ok());
    if !removed {
        let _ = fs::remove_file(Path::new(NAMESPACE_DIRECTORY).join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_creator_is_read_from_the_name() {
        assert_eq!(creator(&namespace_name(3, "pod1")), Some(std::process::id()));
        assert_eq!(creator("smartnat-lab-12-0-gateway"), Some(12));
        assert_eq!(creator("smartnat-lab-x-0-gateway"), None);
        assert_eq!(creator("cni-12"), None);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_with_its_processes() {
        if !crate::lab::available() {
            return;
        }
        let mut creator = Command::new("true").spawn().unwrap();
        creator.wait().unwrap();
        let name = format!("{NAME_PREFIX}{}-0-gateway", creator.id());
        let left = Namespace::create(&name).unwrap();
        let mut sleep = Command::new("sleep");
        let mut process = left.run(|| sleep.arg("1000").spawn()).unwrap().unwrap();
        remove_leftovers();
        assert!(!left.path().exists());
        assert!(!process.wait().unwrap().success());
    }
}
