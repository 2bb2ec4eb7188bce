//! Starts the gateway's process in a namespace, and ends it where it takes too long.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use smartnat::lab::{Lab, LabProcess};
use tempfile::NamedTempFile;

use crate::error::{BenchError, file, system};
use crate::network::GATEWAY;
use crate::results::ControlRun;
use crate::worker::{Order, Part};

/// How often a look is taken at what the process has done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process may take to end that was killed.
const DEATH_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the process to its end, or until a part takes longer than allowed. What was done until then
/// is in the result, with the reason why there is no more.
pub(crate) fn run(lab: &Lab, order: &Order) -> Result<ControlRun, BenchError> {
    let report = NamedTempFile::new().map_err(system("a temporary file"))?;
    let lines = File::options().append(true).open(report.path()).map_err(file(report.path()))?;
    let own = std::env::current_exe().map_err(system("the path of this program"))?;
    let text = serde_json::to_string(order).map_err(|e| system("order")(e.into()))?;
    let mut command = Command::new(own);
    command.args(["worker", &text]).stdin(Stdio::null()).stdout(lines);
    // A group of its own, so that its children can be ended with it.
    command.process_group(0);
    let mut process = lab.spawn(GATEWAY, command)?;

    let limit = Duration::from_secs(order.limit_seconds);
    let (mut parts, mut latest) = (Vec::new(), Instant::now());
    let ended = loop {
        let ended = process.wait(LOOK_EVERY).map_err(system("wait"))?;
        let now = parts_of(report.path())?;
        if now.len() > parts.len() {
            latest = Instant::now();
        }
        parts = now;
        if let Some(status) = ended {
            break Some(status);
        }
        // A change that was begun within the limit may end after it; the first sync is one change.
        let allowed = if parts.is_empty() { limit } else { 2 * limit };
        if latest.elapsed() > allowed {
            end_group(&mut process)?;
            break None;
        }
    };
    let mut run = ControlRun::of(parts);
    match ended {
        None => run.missing = Some(BenchError::TooLong(order.limit_seconds).to_string()),
        Some(_) if run.missing.is_some() || run.done => {}
        Some(status) => run.missing = Some(format!("its process ended early: {status}")),
    }
    Ok(run)
}

/// Ends the process with its children, which would go on in the namespace.
fn end_group(process: &mut LabProcess) -> Result<(), BenchError> {
    let group = i32::try_from(process.id()).map(Pid::from_raw);
    if let Ok(group) = group {
        // It fails only when all have ended.
        let _ = killpg(group, Signal::SIGKILL);
    }
    process.wait(DEATH_PATIENCE).map_err(system("wait"))?;
    Ok(())
}

/// Lines that are complete so far.
fn parts_of(report: &Path) -> Result<Vec<Part>, BenchError> {
    let text = fs::read_to_string(report).map_err(file(report))?;
    let content = |source| BenchError::Content { path: report.display().to_string(), source };
    let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete.map(|line| serde_json::from_str(line).map_err(content)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_that_is_being_written_is_read_later() {
        let mut report = NamedTempFile::new().unwrap();
        write!(report, "{{\"Failed\":\"x\"}}\n\"Do").unwrap();
        let failed = Part::Failed("x".into());
        assert_eq!(parts_of(report.path()).unwrap(), std::slice::from_ref(&failed));
        writeln!(report, "ne\"").unwrap();
        assert_eq!(parts_of(report.path()).unwrap(), [failed, Part::Done]);
        writeln!(report, "nonsense").unwrap();
        assert!(parts_of(report.path()).is_err());
    }
}
