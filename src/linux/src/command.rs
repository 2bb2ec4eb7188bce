//! A child process with bounded time and output.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use thiserror::Error;

/// More of the standard error output is read and dropped.
const MAX_STDERR: usize = 64 << 10;
const CHUNK: usize = 64 << 10;
/// Chunks that are read before the deadline is looked at; more than a pipe can hold.
const CHUNKS_AT_ONCE: usize = 32;

/// What a child process may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// It is killed when it runs longer.
    pub(crate) time: Duration,
    /// It is killed when it prints more bytes.
    pub(crate) output: usize,
}

/// How a child process ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why there is no result of a child process.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error("cannot start {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("lost {}: {source}", program.display())]
    Lost { program: PathBuf, source: io::Error },
    #[error("{} did not end within {} ms and was killed", program.display(), limit.as_millis())]
    TimedOut { program: PathBuf, limit: Duration },
    #[error("{} printed more than {limit} bytes and was killed", program.display())]
    TooMuchOutput { program: PathBuf, limit: usize },
}

impl CommandError {
    /// The class by which decisions are made.
    pub(crate) fn class(&self) -> smartnat_core::ops::OpErrorClass {
        use smartnat_core::ops::OpErrorClass;
        match self {
            Self::TimedOut { .. } => OpErrorClass::Transient,
            Self::TooMuchOutput { .. } => OpErrorClass::Invalid,
            Self::Start { source, .. } | Self::Lost { source, .. } => {
                source.raw_os_error().map_or(OpErrorClass::Transient, crate::netlink::errno_class)
            }
        }
    }
}

/// Runs a program to its end, in the calling thread's network namespace, with messages in English.
pub(crate) fn run(
    program: &Path,
    arguments: &[&str],
    input: &[u8],
    limits: Limits,
) -> Result<Finished, CommandError> {
    let deadline = Instant::now() + limits.time;
    let child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| CommandError::Start { program: program.to_owned(), source })?;
    let mut child = Reaped(child);
    let lost = |source| CommandError::Lost { program: program.to_owned(), source };
    let mut pipes = Pipes::take(&mut child.0, input, limits).map_err(lost)?;
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Err(CommandError::TimedOut { program: program.to_owned(), limit: limits.time });
        };
        let ended = pipes.wait(left).map_err(lost)?;
        pipes.transfer().map_err(lost)?;
        if pipes.stdout.bytes.len() > limits.output {
            let limit = limits.output;
            return Err(CommandError::TooMuchOutput { program: program.to_owned(), limit });
        }
        if ended {
            let status = child.0.wait().map_err(lost)?;
            let (stdout, stderr) = (pipes.stdout.bytes, pipes.stderr.bytes);
            return Ok(Finished { status, stdout, stderr });
        }
    }
}

/// A child that does not outlive its owner.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both do nothing once the child has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The parent's ends of a child's pipes, none of which blocks.
struct Pipes<'a> {
    process: OwnedFd,
    stdin: Option<ChildStdin>,
    input: &'a [u8],
    stdout: Output<std::process::ChildStdout>,
    stderr: Output<std::process::ChildStderr>,
}

impl<'a> Pipes<'a> {
    fn take(child: &mut Child, input: &'a [u8], limits: Limits) -> io::Result<Self> {
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let stdin = child.stdin.take();
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        let stdout = Output::new(child.stdout.take(), limits.output.saturating_add(1))?;
        let stderr = Output::new(child.stderr.take(), MAX_STDERR)?;
        Ok(Self { process, stdin, input, stdout, stderr })
    }

    /// Waits until something can be transferred or the child ends; tells whether it ended.
    fn wait(&self, left: Duration) -> io::Result<bool> {
        let mut descriptors = vec![PollFd::new(&self.process, PollFlags::IN)];
        let pipes = [
            (self.stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (self.stdout.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.stderr.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        for (descriptor, flags) in pipes {
            descriptors.extend(descriptor.map(|fd| PollFd::from_borrowed_fd(fd, flags)));
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(descriptors.first().is_some_and(|process| !process.revents().is_empty()))
    }

    /// Moves what can be moved without waiting.
    fn transfer(&mut self) -> io::Result<()> {
        self.feed()?;
        self.stdout.drain()?;
        self.stderr.drain()
    }

    fn feed(&mut self) -> io::Result<()> {
        while let Some(stdin) = &mut self.stdin {
            if self.input.is_empty() {
                self.stdin = None;
                break;
            }
            match stdin.write(self.input) {
                Ok(count) => self.input = self.input.get(count..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break,
                    // It reads no further; its exit status says why.
                    io::ErrorKind::BrokenPipe => self.stdin = None,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// One output pipe and what came through it.
struct Output<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
    keep: usize,
}

impl<P: Read + AsFd> Output<P> {
    fn new(pipe: Option<P>, keep: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, bytes: Vec::new(), keep })
    }

    /// Reads what is there.
    fn drain(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..CHUNKS_AT_ONCE {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = self.keep.saturating_sub(self.bytes.len()).min(count);
                    self.bytes.extend_from_slice(chunk.get(..room).unwrap_or_default());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
