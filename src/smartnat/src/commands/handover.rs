//! What an earlier run with other numbers left.
//!
//! A run recognises its objects by the numbers that it is told. What carries others would stay for
//! ever and take effect beside it, so it goes first. Another backend needs no such step: what it
//! left is removed by the gateway once the new dataplane stands.

use smartnat_core::model::GatewayConfig;

use super::cleanup::remove_from;
use crate::backend;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::state_files::StateFiles;

/// Removes what this run would not recognise. Connections through it end.
pub(super) fn hand_over(settings: &Settings) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let files = StateFiles::open(&settings.state_dir).map_err(|error| failed(&error))?;
    // A status that can't be read says nothing of numbers.
    let last = files.read_status().ok().flatten().map(|status| status.process.config);
    let last = last.filter(|config| config.problems().is_empty());
    let Some(last) = last.filter(|last| numbers(last) != numbers(&settings.gateway)) else {
        return Ok(());
    };
    tracing::warn!(
        "the mark mask, table base or rule priority is another than that of the last run; what \
         carries the old numbers is removed first, and connections through it end"
    );
    let config = GatewayConfig { backend: settings.gateway.backend, ..last };
    let report = remove_from(&mut backend::open(backend::options(settings))?, config);
    report.messages.iter().for_each(|message| tracing::warn!("{message}"));
    if !report.complete {
        return Err(CommandError::Failed(
            "what an earlier run with other settings left could not be removed; see above, and \
             try `smartnat cleanup` with its settings"
                .into(),
        ));
    }
    Ok(())
}

/// Marks, tables and rules are told apart by these.
fn numbers(config: &GatewayConfig) -> (u32, u32, u32) {
    (config.mark_mask, config.table_base, config.rule_priority)
}
