//! One instance in a network namespace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::kernel::StateDir;
use crate::namespace::NetworkNamespace;

/// A pid has at most seven digits; whatever else the file holds is not read.
const MAX_PID_BYTES: u64 = 16;
/// So long the lock may outlive who had it: a child that was just being started when its parent
/// was killed shares the lock until it has become its program. Whoever looks holds it shortly, too.
const GRACE: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The right to change this network namespace, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct InstanceLock {
    file: File,
    path: PathBuf,
}

/// Why the lock could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another instance has it.
    #[error(
        "another instance of smartnat ({holder}) runs in this network namespace {namespace} \
         (lock file {path}); stop it first"
    )]
    Held {
        /// `pid N`, as far as it is known.
        holder: String,
        /// The namespace.
        namespace: NetworkNamespace,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("cannot use lock file {path}: {source}")]
    File {
        /// The lock file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock of the calling thread's network namespace. One that is held is waited for
    /// no longer than its last holder may take to be gone.
    pub fn acquire(dir: &StateDir) -> Result<Self, LockError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::File { path, source }
        };
        let namespace = NetworkNamespace::current().map_err(file_error(dir.path()))?;
        let path = dir.file(namespace, "lock");
        dir.create().map_err(file_error(dir.path()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(file_error(&path))?;
        let end = Instant::now() + GRACE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(POLL_INTERVAL),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { holder: holder(&mut file), namespace, path });
                }
                Err(TryLockError::Error(source)) => return Err(LockError::File { path, source }),
            }
        }
        write_pid(&mut file).map_err(file_error(&path))?;
        Ok(Self { file, path })
    }

    /// Whether somebody has the lock of the calling thread's network namespace. Takes nothing
    /// and writes nothing, so that everybody who may read the file may ask.
    pub fn is_held(dir: &StateDir) -> io::Result<bool> {
        let path = dir.file(NetworkNamespace::current()?, "lock");
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // The file stays: removing it would let two others lock two files of one name.
        let _ = self.file.set_len(0);
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(MAX_PID_BYTES).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("pid {pid}"),
        _ => "of unknown pid".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_instance_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(dir.path().join("run"));
        let first = InstanceLock::acquire(&dir).expect("nobody has it");
        let second = InstanceLock::acquire(&dir).expect_err("it is held");
        assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
        drop(first);
        InstanceLock::acquire(&dir).expect("it was released");
    }

    #[test]
    fn a_holder_that_is_about_to_be_gone_is_waited_for() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(temporary.path());
        let first = InstanceLock::acquire(&dir).expect("nobody has it");
        let leaving = std::thread::spawn(move || {
            sleep(GRACE / 10);
            drop(first);
        });
        InstanceLock::acquire(&dir).expect("it is released in time");
        leaving.join().expect("no panic");
    }

    #[test]
    fn looking_takes_and_writes_nothing() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(temporary.path().join("run"));
        assert!(!InstanceLock::is_held(&dir).expect("no file is no lock"));
        assert!(!dir.path().exists());
        let lock = InstanceLock::acquire(&dir).expect("nobody has it");
        let text = std::fs::read_to_string(lock.path()).expect("readable");
        assert!(InstanceLock::is_held(&dir).expect("readable"));
        assert_eq!(std::fs::read_to_string(lock.path()).expect("readable"), text);
        drop(lock);
        assert!(!InstanceLock::is_held(&dir).expect("readable"));
    }

    #[test]
    fn a_lock_file_with_nonsense_in_it_is_no_obstacle() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(temporary.path());
        let namespace = NetworkNamespace::current().expect("proc is mounted");
        std::fs::write(dir.file(namespace, "lock"), [0xff; 100]).expect("written");
        let lock = InstanceLock::acquire(&dir).expect("nobody has it");
        let text = std::fs::read_to_string(lock.path()).expect("readable");
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let dir = StateDir::new("/proc/no/such/place");
        let error = InstanceLock::acquire(&dir).expect_err("it cannot be made");
        assert!(error.to_string().contains("/proc/no/such/place"), "{error}");
    }
}
