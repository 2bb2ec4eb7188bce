//! What a process has used so far.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, system};

/// Processor time in microseconds, user and system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Processor {
    /// Of this process.
    pub own_us: i64,
    /// Of its children that have ended.
    pub children_us: i64,
}

impl Processor {
    /// So far.
    pub(crate) fn now() -> Result<Self, BenchError> {
        let of = |who| {
            let failed = |error: nix::Error| system("getrusage")(error.into());
            let usage = getrusage(who).map_err(failed)?;
            Ok::<_, BenchError>((usage.user_time() + usage.system_time()).num_microseconds())
        };
        Ok(Self { own_us: of(UsageWho::RUSAGE_SELF)?, children_us: of(UsageWho::RUSAGE_CHILDREN)? })
    }

    /// Since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            own_us: self.own_us - before.own_us,
            children_us: self.children_us - before.children_us,
        }
    }
}

/// Most memory that this process has had so far, in KiB (`VmHWM` of `proc_pid_status(5)`).
pub(crate) fn peak_memory_kib() -> Result<u64, BenchError> {
    let text = fs::read_to_string("/proc/self/status").map_err(system("/proc/self/status"))?;
    let missing = || system("/proc/self/status")(std::io::ErrorKind::InvalidData.into());
    peak_of(&text).ok_or_else(missing)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_its_line() {
        assert_eq!(peak_of("VmPeak:\t  9 kB\nVmHWM:\t   1234 kB\n"), Some(1234));
        assert_eq!(peak_of("VmPeak:\t  9 kB\n"), None);
        assert!(peak_memory_kib().unwrap() > 100);
    }

    #[test]
    fn work_shows_as_processor_time() {
        let before = Processor::now().unwrap();
        while Processor::now().unwrap().since(before).own_us < 1000 {
            std::hint::black_box(0);
        }
    }
}
