//! `smartnat plan`.

use serde_json::json;
use smartnat_cluster::manifests::ManifestStore;
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
    let manifests = settings.require_manifests()?;
    let (store, reload) = ManifestStore::load(manifests).map_err(|error| {
        CommandError::Usage(format!("{error}; name a directory with --manifests DIR"))
    })?;
    for problem in &reload.problems {
        tracing::warn!("{problem}");
    }
    let cluster = store.cluster_state();
    let config = settings.gateway.clone();
    let failed = |error: smartnat_core::ops::OpError| CommandError::Failed(error.to_string());
    let planned = if let Some(file) = &args.host {
        let host = host_file::from_file(file)?;
        planning::plan(config, cluster, host, PlannedKernel::empty()).map_err(failed)?
    } else {
        let host = host_file::this_host()?;
        match settings.gateway.backend {
            Backend::Simulated => {
                planning::plan(config, cluster, host, PlannedKernel::empty()).map_err(failed)?
            }
            Backend::Iptables => {
                let mut kernel = backend::open(backend::options(settings))?;
                let kernel = PlannedKernel::from_kernel(&mut kernel);
                planning::plan(config, cluster, host, kernel).map_err(failed)?
            }
        }
    };
    report(&planned, format)
}

fn report(planned: &Plan, format: OutputFormat) -> Result<Outcome, CommandError> {
    let status = planned.settled.status.clone().unwrap_or_default();
    for line in &status.degraded {
        tracing::warn!("{line}");
    }
    for (key, mapping) in status.mappings.iter().filter(|(_, mapping)| mapping.invalid != "no") {
        tracing::warn!("Mapping {key} is rejected: {}", mapping.invalid);
    }
    let changes = render::changes(&planned.before, &planned.after);
    match format {
        OutputFormat::Text => output::print(&changes.to_string())?,
        OutputFormat::Json => output::print_json(&json!({
            "changes": changes,
            "transactions": planned.settled.transactions,
            "degraded": status.degraded,
        }))?,
    }
    Ok(Outcome::Success)
}
