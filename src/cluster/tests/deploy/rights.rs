//! What the controller's account may do, verb by verb.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};

use crate::request::CONTROLLER;
use crate::{Failure, NAMESPACE};

const VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// A namespace that is not the controller's.
const ELSEWHERE: &str = "default";
/// All namespaces, or none.
const EVERYWHERE: &str = "";

/// Group, resource with its subresource, namespace, and the verbs that are needed; all others must be refused.
const RIGHTS: &[(&str, &str, &str, &[&str])] = &[
    ("smartnat.aureacentral.com", "mappings", EVERYWHERE, &["list", "watch", "patch"]),
    ("smartnat.aureacentral.com", "mappings", ELSEWHERE, &["list", "watch", "patch"]),
    ("smartnat.aureacentral.com", "mappings/status", ELSEWHERE, &["patch"]),
    ("", "services", EVERYWHERE, &["list", "watch"]),
    ("", "services/status", ELSEWHERE, &[]),
    ("discovery.k8s.io", "endpointslices", EVERYWHERE, &["get", "list", "watch"]),
    ("events.k8s.io", "events", ELSEWHERE, &["create", "patch"]),
    ("", "events", ELSEWHERE, &[]),
    ("coordination.k8s.io", "leases", NAMESPACE, &["get", "list", "watch", "create", "update"]),
    ("coordination.k8s.io", "leases", ELSEWHERE, &[]),
    ("coordination.k8s.io", "leases", EVERYWHERE, &[]),
    ("", "secrets", NAMESPACE, &[]),
    ("", "secrets", EVERYWHERE, &[]),
    ("", "configmaps", NAMESPACE, &[]),
    ("", "serviceaccounts/token", NAMESPACE, &[]),
    ("", "endpoints", EVERYWHERE, &[]),
    ("", "pods", EVERYWHERE, &[]),
    ("", "pods/exec", NAMESPACE, &[]),
    ("", "nodes", EVERYWHERE, &[]),
    ("", "namespaces", EVERYWHERE, &[]),
    ("apps", "daemonsets", NAMESPACE, &[]),
    ("apiextensions.k8s.io", "customresourcedefinitions", EVERYWHERE, &[]),
    ("rbac.authorization.k8s.io", "clusterroles", EVERYWHERE, &[]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", EVERYWHERE, &[]),
];

/// Verbs that are allowed and should not be, or the other way round.
pub(crate) async fn wrong(client: &Client) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    for (group, resource, namespace, needed) in RIGHTS {
        let mut allowed = BTreeSet::new();
        for verb in VERBS {
            if is_allowed(client, group, resource, namespace, verb).await? {
                allowed.insert(verb);
            }
        }
        let needed: BTreeSet<_> = needed.iter().copied().collect();
        if allowed != needed {
            wrong.push(format!(
                "{resource} of {group:?} in {namespace:?}: {allowed:?} instead of {needed:?}"
            ));
        }
    }
    Ok(wrong)
}

async fn is_allowed(
    client: &Client,
    group: &str,
    resource: &str,
    namespace: &str,
    verb: &str,
) -> Result<bool, Failure> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(CONTROLLER.into()),
            groups: Some(vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{NAMESPACE}"),
                "system:authenticated".into(),
            ]),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
