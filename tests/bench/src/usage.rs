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

/// Memory of this process in KiB (`proc_pid_status(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Most that was resident so far (`VmHWM`).
    pub peak_kib: u64,
    /// Resident now (`VmRSS`).
    pub resident_kib: u64,
}

impl Memory {
    /// So far, and now.
    pub(crate) fn now() -> Result<Self, BenchError> {
        let text = fs::read_to_string("/proc/self/status").map_err(system("/proc/self/status"))?;
        let missing = || system("/proc/self/status")(std::io::ErrorKind::InvalidData.into());
        Self::of(&text).ok_or_else(missing)
    }

    fn of(status: &str) -> Option<Self> {
        let value = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self { peak_kib: value("VmHWM:")?, resident_kib: value("VmRSS:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_its_lines() {
        let text = "VmPeak:\t  9 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 56 kB\n";
        assert_eq!(Memory::of(text), Some(Memory { peak_kib: 1234, resident_kib: 56 }));
        assert_eq!(Memory::of("VmPeak:\t  9 kB\nVmHWM:\t 7 kB\n"), None);
        let now = Memory::now().unwrap();
        assert!(now.resident_kib > 100 && now.peak_kib >= now.resident_kib, "{now:?}");
    }

    #[test]
    fn work_shows_as_processor_time() {
        let before = Processor::now().unwrap();
        while Processor::now().unwrap().since(before).own_us < 1000 {
            std::hint::black_box(0);
        }
    }
}
