//! `smartnat cleanup`.

use serde::Serialize;
use smartnat_core::gateway::{EventKind, Gateway, Input};
use smartnat_core::model::{Backend, GatewayConfig};
use smartnat_linux::{LinuxKernel, OpenError, is_privileged, predecessor};

use crate::cli::{CleanupArgs, OutputFormat};
use crate::driver::{now, settle};
use crate::error::{CommandError, Outcome};
use crate::settings::Settings;
use crate::state_files::StateFiles;
use crate::{backend, output};

/// What a clean-up did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Nothing of ours is left.
    pub(super) complete: bool,
    /// How many operations that took, or objects of the Go version that are gone.
    operations: usize,
    pub(super) messages: Vec<String>,
}

/// Removes everything of ours (T16), or with `--legacy` what the Go version left (T14).
pub(super) fn cleanup(
    settings: &Settings,
    args: &CleanupArgs,
    format: OutputFormat,
) -> Result<Outcome, CommandError> {
    if settings.gateway.backend == Backend::Simulated {
        return Err(CommandError::Usage(
            "--backend: a simulated kernel keeps nothing, so there is nothing to clean up".into(),
        ));
    }
    if !is_privileged() {
        return Err(CommandError::Failed(OpenError::NotPrivileged.to_string()));
    }
    let _lock = backend::lock(settings)?;
    let settings = &backend::chosen(settings);
    let report = if args.legacy { remove_predecessor(settings)? } else { remove_ours(settings)? };
    match format {
        OutputFormat::Text => output::print(&report.text())?,
        OutputFormat::Json => output::print_json(&report)?,
    }
    Ok(if report.complete { Outcome::Success } else { Outcome::Rejected })
}

fn remove_ours(settings: &Settings) -> Result<Report, CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let files = StateFiles::open(&settings.state_dir).map_err(|error| failed(&error))?;
    let config = config_of_last_run(settings, &files);
    let mut kernel = backend::open(backend::options(settings))?;
    let mut report = remove_from(&mut kernel, config);
    if report.complete
        && let Err(error) = files.remove()
    {
        report.complete = false;
        report.messages.push(format!("state files: {error}"));
    }
    Ok(report)
}

/// Removes what carries the numbers of `config`, of whichever backend, from a kernel.
pub(super) fn remove_from(kernel: &mut LinuxKernel, config: GatewayConfig) -> Report {
    let mut gateway = Gateway::new(config);
    gateway.handle_input(now(), Input::ForwardingNeeded(kernel.forwarding_users()));
    gateway.handle_input(now(), Input::CleanUp);
    let settled = settle(&mut gateway, kernel, now());
    let mut report = Report {
        complete: settled.events.iter().any(|event| event.kind == EventKind::CleanedUp),
        operations: settled.transactions.iter().map(|t| t.ops.len()).sum(),
        messages: Vec::new(),
    };
    let told = settled.events.into_iter().filter(|event| event.kind != EventKind::CleanedUp);
    report.messages.extend(told.map(|event| event.message));
    if report.complete
        && let Err(error) = kernel.forget_baseline()
    {
        report.complete = false;
        report.messages.push(error.to_string());
    }
    report
}

/// Numbers that the last run was told and this call was not: its objects carry them.
fn config_of_last_run(settings: &Settings, files: &StateFiles) -> GatewayConfig {
    let mut config = settings.gateway.clone();
    let Ok(Some(last)) = files.read_status() else { return config };
    let last = last.process.config;
    if !last.problems().is_empty() {
        return config;
    }
    if settings.origin("markMask").is_none() {
        config.mark_mask = last.mark_mask;
    }
    if settings.origin("tableBase").is_none() {
        config.table_base = last.table_base;
    }
    if settings.origin("rulePriority").is_none() {
        config.rule_priority = last.rule_priority;
    }
    config
}

impl Report {
    fn text(&self) -> String {
        let end = match (self.complete, self.operations) {
            (true, 0) => "There was nothing to remove.".to_owned(),
            (true, operations) => format!("Everything is removed ({operations} operations)."),
            (false, _) => "Something could not be removed; see above.".to_owned(),
        };
        let lines = self.messages.iter().chain(std::iter::once(&end));
        lines.flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn remove_predecessor(settings: &Settings) -> Result<Report, CommandError> {
    let xtables = backend::xtables_settings(settings);
    let leftovers =
        predecessor::find(xtables).map_err(|error| CommandError::Failed(error.to_string()))?;
    let found = leftovers.describe().into_iter().map(|object| format!("found {object}"));
    let unreadable = leftovers.unreadable.iter().map(|what| format!("could not look: {what}"));
    let mut messages: Vec<String> = found.chain(unreadable).collect();
    let removal = predecessor::remove(&leftovers, xtables);
    messages.extend(removal.failures.iter().map(ToString::to_string));
    Ok(Report {
        complete: removal.failures.is_empty() && leftovers.unreadable.is_empty(),
        operations: removal.removed,
        messages,
    })
}

#[cfg(test)]
mod tests {
    use smartnat_core::status::StatusReport;

    use super::*;
    use crate::settings::{Layer, resolve};

    #[test]
    fn numbers_of_the_last_run_count_unless_others_are_given() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = StateFiles::open(dir.path()).expect("proc is mounted");
        let last = GatewayConfig {
            table_base: 9000,
            rule_priority: 77,
            mark_mask: 0xff00,
            ..GatewayConfig::default()
        };
        files.write_status(&last, &StatusReport::default(), &[]).expect("written");
        let given = [("SMARTNAT_RULE_PRIORITY".to_owned(), "88".to_owned())];
        let settings = resolve(Layer::default(), None, given, "gw1").expect("valid");
        let config = config_of_last_run(&settings, &files);
        assert_eq!((config.table_base, config.rule_priority, config.mark_mask), (9000, 88, 0xff00));
        files.remove().expect("removed");
        assert_eq!(config_of_last_run(&settings, &files), settings.gateway);
    }

    #[test]
    fn the_end_says_whether_something_is_left() {
        let text = |complete, operations, messages: &[&str]| {
            let messages = messages.iter().map(ToString::to_string).collect();
            Report { complete, operations, messages }.text()
        };
        assert_eq!(text(true, 0, &[]), "There was nothing to remove.\n");
        assert_eq!(text(true, 3, &["a"]), "a\nEverything is removed (3 operations).\n");
        assert!(text(false, 3, &["set x: busy"]).contains("could not be removed; see above"));
    }
}
