//! What was measured, as it is kept in a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::worker::{Changes, Cold, Kind, Part};

/// Everything of one run of this program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Where and with what it ran.
    pub machine: Machine,
    /// How it was asked to run.
    pub settings: Settings,
    /// Traffic, a line a subject and size.
    pub traffic: Vec<Traffic>,
    /// Changes, a line a subject and size.
    pub control: Vec<Control>,
    /// The core alone, from criterion.
    pub core: Vec<CoreFigure>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Versions by program.
    pub versions: BTreeMap<String, String>,
    /// Day of the run, UTC.
    pub date: String,
    /// The command as it was given.
    pub command: String,
}

/// How it was asked to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Numbers of Mappings.
    pub sizes: Vec<u32>,
    /// Interleaved runs of traffic.
    pub runs: u32,
    /// Runs of the control plane.
    pub control_runs: u32,
    /// Connections in each run.
    pub connections: u32,
    /// Seconds of a stream in each run.
    pub stream_seconds: f64,
    /// Changes of each kind.
    pub turns: u32,
    /// Pods that are replaced one after the other.
    pub pods: u32,
    /// Seconds that a part may take.
    pub limit_seconds: u64,
    /// Which iptables programs.
    pub flavour: String,
    /// Built without optimisation.
    pub debug_build: bool,
}

/// Traffic of one subject at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Name of the subject in the results.
    pub subject: String,
    /// Number of Mappings; it means nothing where nothing is translated.
    pub size: Option<u32>,
    /// What was measured, one entry a run.
    pub runs: Vec<TrafficRun>,
    /// Why nothing more was measured, if so.
    pub missing: Option<String>,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrafficRun {
    /// Number of the run.
    pub run: u32,
    /// New connections.
    pub connects: Connects,
    /// One TCP stream, in Gbit/s.
    pub stream_gbits: f64,
    /// Small UDP datagrams that arrived, per second.
    pub datagrams: f64,
}

/// New connections of one run, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connects {
    /// How many.
    pub count: u32,
    /// Duration of `connect()` in microseconds, median.
    pub median_us: f64,
    /// The same, 99th percentile.
    pub p99_us: f64,
    /// Opened and reset per second.
    pub per_second: f64,
}

/// Changes of one backend at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Control {
    /// Name of the subject in the results.
    pub subject: String,
    /// Mappings.
    pub size: u32,
    /// What was measured, one entry a run.
    pub runs: Vec<ControlRun>,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ControlRun {
    /// The first sync.
    pub cold: Option<Cold>,
    /// Changes by kind.
    pub changes: BTreeMap<Kind, Changes>,
    /// It came to its end.
    pub done: bool,
    /// Why it did not.
    pub missing: Option<String>,
}

impl ControlRun {
    /// From what the process wrote.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        let mut run = Self::default();
        for part in parts {
            match part {
                Part::Cold(cold) => run.cold = Some(cold),
                Part::Changes(kind, changes) => drop(run.changes.insert(kind, changes)),
                Part::Done => run.done = true,
                Part::Failed(why) => run.missing = Some(why),
            }
        }
        run
    }
}

/// What a change costs the core, as criterion measured it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreFigure {
    /// Kind of the change.
    pub kind: String,
    /// Part of the work.
    pub part: String,
    /// Mappings.
    pub size: u32,
    /// Mean in microseconds.
    pub mean_us: f64,
}
