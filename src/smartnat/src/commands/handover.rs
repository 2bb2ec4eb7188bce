//! What an earlier run with other settings left.
//!
//! A run recognises its objects by the numbers and in the flavour of iptables that it is told.
//! What carries others would stay for ever and take effect beside it, so it goes first.

use smartnat_core::model::GatewayConfig;
use smartnat_linux::xtables::OtherFlavour;
use smartnat_linux::{Flavour, LinuxOptions, Xtables};

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
    let (used, other) = used_and_other(settings)?;
    let renumbered = last.as_ref().is_some_and(|last| numbers(last) != numbers(&settings.gateway));
    if !renumbered && other.is_none() {
        return Ok(());
    }
    if renumbered {
        tracing::warn!(
            "the mark mask, table base or rule priority is another than that of the last run; \
             what carries the old numbers is removed first, and connections through it end"
        );
    }
    if let Some(OtherFlavour { flavour, .. }) = &other {
        tracing::warn!(
            "iptables-{flavour} holds chains of ours, and this run uses iptables-{used}; they are \
             removed first, and connections through them end"
        );
    }
    let config = last.unwrap_or_else(|| settings.gateway.clone());
    // The flavour in use comes last: sets can go when neither refers to them any more.
    let flavours = other.map(|other| other.flavour).into_iter().chain([used]);
    let mut complete = true;
    for flavour in flavours {
        let options = LinuxOptions { flavour: flavour.into(), ..backend::options(settings) };
        let report = remove_from(&mut backend::open(options)?, config.clone());
        report.messages.iter().for_each(|message| tracing::warn!("{message}"));
        complete = report.complete;
    }
    if !complete || used_and_other(settings)?.1.is_some() {
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

/// The flavour that this run uses, and what of ours is in the other one.
fn used_and_other(settings: &Settings) -> Result<(Flavour, Option<OtherFlavour>), CommandError> {
    let mut xtables = Xtables::detect(settings.flavour, backend::xtables_settings(settings))
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    let other =
        xtables.detect_other_ours().map_err(|error| CommandError::Failed(error.to_string()))?;
    Ok((xtables.flavour(), other))
}
