//! What the cluster's events tell (`kubectl describe`).

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use smartnat::lab::wait_until;
use smartnat_tests::control_plane::NAMESPACE;

use crate::fleet::{Fleet, condition, is_true};
use crate::station::PATIENCE;

/// Reason, type and text of the events about an object; of a Mapping only those about this one
/// and not about an earlier one of its name.
fn events(fleet: &Fleet, namespace: &str, about: &str) -> Vec<(String, String, String)> {
    let api: Api<Event> = Api::namespaced(fleet.plane.client(), namespace);
    let all = fleet.plane.wait(api.list(&ListParams::default())).expect("events can be listed");
    let mapping = fleet.mapping(namespace, about);
    let uid = mapping.as_ref().and_then(|m| m["metadata"]["uid"].as_str());
    let about = |e: &Event| {
        e.regarding.as_ref().is_some_and(|r| {
            r.name.as_deref() == Some(about) && (uid.is_none() || r.uid.as_deref() == uid)
        })
    };
    let told = all.items.into_iter().filter(about);
    told.map(|e| {
        (e.reason.unwrap_or_default(), e.type_.unwrap_or_default(), e.note.unwrap_or_default())
    })
    .collect()
}

#[track_caller]
fn wait_event(fleet: &Fleet, namespace: &str, about: &str, reason: &str, kind: &str) -> String {
    let found = wait_until(PATIENCE, || {
        let all = events(fleet, namespace, about);
        all.into_iter().find(|(r, k, _)| r == reason && k == kind).map(|(.., note)| note)
    });
    found.unwrap_or_else(|| panic!("{:?}", events(fleet, namespace, about)))
}

#[test]
fn verdicts_endpoint_loss_and_repairs_are_told_once() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1]);
    let run = fleet.serve(1);
    wait_event(&fleet, "default", "echo", "Accepted", "Normal");
    let programmed = wait_event(&fleet, "default", "echo", "Programmed", "Normal");
    assert!(programmed.contains("gw1"), "{programmed}");

    fleet.endpoints("default", &[]);
    let waits = |m: &serde_json::Value| {
        condition(m, "Programmed").is_some_and(|(_, reason)| reason == "Waiting")
    };
    fleet.wait_mapping("default", "echo", waits);
    let lost = wait_event(&fleet, "default", "echo", "Waiting", "Warning");
    assert!(lost.contains("8080"), "{lost}");
    fleet.endpoints("default", &[2]);
    fleet.wait_mapping("default", "echo", |m| is_true(m, "Programmed") && !waits(m));

    let flush = ["iptables-nft", "-t", "mangle", "-F", "SMARTNAT-TRANSIT"];
    fleet.station.lab.command("gw1", &flush).expect("a chain of ours");
    let lease = "smartnat-instance-gw1";
    let repaired = wait_event(&fleet, NAMESPACE, lease, "DriftRepaired", "Warning");
    assert!(repaired.contains("SMARTNAT-TRANSIT"), "{repaired}");

    let younger =
        crate::fleet::mapping_of("default", "younger", &[crate::fleet::external(1)], 8080);
    fleet.plane.apply(&younger);
    let conflict = wait_event(&fleet, "default", "younger", "Conflict", "Warning");
    assert!(conflict.contains("default/echo"), "{conflict}");
    let accepted = events(&fleet, "default", "echo");
    let accepted = accepted.iter().filter(|(reason, ..)| reason == "Accepted").count();
    assert_eq!(accepted, 1, "{:?}", events(&fleet, "default", "echo"));

    // A restart has no news.
    let before = events(&fleet, "default", "echo").len();
    run.terminate();
    let run = fleet.serve(1);
    run.wait_line(&["this instance leads now"]);
    fleet.delete("default", "younger");
    fleet.wait_gone("default", "younger");
    assert_eq!(events(&fleet, "default", "echo").len(), before);
    run.terminate();
}
