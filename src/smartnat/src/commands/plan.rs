//! `smartnat plan`.

use serde_json::json;
use smartnat_core::model::Backend;

use crate::cli::{OutputFormat, PlanArgs};
use crate::error::{CommandError, Outcome};
use crate::planning::{self, Plan, PlannedKernel};
use crate::settings::Settings;
use crate::{backend, host_file, output, render};

/// Prints what would change; changes nothing.
pub(super) fn plan(
    settings: &Settings,
    args: &PlanArgs,
    format: OutputFormat,
) -> Result<Outcome, CommandError> {
    settings.require_uplinks()?;
    let settings = &if args.host.is_some() { settings.clone() } else { backend::chosen(settings) };
    let cluster = super::cluster_of_manifests(settings)?;
    let config = settings.gateway.clone();
    let failed = |error: smartnat_core::ops::OpError| CommandError::Failed(error.to_string());
    let mut foreign = Vec::new();
    let planned = if let Some(file) = &args.host {
        let host = host_file::from_file(file)?;
        planning::plan(config, cluster, host, PlannedKernel::empty()).map_err(failed)?
    } else {
        let host = host_file::this_host()?;
        match settings.gateway.backend {
            Backend::Simulated => {
                planning::plan(config, cluster, host, PlannedKernel::empty()).map_err(failed)?
            }
            Backend::Nftables | Backend::Iptables => {
                let mut kernel = backend::open(backend::options(settings))?;
                let start = PlannedKernel::from_kernel(&mut kernel);
                let planned = planning::plan(config, cluster, host, start).map_err(failed)?;
                let uplinks = planned.settled.status.iter().flat_map(|s| s.uplinks.clone());
                foreign = kernel.survey(&uplinks.collect()).messages();
                planned
            }
        }
    };
    report(&planned, &foreign, format)
}

fn report(
    planned: &Plan,
    foreign: &[String],
    format: OutputFormat,
) -> Result<Outcome, CommandError> {
    let status = planned.settled.status.clone().unwrap_or_default();
    for line in &status.degraded {
        tracing::warn!("{line}");
    }
    for (key, mapping) in status.mappings.iter().filter(|(_, mapping)| mapping.invalid != "no") {
        tracing::warn!("Mapping {key} is rejected: {}", mapping.invalid);
    }
    let changes = render::changes(&planned.before, &planned.after);
    match format {
        OutputFormat::Text => {
            let notes: String = foreign.iter().flat_map(|line| ["Note: ", line, "\n"]).collect();
            output::print(&format!("{changes}{notes}"))?;
        }
        OutputFormat::Json => output::print_json(&json!({
            "changes": changes,
            "transactions": planned.settled.transactions,
            "degraded": status.degraded,
            "foreign": foreign,
        }))?,
    }
    Ok(Outcome::Success)
}
