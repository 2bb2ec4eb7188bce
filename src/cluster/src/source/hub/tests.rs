use serde_json::{Value, json};

use super::super::trouble::TroubleClass;
use super::*;
use crate::api;

fn hub() -> Hub {
    Hub::new(&SourceOptions::new("gateways", ""))
}

fn mapping(revision: u64, port: u16, status: &str) -> DynamicObject {
    let mapping: Value = json!({
        "apiVersion": api::API_VERSION, "kind": api::KIND,
        "metadata": {
            "namespace": "web", "name": "m", "uid": "m", "resourceVersion": revision.to_string(),
        },
        "spec": { "addresses": ["203.0.113.10"], "serviceName": "a", "ports": [{ "port": port }] },
        "status": { "invalid": status },
    });
    serde_json::from_value(mapping).unwrap()
}

fn list<K>(hub: &mut Hub, tells: fn(Step<K>) -> Input, objects: Vec<K>, now: Instant) {
    hub.absorb(tells(Step::ListBegan { resets: false }), now);
    hub.absorb(tells(Step::Page(objects)), now);
    hub.absorb(tells(Step::Listed), now);
}

/// A hub that has told everything and was quiet since.
fn started(now: Instant) -> Hub {
    let mut hub = hub();
    list(&mut hub, Input::Mapping, vec![mapping(1, 80, "")], now);
    list(&mut hub, Input::Service, vec![], now);
    list(&mut hub, Input::Slice, vec![], now);
    list(&mut hub, Input::Lease, vec![], now);
    while hub.next_event(now).is_some() {}
    hub
}

fn later(now: Instant, millis: u64) -> Instant {
    now + Duration::from_millis(millis)
}

#[test]
fn nothing_is_told_before_everything_was_listed() {
    let now = Instant::now();
    let mut hub = hub();
    list(&mut hub, Input::Mapping, vec![mapping(1, 80, "")], now);
    list(&mut hub, Input::Service, vec![], now);
    list(&mut hub, Input::Slice, vec![], now);
    assert_eq!(hub.due(now), None);
    list(&mut hub, Input::Lease, vec![], now);
    assert!(matches!(hub.next_event(now), Some(SourceEvent::Leases(leases)) if leases.is_empty()));
    let Some(SourceEvent::Changed { objects, mappings }) = hub.next_event(now) else {
        panic!("the first changes are due");
    };
    assert_eq!((objects.len(), mappings.len()), (1, 1));
    assert_eq!(hub.due(now), None);
}

#[test]
fn the_first_event_of_an_empty_cluster_is_empty() {
    let now = Instant::now();
    let mut hub = hub();
    list(&mut hub, Input::Mapping, vec![], now);
    list(&mut hub, Input::Service, vec![], now);
    list(&mut hub, Input::Slice, vec![], now);
    list(&mut hub, Input::Lease, vec![], now);
    hub.next_event(now);
    assert!(
        matches!(hub.next_event(now), Some(SourceEvent::Changed { objects, .. }) if objects.is_empty())
    );
}

#[test]
fn status_changes_do_not_delay_a_change_of_the_specification() {
    let start = Instant::now();
    let mut hub = started(start);
    let mut now = later(start, 10_000);
    // Enough for the longest window.
    for i in 0..200_u64 {
        hub.absorb(
            Input::Mapping(Step::Applied(Box::new(mapping(10 + i, 80, &i.to_string())))),
            now,
        );
        if hub.due(now).is_some_and(|due| due <= now) {
            let event = hub.next_event(now);
            assert!(matches!(event, Some(SourceEvent::Changed { objects, mappings })
                if objects.is_empty() && mappings.len() == 1));
        }
        now = later(now, 20);
    }
    hub.absorb(Input::Mapping(Step::Applied(Box::new(mapping(500, 81, "")))), now);
    assert_eq!(hub.due(now), Some(now));
    let event = hub.next_event(now);
    assert!(matches!(event, Some(SourceEvent::Changed { objects, mappings })
        if objects.len() == 1 && mappings.len() == 1));
}

#[test]
fn leases_do_not_wait_for_a_window() {
    let start = Instant::now();
    let mut hub = started(start);
    let now = later(start, 10);
    hub.absorb(Input::Mapping(Step::Applied(Box::new(mapping(2, 81, "")))), now);
    assert_eq!(hub.due(now), Some(later(start, 50)));
    let lease = serde_json::from_value(json!({ "metadata": { "name": "gateway-1" } })).unwrap();
    hub.absorb(Input::Lease(Step::Applied(Box::new(lease))), now);
    assert_eq!(hub.due(now), Some(now));
    assert!(matches!(hub.next_event(now), Some(SourceEvent::Leases(leases))
        if leases.keys().eq(["gateway-1"])));
    assert_eq!(hub.next_event(now), None);
}

#[test]
fn changes_wait_for_the_end_of_a_list_but_not_for_ever() {
    let start = Instant::now();
    let mut hub = started(start);
    let now = later(start, 10_000);
    hub.absorb(Input::Mapping(Step::ListBegan { resets: false }), now);
    hub.absorb(Input::Mapping(Step::Page(vec![mapping(9, 81, "")])), now);
    assert_eq!(hub.due(now), Some(now + LONGEST_LIST));
    hub.absorb(Input::Mapping(Step::Listed), now);
    assert_eq!(hub.due(now), Some(now));
    assert_eq!(hub.next_event(now), Some(SourceEvent::Relisted(WatchedResource::Mappings)));
}

#[test]
fn a_list_that_was_abandoned_holds_nothing_up() {
    let start = Instant::now();
    let mut hub = started(start);
    let now = later(start, 10_000);
    hub.absorb(Input::Mapping(Step::ListBegan { resets: false }), now);
    hub.absorb(Input::Mapping(Step::Page(vec![mapping(9, 81, "")])), now);
    hub.absorb(Input::Mapping(Step::ListAbandoned), now);
    assert_eq!(hub.due(now), Some(now));
}

#[test]
fn a_resource_has_recovered_when_watching_and_fetching_are_well() {
    let now = Instant::now();
    let mut hub = started(now);
    let resource = WatchedResource::EndpointSlices;
    let trouble = WatchTrouble {
        resource,
        class: TroubleClass::Unreachable,
        message: String::new(),
        failures: 1,
    };
    hub.trouble(Activity::Fetching, trouble.clone());
    hub.absorb(Input::Slice(Step::Trouble(trouble.clone())), now);
    hub.absorb(Input::Slice(Step::Well), now);
    hub.absorb(Input::Slice(Step::Well), now);
    hub.well(resource, Activity::Fetching);
    let events: Vec<_> = std::iter::from_fn(|| hub.next_event(now)).collect();
    let told = SourceEvent::Trouble(trouble);
    assert_eq!(events, [told.clone(), told, SourceEvent::Recovered(resource)]);
}

#[test]
fn notices_that_nobody_takes_hold_up_the_watches() {
    let now = Instant::now();
    let mut hub = started(now);
    while hub.has_room() {
        list(&mut hub, Input::Lease, vec![], now);
    }
    assert!(hub.next_event(now).is_some());
    assert!(hub.has_room());
}

#[test]
fn a_server_that_was_set_back_is_told_before_what_it_lists() {
    let now = Instant::now();
    let mut hub = started(now);
    let lease = |revision: &str| {
        let lease = json!({ "metadata": { "name": "gateway-1", "resourceVersion": revision } });
        vec![serde_json::from_value(lease).unwrap()]
    };
    list(&mut hub, Input::Lease, lease("544"), now);
    while hub.next_event(now).is_some() {}
    hub.absorb(Input::Lease(Step::ListBegan { resets: true }), now);
    hub.absorb(Input::Lease(Step::Page(lease("430"))), now);
    assert_eq!(hub.next_event(now), Some(SourceEvent::Reset));
    let Some(SourceEvent::Leases(leases)) = hub.next_event(now) else { panic!("no Leases") };
    let lease = leases["gateway-1"].as_ref().unwrap();
    assert_eq!(lease.metadata.resource_version.as_deref(), Some("430"));
}
