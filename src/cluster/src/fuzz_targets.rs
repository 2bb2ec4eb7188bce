//! Body of the fuzz target over manifests. It lives here so that plain tests replay the corpus.

use smartnat_core::admit::admit;
use smartnat_core::model::{ClusterState, GatewayConfig};

use crate::manifests::ManifestStore;

/// Between two files; no manifest holds it.
const NEXT_FILE: char = '\0';
/// Files that are made of the bytes, at most.
const MAX_FILES: usize = 3;
const NAMES: [&str; MAX_FILES] = ["a.yaml", "b.json", "c.yml"];

/// Reads text as the files of a directory. It never panics: what cannot be read is reported with
/// its file, the rest is handed on, and a second look at the same text says the same.
pub fn manifests(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let files: Vec<(&str, &str)> =
        NAMES.into_iter().zip(text.splitn(MAX_FILES, NEXT_FILE)).collect();
    let (store, reload) = ManifestStore::from_texts(files.iter().copied());
    let (_, again) = ManifestStore::from_texts(files.iter().copied());
    assert_eq!(reload, again, "two looks at one text agree");

    let mut folded = ClusterState::default();
    for change in reload.changes {
        folded.update(change);
    }
    let state = store.cluster_state();
    assert_eq!(folded, state, "the changes are what there is");
    for problem in &reload.problems {
        let text = problem.to_string();
        assert!(NAMES.iter().any(|name| text.contains(name)), "a problem names its file: {text}");
    }
    assert!(store.sources().count() >= state.mappings.len() + state.services.len());
    let admission = admit(&state, &GatewayConfig::default());
    assert_eq!(admission.accepted.len() + admission.rejected.len(), state.mappings.len());
}
