//! Results, on standard output.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::CommandError;

/// Writes a text. A reader that went away is no failure.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::Failed(format!("the result can't be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CommandError::Failed(format!("the result is no JSON: {error}")))?;
    print(&(text + "\n"))
}
