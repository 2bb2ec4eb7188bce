//! Programs inside a lab.

use std::io::{self, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LabError, registry, wait_until};

/// A program inside a lab. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct LabProcess {
    lab: u32,
    child: Child,
}

impl LabProcess {
    pub(super) fn start(
        lab: u32,
        start: impl FnOnce() -> Result<Child, LabError>,
    ) -> Result<Self, LabError> {
        Ok(Self { lab, child: registry::start_process(lab, start)? })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Ends it without a chance to tidy up (SIGKILL).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// How it ended, if it does within `patience`.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        wait_until(patience, || self.child.try_wait().transpose()).transpose()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), signal).map_err(Into::into)
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        registry::forget_process(self.lab, self.child.id());
    }
}

/// Runs a program to its end with `input` on its standard input.
pub(super) fn run_with_input(
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<Output, LabError> {
    let failed = |e| LabError::Program(program.into(), e);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses a line closes the pipe early; its status says so.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().map_err(failed)
}
