//! What the demo found, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::DemoError;
use super::story::Finding;

/// Said before the first step.
pub(super) const INTRODUCTION: &str = "\
SmartNat demo: the real controller on the manifests of deploy/samples, real packets, no cluster.

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
    pub(super) milliseconds: u64,
}

/// The whole story.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) passed: bool,
    pub(super) steps: Vec<StepReport>,
    pub(super) milliseconds: u64,
}

impl StepReport {
    pub(super) fn of(title: &str, finding: Finding, took: Duration) -> Self {
        Self {
            title: title.into(),
            passed: finding.problems.is_empty(),
            measured: finding.measured.lines().map(Into::into).collect(),
            problems: finding.problems,
            milliseconds: milliseconds(took),
        }
    }

    pub(super) fn failed(title: &str, error: &DemoError, took: Duration) -> Self {
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
        self.milliseconds = milliseconds(took);
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.passed { '✓' } else { '✗' };
        writeln!(f, "{mark} {} ({} ms)", self.title, self.milliseconds)?;
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
        let (tenths, all) = (self.milliseconds / 100, self.steps.len());
        let passed = self.steps.iter().filter(|step| step.passed).count();
        let verdict = if self.passed { "All is well" } else { "Something is wrong" };
        let (seconds, tenth) = (tenths / 10, tenths % 10);
        writeln!(f, "\n{verdict}: {passed} of {all} steps passed, in {seconds}.{tenth} s.")
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
