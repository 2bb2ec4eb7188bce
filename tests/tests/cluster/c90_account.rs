//! The program with the account of `deploy/access` behind the policies of `deploy/admission`.

use std::fs;
use std::path::Path;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};
use smartnat::lab::wait_until;
use smartnat_tests::control_plane::NAMESPACE;

use crate::fleet::{Fleet, is_true};
use crate::station::PATIENCE;

/// The name of the account in `deploy/access`.
const ACCOUNT: &str = "smartnat";

/// A Mapping comes, is served, told of, and goes; nothing of that is refused.
#[test]
fn the_account_of_the_deployment_is_enough() {
    let Some(fleet) = Fleet::new(1) else { return };
    for file in [
        "access/namespace.yaml",
        "access/service-account.yaml",
        "access/roles.yaml",
        "admission/controller.yaml",
        "admission/warnings.yaml",
    ] {
        for object in documents(file) {
            fleet.plane.apply(&object);
        }
    }
    use_account(&fleet);
    wait_for_policy(&fleet);
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1]);
    let run = fleet.serve(1);
    fleet.wait_mapping("default", "echo", |m| is_true(m, "Programmed") && is_true(m, "Accepted"));
    let told = wait_until(PATIENCE, || events(&fleet).contains("Programmed").then_some(()));
    assert!(told.is_some(), "{}", events(&fleet));
    fleet.endpoints("default", &[2]);
    fleet.wait_answer(1, Some("pod2"));
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    let log = run.terminate();
    let refused: Vec<&str> = log.lines().filter(|l| l.contains("forbidden")).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    let text = fs::read_to_string(path).expect("a manifest");
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().expect("YAML")
}

/// Gives the gateway a token of the account in place of the administrator's.
fn use_account(fleet: &Fleet) {
    let accounts: Api<ServiceAccount> = Api::namespaced(fleet.plane.client(), NAMESPACE);
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let params = PostParams::default();
    let granted = fleet.plane.wait(accounts.create_token_request(ACCOUNT, &params, &request));
    let token = granted.expect("a token").status.expect("a token").token;
    let path = fleet.kubeconfig(1);
    let text = fs::read_to_string(&path).expect("a kubeconfig");
    let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    config["users"][0]["user"] = json!({ "token": token });
    fs::write(path, config.to_string()).expect("written");
}

/// Waits until the policy on the account counts: it refuses what the role allows.
fn wait_for_policy(fleet: &Fleet) {
    let mut config = Kubeconfig::read_from(fleet.kubeconfig(1)).expect("a kubeconfig");
    for cluster in config.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
        cluster.server = Some(format!("https://{}", fleet.plane.address()));
    }
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "other" },
    });
    let lease: DynamicObject = serde_json::from_value(lease).expect("a Lease");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
    let options = KubeConfigOptions::default();
    let leases = fleet.plane.wait(async {
        let config = Config::from_custom_kubeconfig(config, &options).await.expect("a config");
        let client = Client::try_from(config).expect("a client");
        Api::<DynamicObject>::namespaced_with(client, NAMESPACE, &resource)
    });
    let refused = wait_until(PATIENCE, || {
        let refused = fleet.plane.wait(leases.create(&dry_run, &lease)).err()?;
        matches!(refused, kube::Error::Api(status) if status.code == 403).then_some(())
    });
    assert!(refused.is_some(), "the policy does not count");
}

/// The reasons of the events in the Mapping's namespace.
fn events(fleet: &Fleet) -> String {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("events.k8s.io", "v1", "Event"));
    let api: Api<DynamicObject> = Api::namespaced_with(fleet.plane.client(), "default", &resource);
    let listed = fleet.plane.wait(api.list(&ListParams::default())).expect("the server answers");
    let reasons = listed.items.iter().filter_map(|event| event.data["reason"].as_str());
    reasons.collect::<Vec<_>>().join(" ")
}
