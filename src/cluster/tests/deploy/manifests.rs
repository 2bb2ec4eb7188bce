//! The manifests as kustomize puts them together.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, ValidationDirective};
use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use smartnat_cluster::api;

use crate::Failure;

const MANAGER: &str = "smartnat-test";
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Objects in the order in which they are applied.
pub(crate) struct Manifests(pub(crate) Vec<Value>);

/// A path of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What `kubectl apply -k` applies of a directory. `None`, and a word about it, without kubectl.
pub(crate) fn kustomize(directory: &str) -> Result<Option<Manifests>, Failure> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("kustomize").arg(repository(directory));
    let output = match kubectl.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return skipped("kubectl", "SMARTNAT_REQUIRE_APISERVER");
        }
        output => output?,
    };
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(Some(Manifests(documents(&String::from_utf8(output.stdout)?)?)))
}

/// Says that a program is missing, which is a failure where `variable` is 1.
pub(crate) fn skipped<T>(program: &str, variable: &str) -> Result<Option<T>, Failure> {
    if env::var_os(variable).is_some_and(|value| value == "1") {
        return Err(format!("{variable}=1, but there is no {program}").into());
    }
    eprintln!("skipped: no {program}");
    Ok(None)
}

/// The documents of a YAML stream, empty ones left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, Failure> {
    let all: Result<Vec<Value>, _> =
        serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize).collect();
    Ok(all?.into_iter().filter(|document| !document.is_null()).collect())
}

impl Manifests {
    /// The object of this kind and name.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let is = |object: &&Value| {
            object["kind"] == kind && object["metadata"]["name"].as_str() == Some(name)
        };
        self.0.iter().find(is)
    }

    /// Applies all; unknown and repeated fields are errors.
    pub(crate) async fn apply(&self, client: &Client) -> Result<(), Failure> {
        for object in &self.0 {
            apply(client, object, false).await.map_err(|error| format!("{object}: {error}"))?;
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = api::Mapping::crd_name();
        let established = await_condition(definitions, name, conditions::is_crd_established());
        tokio::time::timeout(ESTABLISHED_WITHIN, established).await??;
        Ok(())
    }

    /// What is wrong with the check itself: objects with a misspelt field that are accepted.
    pub(crate) async fn with_typing_errors(&self, client: &Client) -> Result<Vec<String>, Failure> {
        let mut wrong = Vec::new();
        for (kind, place) in [
            ("DaemonSet", "/spec/template/spec"),
            ("ClusterRole", "/rules/0"),
            ("ValidatingAdmissionPolicy", "/spec/validations/0"),
        ] {
            let object = self.0.iter().find(|o| o["kind"] == kind).ok_or("no such kind")?;
            let mut object = object.clone();
            let part = object.pointer_mut(place).ok_or_else(|| format!("{kind}: no {place}"))?;
            part["hostNetwrok"] = json!(true);
            if apply(client, &object, true).await.is_ok() {
                wrong.push(format!("{kind} with a misspelt field at {place} is accepted"));
            }
        }
        Ok(wrong)
    }

    /// Whether the gateways can be turned into pods that clean up.
    pub(crate) async fn clean_up(&self, client: &Client) -> Result<(), Failure> {
        let gateways = self.find("DaemonSet", "smartnat").ok_or("no DaemonSet")?;
        let text = std::fs::read_to_string(repository("deploy/kustomize/cleanup-patch.yaml"))?;
        let patch = Patch::<()>::Json(serde_yaml_ng::from_str(&text)?);
        let api = api_of(client, gateways).await?;
        let parameters = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let patched = api.patch("smartnat", &parameters, &patch).await?;
        let container = &patched.data["spec"]["template"]["spec"]["containers"][0];
        assert_eq!((&container["args"], &container["livenessProbe"]), (&json!(null), &json!(null)));
        let command = container["command"][2].as_str().unwrap_or_default();
        assert!(command.starts_with("smartnat cleanup && "), "{command}");
        Ok(())
    }

    /// Deletes all, the last first, but the definition: other tests may be using it.
    pub(crate) async fn delete(&self, client: &Client) -> Result<(), Failure> {
        for object in self.0.iter().rev().filter(|o| o["kind"] != "CustomResourceDefinition") {
            let api = api_of(client, object).await?;
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            match api.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }
}

async fn apply(client: &Client, object: &Value, dry_run: bool) -> Result<(), Failure> {
    let api = api_of(client, object).await?;
    let name = object["metadata"]["name"].as_str().ok_or("it has no name")?;
    let parameters = PatchParams {
        dry_run,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply(MANAGER).force()
    };
    api.patch(name, &parameters, &Patch::Apply(object)).await?;
    Ok(())
}

async fn api_of(client: &Client, object: &Value) -> Result<Api<DynamicObject>, Failure> {
    let types: TypeMeta = serde_json::from_value(object.clone())?;
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities): (ApiResource, ApiCapabilities) =
        pinned_kind(client, &kind).await?;
    Ok(match (capabilities.scope, object["metadata"]["namespace"].as_str()) {
        (Scope::Namespaced, Some(namespace)) => {
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
        (Scope::Namespaced, None) => return Err("it has no namespace".into()),
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
    })
}
