//! The samples as the demo's manifests, and the edits that it makes to them.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde_yaml_ng::Value;
use smartnat_cluster::manifests::{ManifestStore, Severity};
use smartnat_core::model::ClusterObject;

use super::DemoError;

/// The file whose endpoints are edited.
const ENDPOINTS_FILE: &str = "echo-service.yaml";

/// Files of `deploy/samples`.
const SAMPLES: [(&str, &str); 5] = [
    (ENDPOINTS_FILE, include_str!("../../../../deploy/samples/echo-service.yaml")),
    ("go-version.yaml", include_str!("../../../../deploy/samples/go-version.yaml")),
    ("mapping-echo.yaml", include_str!("../../../../deploy/samples/mapping-echo.yaml")),
    ("mapping-range.yaml", include_str!("../../../../deploy/samples/mapping-range.yaml")),
    ("mapping-restricted.yaml", include_str!("../../../../deploy/samples/mapping-restricted.yaml")),
];

/// What happens to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointEdit {
    /// As Kubernetes marks a pod that was told to end and still answers.
    Drain,
    /// As when the pod has gone.
    Remove,
}

/// Writes the samples to `directory`; the names of the files.
pub(super) fn write_samples(directory: &Path) -> Result<(), DemoError> {
    SAMPLES.iter().try_for_each(|(name, text)| write(&directory.join(name), text))
}

/// The samples that are in no directory.
#[derive(Clone, Debug)]
pub(super) struct Texts(Vec<(&'static str, String)>);

impl Texts {
    /// As they are.
    pub(super) fn samples() -> Self {
        Self(SAMPLES.map(|(name, text)| (name, text.to_owned())).to_vec())
    }

    /// Edits the endpoints at `addresses`.
    pub(super) fn edit(
        &mut self,
        addresses: &[IpAddr],
        edit: EndpointEdit,
    ) -> Result<(), DemoError> {
        for (name, text) in self.0.iter_mut().filter(|(name, _)| *name == ENDPOINTS_FILE) {
            *text = edited(text, addresses, edit)
                .map_err(|problem| DemoError::Manifest(name, problem))?;
        }
        Ok(())
    }

    /// All objects, as the program reads them from a directory.
    pub(super) fn objects(&self) -> Result<Vec<ClusterObject>, DemoError> {
        let texts = self.0.iter().map(|(name, text)| (*name, text.as_str()));
        let (_, read) = ManifestStore::from_texts(texts);
        let errors = read.problems.iter().find(|p| p.severity == Severity::Error);
        match errors {
            Some(problem) => Err(DemoError::Manifest("of the samples", problem.to_string())),
            None => Ok(read.changes),
        }
    }
}

/// Edits the endpoints at `addresses` in the file that has them, in one step.
pub(super) fn edit_endpoints(
    directory: &Path,
    addresses: &[IpAddr],
    edit: EndpointEdit,
) -> Result<(), DemoError> {
    let path = directory.join(ENDPOINTS_FILE);
    let text = fs::read_to_string(&path).map_err(|e| io_error(&path, e))?;
    let edited = edited(&text, addresses, edit)
        .map_err(|problem| DemoError::Manifest(ENDPOINTS_FILE, problem))?;
    // Beside the directory and then moved into it: nobody reads half a file.
    let next = directory.with_extension("next");
    write(&next, &edited)?;
    fs::rename(&next, &path).map_err(|e| io_error(&path, e))
}

fn edited(text: &str, addresses: &[IpAddr], edit: EndpointEdit) -> Result<String, String> {
    let mut documents = Vec::new();
    let mut found = 0;
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let mut document = Value::deserialize(document).map_err(|e| e.to_string())?;
        if let Some(Value::Sequence(endpoints)) = document.get_mut("endpoints") {
            found += edit_in(endpoints, addresses, edit);
        }
        documents.push(serde_yaml_ng::to_string(&document).map_err(|e| e.to_string())?);
    }
    if found != addresses.len() {
        return Err(format!("{found} endpoints of {addresses:?} are in it"));
    }
    Ok(documents.join("---\n"))
}

/// How many of the endpoints were to be edited.
fn edit_in(endpoints: &mut Vec<Value>, addresses: &[IpAddr], edit: EndpointEdit) -> usize {
    let is_meant = |endpoint: &Value| {
        let own = endpoint.get("addresses").and_then(Value::as_sequence).into_iter().flatten();
        let parsed = own.filter_map(|a| a.as_str()?.parse::<IpAddr>().ok());
        parsed.into_iter().any(|address| addresses.contains(&address))
    };
    let before = endpoints.iter().filter(|e| is_meant(e)).count();
    match edit {
        EndpointEdit::Remove => endpoints.retain(|endpoint| !is_meant(endpoint)),
        EndpointEdit::Drain => {
            for endpoint in endpoints.iter_mut().filter(|e| is_meant(e)) {
                let conditions = [("ready", false), ("serving", true), ("terminating", true)];
                let conditions = conditions.map(|(key, on)| (key.into(), Value::Bool(on)));
                if let Value::Mapping(fields) = endpoint {
                    fields.insert(
                        "conditions".into(),
                        Value::Mapping(conditions.into_iter().collect()),
                    );
                }
            }
        }
    }
    before
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    fs::write(path, text).map_err(|e| io_error(path, e))
}

fn io_error(path: &Path, error: std::io::Error) -> DemoError {
    DemoError::Io(path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> [IpAddr; 2] {
        ["10.244.1.12".parse().unwrap(), "fd00:244:1::12".parse().unwrap()]
    }

    #[test]
    fn a_drained_endpoint_stays_and_a_removed_one_goes() {
        let drained = edited(SAMPLES[0].1, &pods(), EndpointEdit::Drain).unwrap();
        assert_eq!(drained.matches("terminating: true").count(), 2);
        assert_eq!(drained.matches("addresses:").count(), 6);
        let removed = edited(&drained, &pods(), EndpointEdit::Remove).unwrap();
        assert!(!removed.contains("terminating"));
        assert_eq!(removed.matches("addresses:").count(), 4);
    }

    #[test]
    fn endpoints_that_are_not_there_are_an_error() {
        let stranger = ["10.9.9.9".parse().unwrap()];
        assert!(edited(SAMPLES[0].1, &stranger, EndpointEdit::Remove).is_err());
    }

    #[test]
    fn every_sample_is_shown() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples");
        let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names.retain(|n| Path::new(n).extension().is_some_and(|e| e == "yaml"));
        assert_eq!(names, SAMPLES.map(|(name, _)| name));
    }
}
