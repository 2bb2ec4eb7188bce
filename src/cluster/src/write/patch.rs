//! Bodies of patches.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use serde_json::{Map, Value, json};
use smartnat_core::coordination::{AddressEntry, StatusCondition, Summary, Truth};
use smartnat_core::model::{ObjectKey, Timestamp};

use crate::api::{API_VERSION, KIND, Mapping};

/// The body of a server-side apply of a status: of this very object and of none that has taken
/// its name.
pub(super) fn apply(key: &ObjectKey, uid: &str, status: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": key.name, "namespace": key.namespace, "uid": uid },
        "status": status,
    })
}

/// The body of a merge patch that replaces exactly the version that was seen.
pub(super) fn finalizers(uid: &str, version: &str, finalizers: &[String]) -> Value {
    json!({ "metadata": { "uid": uid, "resourceVersion": version, "finalizers": finalizers } })
}

/// An instance's part of a status.
pub(super) fn entries(entries: &[AddressEntry]) -> Value {
    if entries.is_empty() {
        return json!({});
    }
    let entry = |e: &AddressEntry| {
        json!({
            "address": e.address,
            "instance": e.instance,
            "conditions": conditions(&e.conditions),
        })
    };
    json!({ "addresses": entries.iter().map(entry).collect::<Vec<_>>() })
}

/// The leader's part of a status.
pub(super) fn summary(summary: &Summary) -> Value {
    let configured: Map<String, Value> = summary
        .configured_addresses
        .iter()
        .map(|(address, pods)| (address.to_string(), json!({ "podIPs": pods })))
        .collect();
    let mut status = json!({ "conditions": conditions(&summary.conditions) });
    // The API server makes null of an empty map that was applied, and then refuses null.
    let configured = (!configured.is_empty()).then_some(Value::Object(configured));
    let optional = [
        ("configuredAddresses", configured),
        ("invalid", summary.invalid.as_ref().map(|v| json!(v))),
        ("serviceVIP", summary.service_vip.map(|v| json!(v))),
        ("observedGeneration", summary.observed_generation.map(|v| json!(v))),
        ("endpoints", summary.endpoints.map(|v| json!(v))),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            status[field] = value;
        }
    }
    status
}

/// A merge patch that removes what is left of the leader's fields after an apply of `wanted`;
/// `None` where nothing is.
pub(super) fn leftovers(applied: &Mapping, wanted: &Summary) -> Option<Value> {
    let status = applied.status.as_ref()?;
    let mut removed = Map::new();
    let addresses: Map<String, Value> = status
        .configured_addresses
        .keys()
        .filter(|text| {
            let known = text.parse().ok().filter(|a| wanted.configured_addresses.contains_key(a));
            known.is_none_or(|a: std::net::IpAddr| a.to_string() != **text)
        })
        .map(|text| (text.clone(), Value::Null))
        .collect();
    if !addresses.is_empty() {
        removed.insert("configuredAddresses".into(), Value::Object(addresses));
    }
    if status.service_vip.is_some() && wanted.service_vip.is_none() {
        removed.insert("serviceVIP".into(), Value::Null);
    }
    (!removed.is_empty()).then(|| json!({ "status": removed }))
}

fn conditions(all: &[StatusCondition]) -> Vec<Condition> {
    all.iter().map(condition).collect()
}

fn condition(condition: &StatusCondition) -> Condition {
    Condition {
        type_: condition.kind.clone(),
        status: match condition.truth {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
        .into(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        observed_generation: Some(condition.generation),
        last_transition_time: time(condition.since),
    }
}

fn time(timestamp: Timestamp) -> Time {
    let millis = i64::try_from(timestamp.0).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}
