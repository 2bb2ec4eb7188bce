//! `smartnat host`.

use crate::cli::OutputFormat;
use crate::error::{CommandError, Outcome};
use crate::{host_file, output};

/// Prints this host as a file for `--host`.
pub(super) fn host(format: OutputFormat) -> Result<Outcome, CommandError> {
    let host = host_file::this_host()?;
    match format {
        OutputFormat::Json => output::print_json(&host)?,
        OutputFormat::Text => {
            let text = serde_yaml_ng::to_string(&host)
                .map_err(|error| CommandError::Failed(format!("the host: {error}")))?;
            output::print(&text)?;
        }
    }
    Ok(Outcome::Success)
}
