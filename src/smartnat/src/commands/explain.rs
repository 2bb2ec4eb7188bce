//! `smartnat explain`.

mod packet;
mod scene;

#[cfg(test)]
mod tests;

use serde::Serialize;
use smartnat_core::explain::{Explanation, explain as tell};

use crate::cli::{ExplainArgs, OutputFormat};
use crate::error::{CommandError, Outcome};
use crate::settings::Settings;
use crate::{output, render};

/// What is printed as JSON.
#[derive(Clone, Debug, Serialize)]
struct Told<'a> {
    delivered: bool,
    #[serde(flatten)]
    explanation: &'a Explanation,
    notes: &'a [String],
}

/// Prints the way of a packet and of its reply; rejected when it is not delivered.
pub(super) fn explain(
    settings: &Settings,
    args: &ExplainArgs,
    format: OutputFormat,
) -> Result<Outcome, CommandError> {
    // What was typed is looked at before anything else is.
    let question = match (&args.from, &args.to) {
        (Some(from), Some(to)) => Some(packet::question(from, to, args.interface.as_deref())?),
        _ => None,
    };
    let found = scene::scene(settings, args)?;
    if let Some(file) = &args.write_snapshot {
        scene::write(&found.scene, file)?;
    }
    let Some(question) = question else { return Ok(Outcome::Success) };
    packet::check_interface(&question, &found.scene.host)?;
    let explanation = tell(&found.scene, &question);
    match format {
        OutputFormat::Text => {
            output::print(&render::explanation_text(&explanation, &found.notes))?;
        }
        OutputFormat::Json => output::print_json(&Told {
            delivered: explanation.is_delivered(),
            explanation: &explanation,
            notes: &found.notes,
        })?,
    }
    Ok(if explanation.is_delivered() { Outcome::Success } else { Outcome::Rejected })
}
