//! The `CustomResourceDefinition` of the Mapping.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::Mapping;

/// Where the repository keeps the output of [`crd_yaml`].
pub const CRD_FILE: &str = "crds/smartnat.aureacentral.com_mappings.yaml";

/// The definition of the Mapping, to be applied to a cluster.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = Mapping::crd();
    // The default, written out: the definition of the Go version's era said `true`, and an
    // apply that leaves the field out would not change it.
    crd.spec.preserve_unknown_fields = Some(false);
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            unfold(schema);
        }
    }
    crd
}

/// Joins the lines of descriptions, which come from comments: whoever shows them breaks
/// lines where it suits.
fn unfold(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        unfold(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unfold(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        unfold(values);
    }
}

/// The definition as YAML, as in [`CRD_FILE`].
pub fn crd_yaml() -> Result<String, serde_yaml_ng::Error> {
    let yaml = serde_yaml_ng::to_string(&crd())?;
    Ok(format!("# Generated from the Rust types by `cargo run -- crd`; do not edit.\n---\n{yaml}"))
}

#[cfg(test)]
mod tests;
