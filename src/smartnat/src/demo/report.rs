//! What the demo found, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::DemoError;
use super::story::Finding;

/// What carries the packets of a demo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kernel {
    /// Network namespaces.
    #[default]
    Linux,
    /// Simulated hosts: nothing of it is a real packet.
    Simulated,
}

impl Kernel {
    /// The time that something took, where that tells anything about a network.
    pub(super) fn real_time(self, took: Duration) -> Option<Duration> {
        (self == Self::Linux).then_some(took)
    }
}

/// Said before the first step on Linux.
pub(super) const REAL_PACKETS: &str = "\
SmartNat demo: the real controller on the manifests of deploy/samples, real packets, no cluster.
";

/// Said before the first step.
pub(super) const NETWORK: &str = "
  client1  192.0.2.10                         client2  198.18.2.10
     |     2001:db8:2::10                        |     2001:db8:18::10
  router1                                     router2
     |                                           |
   ext1    198.51.100.10                       ext2    203.0.113.10
     |     2001:db8:51::10                       |     2001:db8:113::10
     +----------------- gateway -----------------+
                           | eth0
              +------------+------------+
            pod1         pod2         pod3     10.244.1.11-13, fd00:244:1::11-13

";

/// One step of the story.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StepReport {
    pub(super) title: String,
    pub(super) passed: bool,
    /// What was measured, in lines.
    pub(super) measured: Vec<String>,
    /// What was not as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// Absent on the simulated kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) milliseconds: Option<u64>,
}

/// The whole story.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) kernel: Kernel,
    /// Why it is simulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why_simulated: Option<String>,
    pub(super) passed: bool,
    pub(super) steps: Vec<StepReport>,
    /// Absent on the simulated kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) milliseconds: Option<u64>,
}

impl StepReport {
    pub(super) fn of(title: &str, finding: Finding, took: Option<Duration>) -> Self {
        Self {
            title: title.into(),
            passed: finding.problems.is_empty(),
            measured: finding.measured.lines().map(Into::into).collect(),
            problems: finding.problems,
            milliseconds: took.map(milliseconds),
        }
    }

    pub(super) fn failed(title: &str, error: &DemoError, took: Option<Duration>) -> Self {
        let finding = Finding { measured: String::new(), problems: vec![error.to_string()] };
        Self::of(title, finding, took)
    }
}

impl Report {
    pub(super) fn add(&mut self, step: StepReport) {
        self.steps.push(step);
    }

    pub(super) fn finish(&mut self, took: Duration) {
        self.passed = self.steps.iter().all(|step| step.passed);
        self.milliseconds = self.kernel.real_time(took).map(milliseconds);
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.passed { '✓' } else { '✗' };
        let took = self.milliseconds.map_or_else(String::new, |took| format!(" ({took} ms)"));
        writeln!(f, "{mark} {}{took}", self.title)?;
        for line in &self.measured {
            writeln!(f, "    {line}")?;
        }
        for problem in &self.problems {
            writeln!(f, "    ✗ {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.steps.len();
        let passed = self.steps.iter().filter(|step| step.passed).count();
        let verdict = if self.passed { "All is well" } else { "Something is wrong" };
        let took = self.milliseconds.map_or_else(
            || " on the simulated kernel".to_owned(),
            |took| format!(", in {}.{} s", took / 1000, took / 100 % 10),
        );
        writeln!(f, "\n{verdict}: {passed} of {all} steps passed{took}.")
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
