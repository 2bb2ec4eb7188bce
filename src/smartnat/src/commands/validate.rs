//! `smartnat validate`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use smartnat_cluster::manifests::{ManifestProblem, ManifestStore};
use smartnat_cluster::store::SourceKind;
use smartnat_core::admit::{Admission, Rejection, admit};
use smartnat_core::model::{ClusterState, HostState, ObjectKey};
use smartnat_core::status::MappingStatus;

use crate::cli::{OutputFormat, ValidateArgs};
use crate::error::{CommandError, Outcome};
use crate::planning::{PlannedKernel, objects, plan};
use crate::settings::Settings;
use crate::{host_file, output};

/// The verdict on one Mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Verdict {
    mapping: ObjectKey,
    /// File and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    accepted: bool,
    /// Why not.
    problems: Vec<String>,
    /// What is worth knowing on the host of `--host`.
    remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Verdicts {
    mappings: Vec<Verdict>,
    files: Vec<ManifestProblem>,
}

#[derive(Default)]
struct Manifests {
    cluster: ClusterState,
    sources: BTreeMap<ObjectKey, String>,
    problems: Vec<ManifestProblem>,
}

/// Prints a verdict for each Mapping; rejected when one is, or when something can't be read.
pub(super) fn validate(
    settings: &Settings,
    args: &ValidateArgs,
    format: OutputFormat,
) -> Result<Outcome, CommandError> {
    let host = args.host.as_deref().map(host_file::from_file).transpose()?;
    let Manifests { cluster, sources, problems } =
        load(args.file.iter().chain(args.manifests.as_ref()))?;
    let admission = admit(&cluster, &settings.gateway);
    let remarks = match host {
        Some(host) => remarks_on(settings, cluster, host)?,
        None => BTreeMap::new(),
    };
    let verdicts = Verdicts { mappings: verdicts(admission, &sources, &remarks), files: problems };
    match format {
        OutputFormat::Text => output::print(&verdicts.text())?,
        OutputFormat::Json => output::print_json(&verdicts)?,
    }
    Ok(if verdicts.good() { Outcome::Success } else { Outcome::Rejected })
}

fn load<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Manifests, CommandError> {
    let mut manifests = Manifests::default();
    for path in paths {
        let (store, reload) =
            ManifestStore::load(path).map_err(|error| CommandError::Usage(error.to_string()))?;
        for object in objects(store.cluster_state()) {
            manifests.cluster.update(object);
        }
        manifests.problems.extend(reload.problems);
        // A Service usually has the name of its Mapping.
        for source in store.sources().filter(|source| source.id.kind == SourceKind::Mapping) {
            let place = format!("{}:{}", source.file, source.line);
            manifests.sources.insert(source.id.key.clone(), place);
        }
    }
    Ok(manifests)
}

fn verdicts(
    admission: Admission,
    sources: &BTreeMap<ObjectKey, String>,
    remarks: &BTreeMap<ObjectKey, Vec<String>>,
) -> Vec<Verdict> {
    let accepted = admission.accepted.into_keys().map(|key| (key, Vec::new(), true));
    let rejected = admission.rejected.into_iter().map(|(key, why)| (key, sentences(&why), false));
    let mut all: Vec<Verdict> = accepted
        .chain(rejected)
        .map(|(mapping, problems, accepted)| Verdict {
            source: sources.get(&mapping).cloned(),
            remarks: remarks.get(&mapping).cloned().unwrap_or_default(),
            mapping,
            accepted,
            problems,
        })
        .collect();
    all.sort_by(|a, b| a.mapping.cmp(&b.mapping));
    all
}

fn sentences(rejection: &Rejection) -> Vec<String> {
    match rejection {
        Rejection::Invalid(problems) => problems.iter().map(ToString::to_string).collect(),
        Rejection::Conflict(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn remarks_on(
    settings: &Settings,
    cluster: ClusterState,
    host: HostState,
) -> Result<BTreeMap<ObjectKey, Vec<String>>, CommandError> {
    settings.require_uplinks()?;
    let planned = plan(settings.gateway.clone(), cluster, host, PlannedKernel::empty())
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    let report = planned.settled.status.unwrap_or_default();
    for warning in &report.degraded {
        tracing::warn!("{warning}");
    }
    let accepted = report.mappings.into_iter().filter(|(_, status)| status.invalid == "no");
    Ok(accepted.map(|(key, status)| (key, remarks(&status))).collect())
}

fn remarks(status: &MappingStatus) -> Vec<String> {
    let held: Vec<String> = status.configured_addresses.keys().map(ToString::to_string).collect();
    let held = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
    let waiting = status
        .ports
        .iter()
        .filter_map(|port| Some(format!("port {} waits: {}", port.port, port.waiting.as_ref()?)));
    std::iter::once(format!("addresses on the host: {held}"))
        .chain(waiting)
        .chain(status.remarks.iter().cloned())
        .collect()
}

impl Verdicts {
    fn good(&self) -> bool {
        self.mappings.iter().all(|verdict| verdict.accepted)
            && !self.files.iter().any(ManifestProblem::is_error)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for verdict in &self.mappings {
            let word = if verdict.accepted { "accepted" } else { "rejected" };
            let source = verdict.source.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{word}  {}  {source}", verdict.mapping);
            for line in verdict.problems.iter().chain(&verdict.remarks) {
                let _ = writeln!(text, "          {line}");
            }
        }
        for problem in &self.files {
            let _ = writeln!(text, "{}  {problem}", problem.severity);
        }
        let accepted = self.mappings.iter().filter(|verdict| verdict.accepted).count();
        let errors = self.files.iter().filter(|problem| problem.is_error()).count();
        let _ = writeln!(
            text,
            "{} Mappings: {accepted} accepted, {} rejected; files: {errors} errors, {} warnings",
            self.mappings.len(),
            self.mappings.len() - accepted,
            self.files.len() - errors
        );
        text
    }
}

#[cfg(test)]
mod tests;
