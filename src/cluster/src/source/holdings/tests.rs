use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use smartnat_core::model::{ClusterState, ObjectKind};

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("web", name)
}

fn metadata(name: &str, revision: u64) -> Value {
    json!({
        "namespace": "web", "name": name, "uid": format!("uid-{name}"),
        "resourceVersion": revision.to_string(), "generation": 1,
    })
}

fn mapping(name: &str, revision: u64, service: &str) -> DynamicObject {
    let mapping = json!({
        "apiVersion": api::API_VERSION, "kind": api::KIND, "metadata": metadata(name, revision),
        "spec": {
            "addresses": ["203.0.113.10"], "serviceName": service, "ports": [{ "port": 80 }],
        },
    });
    serde_json::from_value(mapping).unwrap()
}

fn service(name: &str, revision: u64, port: u16) -> Service {
    let service = json!({
        "metadata": metadata(name, revision), "spec": { "ports": [{ "port": port }] },
    });
    serde_json::from_value(service).unwrap()
}

fn slice(name: &str, revision: u64, service: &str, address: &str) -> EndpointSlice {
    let mut metadata = metadata(name, revision);
    metadata["labels"] = json!({ "kubernetes.io/service-name": service });
    let slice = json!({
        "metadata": metadata, "addressType": "IPv4", "ports": [{ "port": 8080 }],
        "endpoints": [{ "addresses": [address] }],
    });
    serde_json::from_value(slice).unwrap()
}

/// A client of the holdings that folds what it is told, as the core does.
#[derive(Default)]
struct Told {
    holdings: Holdings,
    state: ClusterState,
}

impl Told {
    /// Takes what there is to tell; returns the kinds and names of it.
    fn take(&mut self) -> Vec<String> {
        let (objects, _) = self.holdings.take();
        let named = objects.iter().map(|object| match object {
            ClusterObject::Mapping(m) => format!("mapping {}", m.key.name),
            ClusterObject::Service(s) => format!("service {}", s.key.name),
            ClusterObject::EndpointSlice(s) => format!("slice {}", s.key.name),
            ClusterObject::Deleted(ObjectKind::Mapping, key) => format!("no mapping {}", key.name),
            ClusterObject::Deleted(ObjectKind::Service, key) => format!("no service {}", key.name),
            ClusterObject::Deleted(_, key) => format!("no slice {}", key.name),
            ClusterObject::Published(_) => "addresses, which are none of the cluster's".into(),
        });
        let mut named: Vec<_> = named.collect();
        named.sort();
        for object in objects {
            self.state.update(object);
        }
        named
    }

    fn fetch(&mut self, slice: &EndpointSlice) -> bool {
        let wish = self.holdings.next_wish().expect("a slice is wished for");
        assert_eq!(Some(&*wish.name), slice.metadata.name.as_deref());
        self.holdings.slice_fetched(&wish, Some(slice))
    }

    fn service_of(&self, mapping: &str) -> Option<&str> {
        self.state.mappings.get(&key(mapping)).map(|m| &*m.spec.service_name)
    }
}

/// Mapping `m` serves Service `a` with one slice; Service `b` has one slice that is not kept.
fn serving_a() -> Told {
    let mut told = Told::default();
    told.holdings.mapping_applied(mapping("m", 1, "a"));
    told.holdings.service_applied(&service("a", 2, 80));
    told.holdings.service_applied(&service("b", 3, 80));
    told.holdings.slice_applied(&slice("a-1", 4, "a", "10.0.0.1"));
    told.holdings.slice_applied(&slice("b-1", 5, "b", "10.0.0.2"));
    assert_eq!(told.take(), ["mapping m", "service a", "slice a-1"]);
    told
}

#[test]
fn only_what_a_mapping_names_is_told() {
    let mut told = serving_a();
    told.holdings.slice_applied(&slice("b-1", 6, "b", "10.0.0.3"));
    told.holdings.service_applied(&service("b", 7, 81));
    told.holdings.slice_deleted(&slice("b-1", 8, "b", "10.0.0.3"));
    assert!(!told.holdings.has_staged());
    assert!(told.take().is_empty());
}

#[test]
fn a_new_mapping_comes_with_its_slices() {
    let mut told = serving_a();
    told.holdings.mapping_applied(mapping("n", 10, "b"));
    assert!(!told.holdings.is_complete());
    assert_eq!(told.take(), ["service b"], "the Mapping waits for its slice");
    assert!(told.fetch(&slice("b-1", 5, "b", "10.0.0.2")));
    assert_eq!(told.take(), ["mapping n", "slice b-1"]);
    assert!(told.holdings.is_complete() && told.holdings.next_wish().is_none());
}

#[test]
fn a_served_mapping_that_moves_keeps_its_endpoints_until_the_new_ones_are_here() {
    let mut told = serving_a();
    told.holdings.mapping_applied(mapping("m", 10, "b"));
    told.take();
    assert_eq!(told.service_of("m"), Some("a"));
    assert!(told.state.slices.contains_key(&key("a-1")));

    let wish = told.holdings.next_wish().unwrap();
    told.holdings.fetch_failed(&wish);
    told.take();
    assert_eq!(told.service_of("m"), Some("a"), "not for lack of an answer either");

    told.holdings.slice_applied(&slice("a-1", 11, "a", "10.0.0.9"));
    assert_eq!(told.take(), ["slice a-1"], "what is served goes on");

    assert!(told.fetch(&slice("b-1", 5, "b", "10.0.0.2")));
    assert_eq!(told.take(), ["mapping m", "no service a", "no slice a-1", "slice b-1"]);
    assert_eq!(told.service_of("m"), Some("b"));
}

#[test]
fn a_mapping_that_moves_and_returns_is_left_alone() {
    let mut told = serving_a();
    told.holdings.mapping_applied(mapping("m", 10, "b"));
    told.holdings.mapping_applied(mapping("m", 11, "a"));
    assert!(told.take().is_empty());
    assert!(told.holdings.next_wish().is_none(), "nobody wants b any more");
}

#[test]
fn a_change_of_a_served_mapping_does_not_wait_for_slices_of_its_own_service() {
    let mut told = serving_a();
    told.holdings.mapping_applied(mapping("n", 10, "b"));
    let wish = told.holdings.next_wish().unwrap();
    told.holdings.fetch_failed(&wish);
    assert_eq!(told.take(), ["mapping n", "service b"], "a new Mapping waits for no failure");
    let mut changed = mapping("n", 11, "b");
    changed.data["spec"]["allowedSources"] = json!(["192.0.2.0/24"]);
    told.holdings.mapping_applied(changed);
    assert_eq!(told.take(), ["mapping n"]);
}

#[test]
fn a_watch_event_beats_an_older_answer() {
    let mut told = serving_a();
    told.holdings.mapping_applied(mapping("n", 10, "b"));
    let wish = told.holdings.next_wish().unwrap();
    told.holdings.slice_applied(&slice("b-1", 12, "b", "10.0.0.5"));
    assert!(told.holdings.slice_fetched(&wish, Some(&slice("b-1", 5, "b", "10.0.0.2"))));
    told.take();
    let address = told.state.slices[&key("b-1")].endpoints[0].addresses[0];
    assert_eq!(address.to_string(), "10.0.0.5");
}

#[test]
fn an_answer_older_than_the_known_version_is_asked_for_again() {
    let mut told = serving_a();
    told.holdings.slice_applied(&slice("b-1", 8, "b", "10.0.0.4"));
    told.holdings.mapping_applied(mapping("m", 10, "b"));
    assert!(!told.fetch(&slice("b-1", 5, "b", "10.0.0.2")));
    assert!(told.fetch(&slice("b-1", 8, "b", "10.0.0.4")));
    told.take();
    assert_eq!(told.service_of("m"), Some("b"));
}

#[test]
fn a_slice_that_vanishes_while_it_is_fetched_holds_nothing_up() {
    for by_watch in [true, false] {
        let mut told = serving_a();
        told.holdings.mapping_applied(mapping("m", 10, "b"));
        let wish = told.holdings.next_wish().unwrap();
        if by_watch {
            told.holdings.slice_deleted(&slice("b-1", 11, "b", "10.0.0.2"));
        } else {
            assert!(told.holdings.slice_fetched(&wish, None));
        }
        told.take();
        assert_eq!(told.service_of("m"), Some("b"), "by watch: {by_watch}");
    }
}

#[test]
fn what_nobody_names_any_more_is_dropped_and_fetched_when_named_again() {
    let mut told = serving_a();
    told.holdings.mapping_deleted(&mapping("m", 10, "a"));
    assert_eq!(told.take(), ["no mapping m", "no service a", "no slice a-1"]);
    told.holdings.mapping_applied(mapping("n", 11, "a"));
    assert!(told.fetch(&slice("a-1", 4, "a", "10.0.0.1")));
    assert_eq!(told.take(), ["mapping n", "service a", "slice a-1"]);
}

#[test]
fn a_service_stays_as_long_as_one_mapping_names_it() {
    let mut told = serving_a();
    told.holdings.mapping_applied(mapping("n", 10, "a"));
    told.holdings.mapping_deleted(&mapping("m", 11, "a"));
    assert_eq!(told.take(), ["mapping n", "no mapping m"]);
}

#[test]
fn a_slice_that_changes_its_service_follows() {
    let mut told = serving_a();
    told.holdings.slice_applied(&slice("a-1", 10, "b", "10.0.0.1"));
    assert_eq!(told.take(), ["no slice a-1"]);
    told.holdings.slice_applied(&slice("b-1", 11, "a", "10.0.0.2"));
    assert_eq!(told.take(), ["slice b-1"]);
    let mut names = slice("b-1", 12, "a", "10.0.0.2");
    names.address_type = "FQDN".to_owned();
    told.holdings.slice_applied(&names);
    assert_eq!(told.take(), ["no slice b-1"]);
}

#[test]
fn what_cannot_be_read_leaves_the_last_good_state() {
    let mut told = serving_a();
    told.holdings.slice_applied(&slice("a-1", 10, "a", "nonsense"));
    told.holdings.service_applied(&service("a", 11, 0));
    let mut broken = mapping("m", 12, "a");
    broken.data["spec"]["ports"] = json!("many");
    told.holdings.mapping_applied(broken);
    assert!(told.take().is_empty());
    assert_eq!(told.state.slices.len(), 1);
    told.holdings.slice_applied(&slice("a-1", 13, "a", "10.0.0.7"));
    assert_eq!(told.take(), ["slice a-1"]);
}

#[test]
fn a_status_is_no_change_for_the_core() {
    let mut told = serving_a();
    let mut status = mapping("m", 10, "a");
    status.data["status"] = json!({ "invalid": "no" });
    told.holdings.mapping_applied(status);
    assert!(!told.holdings.has_staged() && told.holdings.has_changed_mappings());
    let (objects, mappings) = told.holdings.take();
    assert!(objects.is_empty());
    let stored = mappings[&key("m")].as_ref().unwrap();
    assert_eq!(stored.status.as_ref().unwrap().invalid.as_deref(), Some("no"));
}

#[test]
fn deletions_that_no_event_told_of_are_found_by_the_list() {
    let mut told = serving_a();
    for (resource, deleted) in [
        (WatchedResource::EndpointSlices, "no slice a-1"),
        (WatchedResource::Services, "no service a"),
        (WatchedResource::Mappings, "no mapping m"),
    ] {
        told.holdings.begin_list(resource, false);
        told.holdings.end_list(resource);
        assert_eq!(told.take(), [deleted]);
    }
    assert_eq!(told.state, ClusterState::default());
}

/// Any order and repetition of the same states ends in the same.
#[test]
fn order_and_repetition_do_not_matter() {
    type Event = fn(&mut Holdings);
    let events: [Event; 6] = [
        |h| h.mapping_applied(mapping("m", 1, "a")),
        |h| h.mapping_applied(mapping("m", 6, "a")),
        |h| h.slice_applied(&slice("a-1", 2, "a", "10.0.0.1")),
        |h| h.slice_applied(&slice("a-1", 4, "a", "10.0.0.2")),
        |h| h.service_applied(&service("a", 3, 80)),
        |h| h.service_deleted(&service("a", 5, 80)),
    ];
    let mut orders = Vec::new();
    permutations(&mut (0..events.len()).collect(), 0, &mut orders);
    for order in orders {
        let mut told = Told::default();
        for i in order.iter().chain(&order) {
            events[*i](&mut told.holdings);
            if let Some(wish) = told.holdings.next_wish() {
                let newest = slice("a-1", 4, "a", "10.0.0.2");
                told.holdings.slice_fetched(&wish, Some(&newest));
            }
        }
        told.take();
        assert!(told.state.services.is_empty(), "{order:?}");
        let address = told.state.slices[&key("a-1")].endpoints[0].addresses[0];
        assert_eq!(address.to_string(), "10.0.0.2", "{order:?}");
        assert_eq!(told.service_of("m"), Some("a"), "{order:?}");
    }
}

fn permutations(items: &mut Vec<usize>, from: usize, all: &mut Vec<Vec<usize>>) {
    if from == items.len() {
        all.push(items.clone());
        return;
    }
    for i in from..items.len() {
        items.swap(from, i);
        permutations(items, from + 1, all);
        items.swap(from, i);
    }
}
