//! `smartnat status`.

use std::time::SystemTime;

use serde_json::json;
use smartnat_linux::{InstanceLock, StateDir};

use crate::cli::OutputFormat;
use crate::error::{CommandError, Outcome};
use crate::settings::Settings;
use crate::state_files::{StateFiles, StatusFile, seconds};
use crate::{output, render};

/// Prints what the instance of this network namespace told last; rejected when none runs or
/// it is not in sync.
pub(super) fn status(settings: &Settings, format: OutputFormat) -> Result<Outcome, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::Failed(format!(
            "the status in {} can't be read: {error}",
            settings.state_dir.display()
        ))
    };
    let files = StateFiles::open(&settings.state_dir).map_err(failed)?;
    let Some(file) = files.read_status().map_err(failed)? else {
        return Err(CommandError::Failed(format!(
            "no instance has run in this network namespace ({} does not exist); start one with \
             `smartnat run`",
            files.status_path().display()
        )));
    };
    let running = is_running(settings, &file);
    match format {
        OutputFormat::Text => output::print(&text(&file, running))?,
        OutputFormat::Json => output::print_json(&json!({ "running": running, "status": file }))?,
    }
    let well = running && file.report.in_sync;
    Ok(if well { Outcome::Success } else { Outcome::Rejected })
}

/// Whoever runs holds the lock; where it can't be looked at, its process must do.
fn is_running(settings: &Settings, file: &StatusFile) -> bool {
    InstanceLock::is_held(&StateDir::new(&settings.state_dir)).unwrap_or_else(|_| {
        std::path::Path::new("/proc").join(file.process.pid.to_string()).exists()
    })
}

fn text(file: &StatusFile, running: bool) -> String {
    let age = seconds(SystemTime::now()).saturating_sub(file.process.written);
    let state = match (running, file.report.in_sync) {
        (true, true) => format!("runs (pid {}), in sync", file.process.pid),
        (true, false) => format!("runs (pid {}), NOT in sync", file.process.pid),
        (false, _) => "does not run; the dataplane is as it was left".to_owned(),
    };
    let foreign: String = file.foreign.iter().flat_map(|line| ["Foreign: ", line, "\n"]).collect();
    format!(
        "Instance {} {state}; last change of status {age} s ago\n{foreign}{}",
        file.report.instance,
        render::status_text(&file.report)
    )
}
