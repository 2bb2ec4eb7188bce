//! Who runs where: the client on one processor and the server on another, so that neither waits for
//! the other. What the gateway does for a packet happens where the packet was sent.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{BenchError, system};

/// The processors of client and server; one and the same where there is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processors {
    /// Where the client runs.
    pub client: usize,
    /// Where the server runs.
    pub server: usize,
}

impl Processors {
    /// The first and the last that this process may use.
    pub(crate) fn choose() -> Result<Self, BenchError> {
        let allowed = allowed()?;
        match (allowed.first(), allowed.last()) {
            (Some(client), Some(server)) => Ok(Self { client: *client, server: *server }),
            _ => Err(system("processors")(io::ErrorKind::NotFound.into())),
        }
    }
}

/// Processors that this process may use, in their order.
pub(crate) fn allowed() -> Result<Vec<usize>, BenchError> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|e| system("processors")(e.into()))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Binds the calling thread to a processor.
pub(crate) fn stay_on(processor: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(processor)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|e| system("processors")(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_told() {
        let chosen = Processors::choose().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stay_on(chosen.server).unwrap();
                assert_eq!(allowed().unwrap(), [chosen.server]);
            });
        });
        assert!(allowed().unwrap().contains(&chosen.client), "the others are left alone");
    }
}
