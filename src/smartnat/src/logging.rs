//! Log lines, on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;

use crate::settings::{LogFormat, Note, NoteLevel, Settings};

/// Sends log lines of this process to standard error, and says what the configuration remarks.
/// A second call changes nothing.
pub fn start(settings: &Settings) {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(LevelFilter::from_level(settings.log_level))
        .with_target(false);
    let _already_set = match settings.log_format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    for Note { level, message } in &settings.notes {
        match level {
            NoteLevel::Debug => tracing::debug!("{message}"),
            NoteLevel::Info => tracing::info!("{message}"),
            NoteLevel::Warning => tracing::warn!("{message}"),
        }
    }
}
