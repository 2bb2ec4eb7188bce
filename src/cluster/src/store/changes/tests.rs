use smartnat_core::model::{Family, Service};

use super::*;
use crate::store::LegacyEndpoints;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn slice(name: &str, service: &str) -> EndpointSlice {
    EndpointSlice {
        key: key(name),
        service_name: service.into(),
        family: Family::V4,
        ports: Vec::new(),
        endpoints: Vec::new(),
    }
}

fn set(object: SourceObject) -> (SourceId, Option<SourceObject>) {
    (object.id(), Some(object))
}

fn gone(kind: SourceKind, name: &str) -> (SourceId, Option<SourceObject>) {
    (SourceId { kind, key: key(name) }, None)
}

/// Names of the slices that are told, with a minus for those that are gone.
fn slices(told: &[ClusterObject]) -> Vec<String> {
    let name = |object: &ClusterObject| match object {
        ClusterObject::EndpointSlice(slice) => Some(slice.key.name.to_string()),
        ClusterObject::Deleted(ObjectKind::EndpointSlice, key) => Some(format!("-{}", key.name)),
        _ => None,
    };
    told.iter().filter_map(name).collect()
}

#[test]
fn only_what_changed_is_told() {
    let mut store = ObjectStore::default();
    let mut service = Service {
        key: key("echo"),
        external_name: false,
        cluster_ips: Vec::new(),
        ports: Vec::new(),
        publish_not_ready: false,
        affinity_seconds: None,
    };
    let told = store.update([set(SourceObject::Service(service.clone().shared()))]);
    assert_eq!(told, [service.clone().into()]);
    assert_eq!(store.update([set(SourceObject::Service(service.clone().shared()))]), []);
    service.publish_not_ready = true;
    let told = store.update([set(SourceObject::Service(service.clone().shared()))]);
    assert_eq!(told, [service.into()]);
    let told = store.update([gone(SourceKind::Service, "echo")]);
    assert_eq!(told, [ClusterObject::Deleted(ObjectKind::Service, key("echo"))]);
    assert_eq!(store.update([gone(SourceKind::Service, "echo")]), []);
    assert_eq!(store.all(), []);
}

#[test]
fn legacy_endpoints_count_only_without_slices() {
    let endpoints = |slices: &[&str]| {
        let slices = slices.iter().map(|name| slice(name, "echo").shared()).collect();
        set(SourceObject::Endpoints(Arc::new(LegacyEndpoints { key: key("echo"), slices })))
    };
    let real =
        |name: &str, service: &str| set(SourceObject::EndpointSlice(slice(name, service).shared()));
    let mut store = ObjectStore::default();

    assert_eq!(slices(&store.update([endpoints(&["e:0", "e:1"])])), ["e:0", "e:1"]);
    assert_eq!(slices(&store.update([endpoints(&["e:1", "e:2"])])), ["-e:0", "e:2"]);
    // A slice of another Service changes nothing, one of this Service ends the stand-in.
    assert_eq!(slices(&store.update([real("other", "other")])), ["other"]);
    assert_eq!(slices(&store.update([real("echo-1", "echo")])), ["echo-1", "-e:1", "-e:2"]);
    assert_eq!(slices(&store.update([endpoints(&["e:3"])])), [""; 0]);
    assert_eq!(store.all().len(), 2);
    // The slice moves to another Service: the Endpoints count again.
    assert_eq!(slices(&store.update([real("echo-1", "other")])), ["echo-1", "e:3"]);
    // In one step a slice takes over and the Endpoints go.
    let step = [real("echo-2", "echo"), gone(SourceKind::Endpoints, "echo")];
    assert_eq!(slices(&store.update(step)), ["echo-2", "-e:3"]);
    assert_eq!(slices(&store.update([gone(SourceKind::EndpointSlice, "echo-2")])), ["-echo-2"]);
}
