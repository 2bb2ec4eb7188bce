//! Log lines, on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{LogFormat, Note, NoteLevel, Settings};

/// Sends log lines of this process to standard error, and says what the configuration remarks.
/// A second call changes nothing.
pub fn start(settings: &Settings) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let filtered = lines.with_filter(filter(settings.log_level));
    let _already_set = tracing_subscriber::registry().with(filtered).try_init();
    for Note { level, message } in &settings.notes {
        match level {
            NoteLevel::Debug => tracing::debug!("{message}"),
            NoteLevel::Info => tracing::info!("{message}"),
            NoteLevel::Warning => tracing::warn!("{message}"),
        }
    }
}

/// Ours at this level. Libraries tell of each request and of each failure that we tell of too, with
/// what it means: they are heard only when everything is.
fn filter(level: tracing::Level) -> Targets {
    let ours = ["smartnat", "smartnat_cluster", "smartnat_core", "smartnat_linux", "smartnat_sim"];
    let others = if level == tracing::Level::TRACE { LevelFilter::TRACE } else { LevelFilter::OFF };
    ours.into_iter()
        .fold(Targets::new().with_default(others), |all, target| all.with_target(target, level))
}
