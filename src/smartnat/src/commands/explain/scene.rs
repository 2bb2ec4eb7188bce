//! Where a scene comes from: this host, files about another one, or a snapshot.

use std::path::Path;

use smartnat_core::compile::adopt_numbers;
use smartnat_core::explain::{Foreign, Scene};
use smartnat_core::model::{Backend, ClusterState, HostState};
use smartnat_core::ops::OpError;

use crate::cli::ExplainArgs;
use crate::error::CommandError;
use crate::planning::{self, Plan, PlannedKernel};
use crate::settings::Settings;
use crate::{backend, host_file};

/// A cluster of 10,000 Mappings takes some 20 MiB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A scene, with what is worth knowing about it.
pub(super) struct Found {
    pub(super) scene: Scene,
    pub(super) notes: Vec<String>,
}

/// The scene that the flags ask for.
pub(super) fn scene(settings: &Settings, args: &ExplainArgs) -> Result<Found, CommandError> {
    if let Some(file) = &args.snapshot {
        return Ok(Found { scene: read(file)?, notes: Vec::new() });
    }
    settings.require_uplinks()?;
    let cluster = crate::commands::cluster_of_manifests(settings)?;
    match &args.host {
        Some(file) => offline(settings, cluster, host_file::from_file(file)?, Vec::new()),
        None => of_this_host(settings, cluster),
    }
}

/// A host from nothing, with the sysctls of a fresh kernel.
fn offline(
    settings: &Settings,
    cluster: ClusterState,
    host: HostState,
    notes: Vec<String>,
) -> Result<Found, CommandError> {
    let plan = plan(settings, &cluster, &host, PlannedKernel::empty())?;
    Ok(Found { scene: with(settings, cluster, host, &plan, Foreign::default()), notes })
}

fn of_this_host(settings: &Settings, cluster: ClusterState) -> Result<Found, CommandError> {
    let host = host_file::this_host()?;
    let blind = if settings.gateway.backend == Backend::Simulated {
        Some("the backend is simulated")
    } else if smartnat_linux::is_privileged() {
        None
    } else {
        Some("that needs root")
    };
    if let Some(why) = blind {
        let note =
            format!("rules in this host's kernel, others' included, were not looked at: {why}");
        return offline(settings, cluster, host, vec![note]);
    }
    let settings = &backend::chosen(settings);
    let mut kernel = backend::open(backend::options(settings))?;
    let plan = plan(settings, &cluster, &host, PlannedKernel::from_kernel(&mut kernel))?;
    let foreign = kernel.obstacles();
    let unreadable = foreign.unreadable.iter().map(|what| format!("cannot be read: {what}"));
    let notes = not_in_sync(&plan).into_iter().chain(unreadable).collect();
    Ok(Found { scene: with(settings, cluster, host, &plan, foreign), notes })
}

/// The kernel holds something else than what is told.
fn not_in_sync(plan: &Plan) -> Option<String> {
    let due: usize = plan.settled.transactions.iter().map(|t| t.ops.len()).sum();
    let before = &plan.before;
    let nothing = before.xtables.is_empty() && before.nft.is_none() && before.routes.is_empty();
    match (due, nothing) {
        (0, _) => None,
        (_, true) => Some(
            "NOT IN SYNC: the kernel holds nothing of SmartNat's; told is what `smartnat run` would do"
                .to_owned(),
        ),
        (due, false) => Some(format!(
            "NOT IN SYNC: {due} changes are due in the kernel (`smartnat plan` shows them); told is \
             what holds after them"
        )),
    }
}

fn plan(
    settings: &Settings,
    cluster: &ClusterState,
    host: &HostState,
    kernel: PlannedKernel<'_>,
) -> Result<Plan, CommandError> {
    let failed = |error: OpError| CommandError::Failed(error.to_string());
    planning::plan(settings.gateway.clone(), cluster.clone(), host.clone(), kernel).map_err(failed)
}

fn with(
    settings: &Settings,
    cluster: ClusterState,
    host: HostState,
    plan: &Plan,
    foreign: Foreign,
) -> Scene {
    Scene {
        cluster,
        host,
        config: settings.gateway.clone(),
        numbers: adopt_numbers(&plan.before, &settings.gateway),
        sysctls: plan.before.sysctls.clone(),
        foreign,
    }
}

/// Writes a scene for somebody else to look at.
pub(super) fn write(scene: &Scene, file: &Path) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::Failed(format!("--write-snapshot {}: {error}", file.display()))
    };
    let text = serde_yaml_ng::to_string(scene).map_err(|error| failed(&error))?;
    std::fs::write(file, text).map_err(|error| failed(&error))
}

fn read(file: &Path) -> Result<Scene, CommandError> {
    let wrong = |error: &dyn std::fmt::Display| {
        CommandError::Usage(format!(
            "--snapshot {}: {error}; make such a file with `smartnat explain --write-snapshot FILE`, or get \
             /debug/snapshot of a running instance",
            file.display()
        ))
    };
    let length = std::fs::metadata(file).map_err(|error| wrong(&error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(wrong(&format!("it has {length} bytes, at most {MAX_FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    // A running instance hands out JSON, whose variants are no variants of this YAML.
    let scene: Scene = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| wrong(&error))?
    } else {
        serde_yaml_ng::from_str(&text).map_err(|error| wrong(&error))?
    };
    match scene.config.problems().first() {
        Some(problem) => Err(wrong(&format!("config: {problem}"))),
        None => Ok(scene),
    }
}
