//! The definition of the Mapping on a real API server: it is accepted, its rules refuse what
//! they should with a sentence that helps, and manifests of the Go version pass.

mod apiserver;

use apiserver::ApiServer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt};
use serde_json::{Value, json};
use smartnat_cluster::api;

type Failure = Box<dyn std::error::Error>;

#[tokio::test(flavor = "multi_thread")]
async fn the_definition_holds_on_a_real_api_server() -> Result<(), Failure> {
    let Some(server) = ApiServer::find()? else { return Ok(()) };
    let client = server.client().await?;
    establish(&client).await?;
    let mappings =
        Api::namespaced_with(client, "default", &ApiResource::erase::<api::Mapping>(&()));

    let mut wrong = accepted(&mappings).await;
    wrong.extend(refused(&mappings).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    statuses_of_two_instances_stand_side_by_side(&mappings).await
}

async fn establish(client: &Client) -> Result<(), Failure> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = api::Mapping::crd_name();
    let manager = PatchParams::apply("smartnat-test").force();
    // As a user would: the text of the file, not the value that it was made from.
    let text: Value = serde_yaml_ng::from_str(&api::crd_yaml()?)?;
    definitions.patch(name, &manager, &Patch::Apply(text)).await?;
    let established = await_condition(definitions, name, conditions::is_crd_established());
    tokio::time::timeout(std::time::Duration::from_secs(30), established).await??;
    Ok(())
}

fn mapping(spec: &Value) -> Result<DynamicObject, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": api::API_VERSION,
        "kind": api::KIND,
        "metadata": { "generateName": "crd-test-" },
        "spec": spec,
    }))
}

/// A valid specification with `changes` laid over it.
fn spec(changes: &Value) -> Value {
    let mut spec = json!({
        "addresses": ["203.0.113.10"],
        "serviceName": "echo",
        "ports": [{ "port": 8080 }],
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// Asks the server for its opinion only.
async fn verdict(mappings: &Api<DynamicObject>, changes: &Value) -> Result<(), String> {
    let object = mapping(&spec(changes)).map_err(|e| e.to_string())?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    mappings.create(&dry_run, &object).await.map(drop).map_err(|e| e.to_string())
}

async fn accepted(mappings: &Api<DynamicObject>) -> Vec<String> {
    let many = |n: u32| (1..=n).map(|p| json!({ "port": p })).collect::<Vec<_>>();
    let cases = [
        json!({}),
        json!({ "addresses": ["203.0.113.10", "2001:db8::10", "fe80::1"] }),
        json!({ "allowedSources": ["0.0.0.0/0", "::/0", "192.0.2.7", "10.1.2.3/8", "2001:db8::1"] }),
        json!({ "allowedSources": [] }),
        json!({ "mode": "service", "masquerade": false, "egress": true }),
        json!({ "mode": null, "masquerade": null, "egress": null, "allowedSources": null }),
        json!({ "ports": [{ "port": 5060, "endPort": 5080, "protocol": "udp", "servicePort": 5060 }] }),
        json!({ "ports": [{ "port": 53, "servicePort": "dns", "protocol": "UDP" }] }),
        json!({ "ports": [{ "port": 53, "protocol": "tcp" }, { "port": 53, "protocol": "Udp" }] }),
        json!({ "ports": [{ "port": 7, "servicePort": null, "protocol": null, "endPort": null }] }),
        json!({ "ports": many(256) }),
        // The Go version's: capitals, no servicePort, a bare address, names of 1 and 62 letters.
        json!({
            "mode": "service", "serviceName": "a".repeat(62),
            "allowedSources": ["0.0.0.0/0", "192.168.60.77"],
            "ports": [{ "port": 8080, "protocol": "UDP" }],
        }),
        json!({ "serviceName": "a" }),
    ];
    let mut wrong = Vec::new();
    for case in cases {
        if let Err(error) = verdict(mappings, &case).await {
            wrong.push(format!("{case} should be accepted: {error}"));
        }
    }
    wrong
}

async fn refused(mappings: &Api<DynamicObject>) -> Vec<String> {
    let ports = |ports: Value| json!({ "ports": ports });
    let cases = [
        (json!({ "addresses": [] }), "spec.addresses"),
        (json!({ "addresses": ["203.0.113.10/24"] }), "without prefix length"),
        (json!({ "addresses": ["1.1.1.1", "example.com"] }), "spec.addresses[1]"),
        (json!({ "addresses": ["127.0.0.1"] }), "cannot be exposed"),
        (json!({ "addresses": ["::"] }), "cannot be exposed"),
        (json!({ "addresses": ["ff02::1"] }), "cannot be exposed"),
        (json!({ "addresses": ["1.1.1.1", "1.1.1.1"] }), "listed twice"),
        (json!({ "allowedSources": ["1.1.1.1/33"] }), "spec.allowedSources[0]"),
        (json!({ "allowedSources": ["everyone"] }), "must be a network such as"),
        (json!({ "serviceName": "" }), "spec.serviceName"),
        (json!({ "serviceName": "Echo" }), "lower-case letters"),
        (json!({ "serviceName": "a".repeat(64) }), "spec.serviceName"),
        (json!({ "mode": "Service" }), "the only mode"),
        (ports(json!([])), "spec.ports"),
        (ports(json!([{ "servicePort": 80 }])), "spec.ports[0].port"),
        (ports(json!([{ "port": 0 }])), "spec.ports[0].port"),
        (ports(json!([{ "port": 65536 }])), "spec.ports[0].port"),
        (ports(json!([{ "port": 80, "endPort": 65536 }])), "spec.ports[0].endPort"),
        (ports(json!([{ "port": 80, "endPort": 79 }])), "must not be less than port"),
        (ports(json!([{ "port": 80, "protocol": "icmp" }])), "tcp, udp or sctp"),
        (ports(json!([{ "port": 80, "servicePort": 0 }])), "spec.ports[0].servicePort"),
        (ports(json!([{ "port": 80, "servicePort": "80" }])), "without quotes"),
        (ports(json!([{ "port": 80 }, { "port": 80, "protocol": "TCP" }])), "share a port"),
        (ports(json!([{ "port": 80, "endPort": 90 }, { "port": 85 }])), "share a port"),
    ];
    let mut wrong = Vec::new();
    for (case, expected) in cases {
        match verdict(mappings, &case).await {
            Ok(()) => wrong.push(format!("{case} should be refused")),
            Err(error) if !error.contains(expected) => {
                wrong.push(format!("{case}: {expected:?} is not in: {error}"));
            }
            Err(_) => {}
        }
    }
    wrong
}

/// Each instance owns its entry of `status.addresses` and disturbs no other.
async fn statuses_of_two_instances_stand_side_by_side(
    mappings: &Api<DynamicObject>,
) -> Result<(), Failure> {
    let created = mappings.create(&PostParams::default(), &mapping(&spec(&json!({})))?).await?;
    let name = created.metadata.name.ok_or("the server named nothing")?;
    for instance in ["gateway-1", "gateway-2"] {
        let status = json!({
            "apiVersion": api::API_VERSION,
            "kind": api::KIND,
            "status": { "addresses": [{ "address": "203.0.113.10", "instance": instance }] },
        });
        let manager = PatchParams::apply(&format!("smartnat-{instance}"));
        mappings.patch_status(&name, &manager, &Patch::Apply(status)).await?;
    }
    let seen = mappings.get(&name).await?;
    mappings.delete(&name, &DeleteParams::default()).await?;
    let typed: api::Mapping = serde_json::from_value(serde_json::to_value(seen)?)?;
    let addresses = typed.status.unwrap_or_default().addresses;
    let instances: Vec<_> = addresses.iter().map(|a| a.instance.as_str()).collect();
    assert_eq!(instances, ["gateway-1", "gateway-2"]);
    Ok(())
}
