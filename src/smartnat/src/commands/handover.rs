//! What an earlier run with other settings left.
//!
//! A run recognises its objects by the numbers and in the backend and flavour of iptables that it
//! is told. What carries others would stay for ever and take effect beside it, so it goes first.

use smartnat_core::model::{Backend, GatewayConfig};
use smartnat_core::objects::XtTableState;
use smartnat_linux::{Flavour, LinuxOptions, NftClient, Xtables};

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
    let used = used(settings)?;
    let others = others(settings, &used)?;
    let renumbered = last.as_ref().is_some_and(|last| numbers(last) != numbers(&settings.gateway));
    if !renumbered && others.is_empty() {
        return Ok(());
    }
    if renumbered {
        tracing::warn!(
            "the mark mask, table base or rule priority is another than that of the last run; \
             what carries the old numbers is removed first, and connections through it end"
        );
    }
    for other in &others {
        tracing::warn!(
            "{} holds chains of ours, and this run uses {}; they are removed first, and \
             connections through them end",
            other.name,
            used.name
        );
    }
    let config = last.unwrap_or_else(|| settings.gateway.clone());
    // What is in use comes last: sets can go when neither flavour refers to them any more.
    let mut complete = true;
    for place in others.into_iter().chain([used.clone()]) {
        let config = GatewayConfig { backend: place.options.backend, ..config.clone() };
        let report = remove_from(&mut backend::open(place.options)?, config);
        report.messages.iter().for_each(|message| tracing::warn!("{message}"));
        complete = report.complete;
    }
    if !complete || !self::others(settings, &used)?.is_empty() {
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

/// Where objects of ours are, or may be.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    options: LinuxOptions,
}

impl Place {
    fn nftables(settings: &Settings) -> Self {
        let options = LinuxOptions { backend: Backend::Nftables, ..backend::options(settings) };
        Self { name: "nftables".to_owned(), options }
    }

    fn iptables(settings: &Settings, flavour: Flavour) -> Self {
        let options = LinuxOptions {
            backend: Backend::Iptables,
            flavour: flavour.into(),
            ..backend::options(settings)
        };
        Self { name: format!("iptables-{flavour}"), options }
    }
}

/// The place that this run uses.
fn used(settings: &Settings) -> Result<Place, CommandError> {
    if settings.gateway.backend == Backend::Nftables {
        return Ok(Place::nftables(settings));
    }
    let xtables = Xtables::detect(settings.flavour, backend::xtables_settings(settings))
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    Ok(Place::iptables(settings, xtables.flavour()))
}

/// Other places that hold something of ours.
fn others(settings: &Settings, used: &Place) -> Result<Vec<Place>, CommandError> {
    let mut found = Vec::new();
    for flavour in Flavour::ALL {
        let place = Place::iptables(settings, flavour);
        if place.name == used.name {
            continue;
        }
        // Without its programs nothing of ours can have come there.
        let detected = Xtables::detect(flavour.into(), backend::xtables_settings(settings));
        let Ok(mut xtables) = detected else { continue };
        let tables = xtables.observe().map_err(|e| CommandError::Failed(e.to_string()))?;
        found.extend((!tables.values().all(XtTableState::is_empty)).then_some(place));
    }
    // A table of our name that is somebody else's is no matter of a run on iptables.
    let table = NftClient::open().and_then(|mut client| client.observe()).ok().flatten();
    let place = Place::nftables(settings);
    found.extend((table.is_some() && place.name != used.name).then_some(place));
    Ok(found)
}
