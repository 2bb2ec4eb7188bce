//! The admission policies.

use std::time::{Duration, Instant};

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use serde_json::{Value, json};
use smartnat_cluster::api;

use crate::request::{Answer, CONTROLLER, NAMESAKE, send};
use crate::{Failure, NAMESPACE};

/// A policy counts some time after it was created.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

const MAPPINGS: &str = "/apis/smartnat.aureacentral.com/v1alpha1/namespaces/default/mappings";

/// A valid Mapping with `changes` laid over its specification.
fn mapping(name: &str, changes: &Value) -> Value {
    let mut spec = json!({
        "addresses": ["203.0.113.10"], "serviceName": "echo", "ports": [{ "port": 8080 }],
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": api::API_VERSION,
        "kind": api::KIND,
        "metadata": { "name": name, "namespace": "default" },
        "spec": spec,
    })
}

/// Asks the server for its opinion on a Mapping.
async fn opinion(client: &Client, changes: &Value) -> Result<Answer, Failure> {
    let object = serde_json::to_vec(&mapping("admission-test", changes))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let build = |request: Request| Ok(request.create(&dry_run, object)?);
    send(client, Request::new(MAPPINGS), build, None).await
}

/// Asks again until `done`, or for as long as a policy may take to count.
async fn until<F, Fut>(mut ask: F, done: impl Fn(&Answer) -> bool) -> Result<Answer, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Answer, Failure>>,
{
    let end = Instant::now() + ACTIVE_WITHIN;
    loop {
        let answer = ask().await?;
        if done(&answer) || Instant::now() > end {
            return Ok(answer);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Mappings that are stored and warned of, and some that are not.
pub(crate) async fn wrong_warnings(client: &Client) -> Result<Vec<String>, Failure> {
    let both = json!(["203.0.113.10", "2001:db8::10"]);
    let many: Vec<_> = (1..=51).map(|port| json!({ "port": port })).collect();
    let range = |service: Value| json!({ "ports": [{ "port": 8000, "endPort": 8999, "servicePort": service }] });
    let v4 = json!(["192.0.2.0/24"]);
    let cases = [
        (json!({ "addresses": both, "allowedSources": v4 }), Some("has no IPv6 network")),
        (
            json!({ "addresses": both, "allowedSources": ["2001:db8::7"] }),
            Some("has no IPv4 network"),
        ),
        (json!({ "allowedSources": ["10.1.2.3/8"] }), Some("10.1.2.3/8 admits all of 10.0.0.0/8")),
        (
            json!({ "allowedSources": ["2001:db8::1/32", "192.0.2.7"] }),
            Some("admits all of 2001:db8::/32"),
        ),
        (json!({ "ports": many }), Some("more than 50 entries")),
        (range(json!(65000)), Some("goes beyond port 65535")),
        (json!({}), None),
        (json!({ "addresses": both }), None),
        (json!({ "addresses": both, "allowedSources": [] }), None),
        (json!({ "addresses": both, "allowedSources": ["192.0.2.7", "::/0"] }), None),
        (json!({ "allowedSources": v4 }), None),
        (range(json!(64000)), None),
        (range(json!("http")), None),
    ];
    // The first case tells when the policy counts; what is silent must be asked after that.
    let (first, expected) = &cases[0];
    let is_warned = |answer: &Answer| warned_of(answer, expected.unwrap_or_default());
    until(|| opinion(client, first), is_warned).await?;
    let mut wrong = Vec::new();
    for (changes, expected) in cases {
        let answer = opinion(client, &changes).await?;
        let right = match expected {
            Some(text) => answer.warnings.len() == 1 && warned_of(&answer, text),
            None => answer.warnings.is_empty(),
        };
        if answer.code != 201 || !right {
            wrong.push(format!("{changes}: {expected:?} expected: {answer}"));
        }
    }
    Ok(wrong)
}

fn warned_of(answer: &Answer, text: &str) -> bool {
    answer.warnings.iter().any(|warning| warning.contains(text))
}

/// What the controller's account does beyond its role in RBAC's terms, and is refused all the same.
pub(crate) async fn wrong_verdicts_on_the_controller(
    client: &Client,
) -> Result<Vec<String>, Failure> {
    let name = "controller-test";
    let build = |request: Request| {
        Ok(request
            .create(&PostParams::default(), serde_json::to_vec(&mapping(name, &json!({})))?)?)
    };
    let created = send(client, Request::new(MAPPINGS), build, None).await?;
    if created.code != 201 {
        return Err(format!("{created}").into());
    }
    let wrong = verdicts(client, name).await;
    // Without the finalizer that a case added.
    let none = json!([{ "op": "add", "path": "/metadata/finalizers", "value": [] }]);
    patch(client, name, &none, None).await?;
    let build = |request: Request| Ok(request.delete(name, &DeleteParams::default())?);
    send(client, Request::new(MAPPINGS), build, None).await?;
    wrong
}

async fn verdicts(client: &Client, name: &str) -> Result<Vec<String>, Failure> {
    let change = |path: &str, value: Value| json!([{ "op": "add", "path": path, "value": value }]);
    let specification = change("/spec/serviceName", json!("other"));
    let ask = || patch(client, name, &specification, Some(CONTROLLER));
    until(ask, |answer| answer.code == 403).await?;
    let finalizers = |names: &[&str]| change("/metadata/finalizers", json!(names));
    let mut wrong = Vec::new();
    for (what, expected) in [
        (specification.clone(), 403),
        (change("/metadata/labels", json!({ "a": "b" })), 403),
        (change("/metadata/annotations", json!({ "a": "b" })), 403),
        (finalizers(&[api::FINALIZER, "example.com/other"]), 403),
        (finalizers(&[api::FINALIZER]), 200),
        (finalizers(&[]), 200),
    ] {
        let answer = patch(client, name, &what, Some(CONTROLLER)).await?;
        if answer.code != expected {
            wrong.push(format!("{what}: {expected} expected: {answer}"));
        }
    }
    // Others are not the policy's business.
    let answer = patch(client, name, &specification, None).await?;
    if answer.code != 200 {
        wrong.push(format!("an administrator is refused: {answer}"));
    }
    let foreign = "kube-controller-manager";
    for (lease, expected) in [("smartnat-leader", 201), (foreign, 403)] {
        let answer = create_lease(client, lease, NAMESPACE, CONTROLLER).await?;
        if answer.code != expected {
            wrong.push(format!("lease {lease}: {expected} expected: {answer}"));
        }
    }
    let answer = allowed_to_a_namesake(client, foreign).await?;
    if answer.code != 201 {
        wrong.push(format!("{NAMESAKE} is refused its own lease: {answer}"));
    }
    Ok(wrong)
}

/// What the policy says to somebody else of the controller's name, whose own role allows it.
async fn allowed_to_a_namesake(client: &Client, lease: &str) -> Result<Answer, Failure> {
    let named = "smartnat-namesake-test";
    let role: Role = serde_json::from_value(json!({
        "metadata": { "name": named },
        "rules": [{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] }],
    }))?;
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": named },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": named },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "default", "name": "smartnat" }],
    }))?;
    let roles: Api<Role> = Api::namespaced(client.clone(), "default");
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "default");
    roles.create(&PostParams::default(), &role).await?;
    let answer = async {
        bindings.create(&PostParams::default(), &binding).await?;
        create_lease(client, lease, "default", NAMESAKE).await
    };
    let answer = answer.await;
    // Of use where the server is not this test's own; the role was there before the binding.
    let unbound = bindings.delete(named, &DeleteParams::default()).await;
    roles.delete(named, &DeleteParams::default()).await?;
    let answer = answer?;
    unbound?;
    Ok(answer)
}

async fn patch(
    client: &Client,
    name: &str,
    operations: &Value,
    user: Option<&str>,
) -> Result<Answer, Failure> {
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations.clone())?);
    let build = |request: Request| Ok(request.patch(name, &PatchParams::default(), &patch)?);
    send(client, Request::new(MAPPINGS), build, user).await
}

async fn create_lease(
    client: &Client,
    name: &str,
    namespace: &str,
    user: &str,
) -> Result<Answer, Failure> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name },
    });
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let build = |request: Request| Ok(request.create(&dry_run, serde_json::to_vec(&lease)?)?);
    send(client, Request::new(path), build, Some(user)).await
}
