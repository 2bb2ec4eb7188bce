//! Objects in a namespace of a test.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use smartnat_cluster::api;
use smartnat_core::model::ObjectKey;

type Failure = Box<dyn std::error::Error>;

/// Installs the definition of the Mapping.
pub(crate) async fn establish(client: &Client) -> Result<(), Failure> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let manager = PatchParams::apply("smartnat-test").force();
    let definition = serde_yaml_ng::from_str::<Value>(&api::crd_yaml()?)?;
    let name = api::Mapping::crd_name();
    definitions.patch(name, &manager, &Patch::Apply(definition)).await?;
    let established = await_condition(definitions, name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(30), established).await??;
    // Its first object can be refused for a moment longer.
    let mappings: Api<api::Mapping> = Api::namespaced(client.clone(), "default");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let probe = serde_json::from_value(json!({
        "metadata": { "generateName": "probe-" }, "spec": mapping_spec("probe"),
    }))?;
    let mut last = mappings.create(&dry_run, &probe).await;
    for _ in 0..100 {
        if last.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = mappings.create(&dry_run, &probe).await;
    }
    Ok(last.map(drop)?)
}

/// A namespace of a test.
#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) client: Client,
    pub(crate) name: String,
}

impl Space {
    /// Runs a test in a new namespace, which is deleted however it ends.
    pub(crate) async fn run<F>(client: &Client, test: impl FnOnce(Self) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let new = json!({ "metadata": { "generateName": "source-test-" } });
        let new = namespaces.create(&PostParams::default(), &serde_json::from_value(new)?).await?;
        let name = new.metadata.name.ok_or("the server named nothing")?;
        let space = Self { client: client.clone(), name: name.clone() };
        let outcome = AssertUnwindSafe(test(space)).catch_unwind().await;
        let deleted = namespaces.delete(&name, &DeleteParams::default()).await;
        match outcome {
            Ok(outcome) => outcome.and(deleted.map(drop).map_err(Into::into)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    pub(crate) fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(self.name.as_str(), name)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object, or gives it this content.
    pub(crate) async fn apply<K>(&self, name: &str, content: Value) -> Result<(), Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let mut object = content;
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        object["metadata"]["name"] = name.into();
        let manager = PatchParams::apply("smartnat-test").force();
        self.api::<K>().patch(name, &manager, &Patch::Apply(object)).await?;
        Ok(())
    }

    pub(crate) async fn delete<K>(&self, name: &str) -> Result<(), Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    pub(crate) async fn mapping(&self, name: &str, service: &str) -> Result<(), Failure> {
        self.apply::<api::Mapping>(name, json!({ "spec": mapping_spec(service) })).await
    }

    pub(crate) async fn service(&self, name: &str, port: u16) -> Result<(), Failure> {
        let content = json!({ "spec": { "clusterIP": "None", "ports": [{ "port": port }] } });
        self.apply::<Service>(name, content).await
    }

    pub(crate) async fn slice(
        &self,
        name: &str,
        service: &str,
        addresses: &[String],
    ) -> Result<(), Failure> {
        let endpoints: Vec<_> =
            addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        let content = json!({
            "metadata": { "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4", "ports": [{ "port": 8080 }], "endpoints": endpoints,
        });
        self.apply::<EndpointSlice>(name, content).await
    }

    pub(crate) async fn lease(&self, name: &str, label: &str) -> Result<(), Failure> {
        let content = json!({
            "metadata": { "labels": { "smartnat-test": label } },
            "spec": { "holderIdentity": name },
        });
        self.apply::<Lease>(name, content).await
    }

    /// Writes the status of a Mapping.
    pub(crate) async fn status(&self, mapping: &str, invalid: &str) -> Result<(), Failure> {
        let status = json!({ "status": { "invalid": invalid } });
        let mappings = self.api::<api::Mapping>();
        mappings.patch_status(mapping, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }
}

fn mapping_spec(service: &str) -> Value {
    json!({ "addresses": ["203.0.113.10"], "serviceName": service, "ports": [{ "port": 8080 }] })
}
