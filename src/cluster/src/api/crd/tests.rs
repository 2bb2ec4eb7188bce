use std::fs;
use std::path::Path;

use super::*;

#[test]
fn the_file_in_the_repository_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(CRD_FILE);
    let file = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == crd_yaml().unwrap(),
        "{CRD_FILE} is not what the Rust types say; run: cargo run -- crd > {CRD_FILE}"
    );
}

#[test]
fn every_field_is_described() {
    fn check(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        if schema.description.as_ref().is_none_or(|d| d.is_empty() || d.contains('\n')) {
            found.push(path.to_owned());
        }
        for (name, property) in schema.properties.iter().flatten() {
            check(&format!("{path}.{name}"), property, found);
        }
    }
    let mut found = Vec::new();
    let schema = schema();
    for (name, part) in schema.properties.iter().flatten() {
        check(name, part, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_default_would_drift_under_gitops() {
    let text = serde_json::to_string(&schema()).unwrap();
    assert!(!text.contains("\"default\":"), "{text}");
}

#[test]
fn names_columns_and_status_are_those_of_the_api() {
    let spec = crd().spec;
    assert_eq!(spec.names.short_names, Some(vec!["map".to_owned()]));
    assert_eq!(spec.preserve_unknown_fields, Some(false));
    let version = &spec.versions[0];
    assert_eq!((spec.versions.len(), version.name.as_str()), (1, "v1alpha1"));
    assert!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()));
    let columns = version.additional_printer_columns.iter().flatten();
    assert_eq!(
        columns.map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["Service", "Addresses", "Accepted", "Programmed", "Endpoints", "Age"]
    );
}

fn schema() -> JSONSchemaProps {
    let version = crd().spec.versions.remove(0);
    version.schema.unwrap().open_api_v3_schema.unwrap()
}
