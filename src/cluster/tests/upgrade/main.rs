//! The upgrade from the Go version: its definition is replaced by ours over stored Mappings, which
//! keep their status and finalizer and can go on from there, valid or not.

#[path = "../apiserver/mod.rs"]
mod apiserver;
mod etcd;
mod predecessor;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use apiserver::ApiServer;
use etcd::Etcd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Client, CustomResourceExt};
use predecessor::Names;
use serde::Deserialize;
use serde_json::{Value, json};
use smartnat_cluster::api;

type Failure = Box<dyn std::error::Error>;

/// A definition counts some time after it was written.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How the administrator brings our definition.
#[derive(Clone, Copy, Debug)]
enum How {
    /// `kubectl apply --server-side --force-conflicts`.
    ServerSide,
    /// `kubectl apply`, which sends the difference.
    ClientSide,
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_of_the_go_version_outlive_its_definition() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let Some(etcd) = Etcd::of(&server.kubeconfig)? else {
        eprintln!("skipped: the store of the API server is out of reach");
        return Ok(());
    };
    let client = server.client().await?;
    for (how, names) in
        [(How::ServerSide, Names::new("server-side")), (How::ClientSide, Names::new("client-side"))]
    {
        upgrade(&client, &etcd, how, &names).await.map_err(|error| format!("{how:?}: {error}"))?;
    }
    Ok(())
}

async fn upgrade(client: &Client, etcd: &Etcd, how: How, names: &Names) -> Result<(), Failure> {
    let mappings =
        Api::namespaced_with(client.clone(), "default", &ApiResource::erase::<api::Mapping>(&()));
    predecessor::put_definition(etcd)?;
    until_served(&mappings).await?;
    predecessor::put_mappings(etcd, &mappings, names).await?;
    until_status_is_a_subresource(&mappings, &names.early, false).await?;
    let before = contents(&mappings, names).await?;

    bring_definition(client, how).await?;
    until_status_is_a_subresource(&mappings, &names.early, true).await?;
    assert_eq!(contents(&mappings, names).await?, before, "something got lost");
    let typed: Api<api::Mapping> = Api::namespaced(client.clone(), "default");
    let read = typed.list(&ListParams::default()).await?;
    assert!(read.items.len() >= names.all().len(), "the controller cannot read all of them");

    for name in names.all() {
        status_is_taken_over(&mappings, name).await.map_err(|e| format!("{name}: {e}"))?;
    }
    a_status_beside_the_specification_is_ignored(&mappings, &names.late).await?;
    the_invalid_one_can_be_mended_and_go(&mappings, &names.invalid).await?;
    the_sample_applies_unchanged(&mappings).await?;
    the_go_version_can_come_back(client, &mappings, &names.late).await
}

/// Waits until the API server has noticed the definition.
async fn until_served(mappings: &Api<DynamicObject>) -> Result<(), Failure> {
    let end = Instant::now() + IN_FORCE_WITHIN;
    loop {
        match mappings.list(&ListParams::default()).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 && Instant::now() < end => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the definition that counts is ours, or the Go version's.
async fn until_status_is_a_subresource(
    mappings: &Api<DynamicObject>,
    name: &str,
    expected: bool,
) -> Result<(), Failure> {
    let end = Instant::now() + IN_FORCE_WITHIN;
    loop {
        let found = match mappings.get_status(name).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => return Err(error.into()),
        };
        if found == expected {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("status is a subresource: {found}").into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn bring_definition(client: &Client, how: How) -> Result<(), Failure> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = api::Mapping::crd_name();
    let old = definitions.get(name).await?;
    assert_eq!(old.spec.preserve_unknown_fields, Some(true), "not a definition of that time");
    let text: Value = serde_yaml_ng::from_str(&api::crd_yaml()?)?;
    let new = match how {
        How::ServerSide => {
            let parameters = PatchParams::apply("kubectl").force();
            definitions.patch(name, &parameters, &Patch::Apply(text)).await?
        }
        How::ClientSide => {
            definitions.patch(name, &PatchParams::default(), &Patch::Merge(text)).await?
        }
    };
    assert!(!new.spec.preserve_unknown_fields.unwrap_or_default(), "unknown fields are kept");
    assert_eq!(new.spec.versions, api::crd().spec.versions);
    Ok(())
}

/// What matters of the Mappings.
async fn contents(
    mappings: &Api<DynamicObject>,
    names: &Names,
) -> Result<BTreeMap<String, Value>, Failure> {
    let mut contents = BTreeMap::new();
    for name in names.all() {
        let object = mappings.get(name).await?;
        let metadata = &object.metadata;
        assert_eq!(metadata.finalizers.as_deref(), Some(&[api::FINALIZER.to_owned()][..]));
        let content = json!({
            "spec": object.data["spec"],
            "status": object.data["status"],
            "created": metadata.creation_timestamp,
            "generation": metadata.generation,
        });
        contents.insert(name.to_owned(), content);
    }
    Ok(contents)
}

fn status(text: &str) -> Patch<Value> {
    Patch::Apply(json!({
        "apiVersion": api::API_VERSION,
        "kind": api::KIND,
        "status": {
            "invalid": text,
            "addresses": [{ "address": "198.51.100.10", "instance": "gateway-1" }],
        },
    }))
}

/// The fields belong to whoever wrote them before, so that the leader has to force its way once; what it
/// does not name stays.
async fn status_is_taken_over(mappings: &Api<DynamicObject>, name: &str) -> Result<(), Failure> {
    let before = mappings.get(name).await?.data["status"].clone();
    let manager = PatchParams::apply("smartnat-test");
    match mappings.patch_status(name, &manager, &status("taken over")).await {
        Err(kube::Error::Api(error)) if error.code == 409 => {}
        outcome => return Err(format!("no conflict: {outcome:?}").into()),
    }
    mappings.patch_status(name, &manager.clone().force(), &status("taken over")).await?;
    // From then on it is the leader's own.
    mappings.patch_status(name, &manager, &status("and again")).await?;
    let after = mappings.get(name).await?;
    assert_eq!(after.data["status"]["invalid"], "and again");
    assert_eq!(after.data["status"]["addresses"][0]["instance"], "gateway-1");
    for kept in ["serviceVIP", "configuredAddresses"] {
        assert_eq!(after.data["status"][kept], before[kept], "{kept}");
    }
    assert_eq!(after.metadata.finalizers.as_deref(), Some(&[api::FINALIZER.to_owned()][..]));
    Ok(())
}

/// Why all instances of the Go version are stopped first.
async fn a_status_beside_the_specification_is_ignored(
    mappings: &Api<DynamicObject>,
    name: &str,
) -> Result<(), Failure> {
    let mut object = mappings.get(name).await?;
    let before = object.data["status"].clone();
    object.data["status"]["configuredAddresses"] = json!({});
    mappings.replace(name, &PostParams::default(), &object).await?;
    assert_eq!(mappings.get(name).await?.data["status"], before);
    Ok(())
}

/// What was stored before our rules is held against them only where it changes.
async fn the_invalid_one_can_be_mended_and_go(
    mappings: &Api<DynamicObject>,
    name: &str,
) -> Result<(), Failure> {
    let merge = |spec: Value| Patch::Merge(json!({ "spec": spec }));
    let parameters = PatchParams::default();
    let worse = merge(json!({ "serviceName": "No Service" }));
    match mappings.patch(name, &parameters, &worse).await {
        Err(kube::Error::Api(error)) if error.code == 422 => {}
        outcome => return Err(format!("a new mistake is accepted: {outcome:?}").into()),
    }
    mappings.patch(name, &parameters, &merge(json!({ "serviceName": "other" }))).await?;
    let mended = json!({ "addresses": ["198.51.100.12"], "ports": [{ "port": 80 }] });
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    mappings.patch(name, &dry_run, &merge(mended)).await?;
    let none = serde_json::from_value(json!([
        { "op": "test", "path": "/metadata/finalizers/0", "value": api::FINALIZER },
        { "op": "remove", "path": "/metadata/finalizers/0" },
    ]))?;
    mappings.patch(name, &parameters, &Patch::<()>::Json(none)).await?;
    mappings.delete(name, &kube::api::DeleteParams::default()).await?;
    assert!(mappings.get_opt(name).await?.is_none(), "it does not go");
    Ok(())
}

async fn the_sample_applies_unchanged(mappings: &Api<DynamicObject>) -> Result<(), Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples/go-version.yaml");
    let text = std::fs::read_to_string(path)?;
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    let documents: Vec<Value> = documents.collect::<Result<_, _>>()?;
    let mapping = documents.iter().find(|d| d["kind"] == api::KIND).ok_or("no Mapping")?;
    let name = mapping["metadata"]["name"].as_str().ok_or("no name")?;
    let manager = PatchParams { dry_run: true, ..PatchParams::apply("kubectl") };
    let applied = mappings.patch(name, &manager, &Patch::Apply(mapping)).await?;
    assert_eq!(applied.data["spec"], mapping["spec"], "the server changed it");
    Ok(())
}

/// With status in the object again its writes count again.
async fn the_go_version_can_come_back(
    client: &Client,
    mappings: &Api<DynamicObject>,
    name: &str,
) -> Result<(), Failure> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let removal = json!([{ "op": "remove", "path": "/spec/versions/0/subresources" }]);
    let removal = Patch::<()>::Json(serde_json::from_value(removal)?);
    definitions.patch(api::Mapping::crd_name(), &PatchParams::default(), &removal).await?;
    until_status_is_a_subresource(mappings, name, false).await?;
    let mut object = mappings.get(name).await?;
    object.data["status"]["configuredAddresses"] = json!({});
    object.metadata.finalizers = None;
    mappings.replace(name, &PostParams::default(), &object).await?;
    let after = mappings.get(name).await?;
    assert_eq!(after.data["status"]["configuredAddresses"], json!({}));
    assert_eq!(after.metadata.finalizers, None);
    Ok(())
}
