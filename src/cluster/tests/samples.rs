//! The samples of the repository, as a directory of manifests.

use std::path::Path;

use smartnat_cluster::manifests::ManifestStore;
use smartnat_core::model::{ObjectKey, PortReference};

fn samples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples")
}

#[test]
fn they_load_without_a_problem() {
    let (store, reload) = ManifestStore::load(samples()).unwrap();
    assert_eq!(reload.problems, []);
    let state = store.cluster_state();
    let names: Vec<_> = state.mappings.keys().map(|k| &*k.name).collect();
    assert_eq!(names, ["echo", "echo-restricted", "legacy", "voice"]);
    assert_eq!(state.services.len(), 2);
    // Two slices of echo, and the two subsets of the legacy Endpoints.
    assert_eq!(state.slices.len(), 4);
    for mapping in state.mappings.values() {
        let service = mapping.service();
        assert!(state.services.contains_key(&service), "{}", mapping.key);
    }
}

#[test]
fn the_one_for_the_go_version_has_what_it_is_to_show() {
    let (store, _) = ManifestStore::load(samples()).unwrap();
    let state = store.cluster_state();
    let spec = &state.mappings[&ObjectKey::new("default", "legacy")].spec;
    assert!(spec.allowed_sources.contains(&"198.18.2.10".to_owned()));
    assert_eq!(spec.ports[0].service_port, Some(PortReference::Number(8080)));
    assert_eq!(spec.ports[1].protocol.as_deref(), Some("UDP"));
    assert_eq!(spec.ports[1].service_port, None);
    assert!(spec.ports.iter().all(|p| p.end_port.is_none()));
    assert_eq!((spec.masquerade, spec.egress), (None, None));
}
