//! What is wrong is named, with the mend, and nothing is lost.

use std::fs;
use std::process::Command;

use serde_json::json;
use smartnat::lab::wait_until;
use smartnat_tests::control_plane::NAMESPACE;

use crate::fleet::{Fleet, condition, mapping_of};
use crate::station::PATIENCE;

fn without_kubeconfig(fleet: &Fleet) -> Command {
    let mut command = fleet.station.command(&["run", "--uplink", "ext1"]);
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command.env("HOME", fleet.station.path("nobody"));
    command
}

#[test]
fn no_kubeconfig() {
    let Some(fleet) = Fleet::new(1) else { return };
    let said = fleet.finish(1, without_kubeconfig(&fleet)).expect(2);
    for part in ["no kubeconfig", "KUBECONFIG", "--kubeconfig", "--manifests"] {
        assert!(said.err.contains(part), "{part}: {said}");
    }
    let mut missing = without_kubeconfig(&fleet);
    missing.args(["--kubeconfig", "/nowhere/config"]);
    let said = fleet.finish(1, missing).expect(2);
    assert!(said.err.contains("/nowhere/config"), "{said}");
}

#[test]
fn a_wrong_authority() {
    let Some(fleet) = Fleet::new(1) else { return };
    let other = smartnat_tests::control_plane::ControlPlane::start_own().expect("a second server");
    let mine = fs::read_to_string(fleet.kubeconfig(1)).expect("a kubeconfig");
    other.kubeconfig_for(other.address(), &fleet.station.path("other"));
    let theirs = fs::read_to_string(fleet.station.path("other")).expect("a kubeconfig");
    let (mut mine, theirs): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&mine).expect("JSON"), serde_json::from_str(&theirs).expect("JSON"));
    for key in ["certificate-authority-data", "certificate-authority"] {
        let value = theirs["clusters"][0]["cluster"][key].clone();
        if !value.is_null() {
            mine["clusters"][0]["cluster"][key] = value;
        }
    }
    fs::write(fleet.kubeconfig(1), mine.to_string()).expect("written");
    let run = fleet.start(1);
    let line = run.wait_line(&["certificate"]);
    assert!(line.contains("WARN"), "{line}");
    run.terminate();
}

/// Whoever may do nothing is told which rules to add.
#[test]
fn forbidden_verbs() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.plane.apply(&json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "nobody", "namespace": NAMESPACE },
    }));
    let token = fleet.plane.token(NAMESPACE, "nobody");
    let text = fs::read_to_string(fleet.kubeconfig(1)).expect("a kubeconfig");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["users"][0]["user"] = json!({ "token": token });
    fs::write(fleet.kubeconfig(1), config.to_string()).expect("written");
    let run = fleet.start(1);
    for resource in ["mappings", "services", "leases"] {
        let line = run.wait_line(&["forbidden", resource]);
        assert!(line.contains("apiGroups") && line.contains("list"), "{line}");
    }
    run.terminate();
}

/// The schema lets it pass, the gateway does not.
#[test]
fn a_mapping_that_only_the_gateway_refuses() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.plane.apply(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "echo", "namespace": "default" },
        "spec": { "type": "ExternalName", "externalName": "example.org" },
    }));
    fleet.map("default", "echo", &[1]);
    let run = fleet.serve(1);
    let told = |m: &serde_json::Value| condition(m, "Accepted").is_some_and(|c| c.0 == "False");
    let mapping = fleet.wait_mapping("default", "echo", told);
    let invalid = mapping["status"]["invalid"].as_str().expect("a text");
    assert!(invalid.contains("ExternalName"), "{invalid}");
    fleet.echo("default", &[1]);
    fleet.wait_answer(1, Some("pod1"));
    run.terminate();
}

/// The second instance of a name serves nothing new, and says why; the first one serves on.
#[test]
fn two_instances_with_one_name() {
    let Some(fleet) = Fleet::new(2) else { return };
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1, 2]);
    let first = fleet.serve(1);
    fleet.wait_answer(1, Some("pod1"));
    let second = fleet.station.start_on("gw2", fleet.command_as(2, "gw1", NAMESPACE));
    let line = second.wait_line(&["another process renews the Lease"]);
    assert!(line.contains("--instance"), "{line}");
    assert!(crate::fleet::is_silent(&fleet, 2));
    fleet.wait_answer(1, Some("pod1"));
    first.kill();
    // Its Lease lapses, and the name is free.
    fleet.wait_answer(2, Some("pod1"));
    second.terminate();
}

/// Another gateway's clock is years away: it is judged by its renewals (T20).
#[test]
fn clock_skew() {
    let Some(fleet) = Fleet::new(1) else { return };
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1, 2]);
    let renew = |count: u32, time: &str| {
        fleet.plane.apply(&json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "smartnat-instance-gw2",
                "namespace": NAMESPACE,
                "labels": { "smartnat.aureacentral.com/lease": "instance" },
                "annotations": {
                    "smartnat.aureacentral.com/instance": "gw2",
                    "smartnat.aureacentral.com/addresses": "198.51.100.12",
                },
            },
            "spec": {
                "holderIdentity": "gw2_1", "leaseDurationSeconds": 3,
                "renewTime": format!("{time}:{:02}.000000Z", count % 60),
            },
        }));
    };
    renew(0, "2001-01-01T00:00");
    let run = fleet.serve(1);
    fleet.wait_answer(1, Some("pod1"));
    fleet.delete("default", "echo");
    let mut count = 0;
    let waited = wait_until(std::time::Duration::from_secs(8), || {
        count += 1;
        renew(count, "2001-01-01T00:00");
        fleet.mapping("default", "echo").is_none().then_some(())
    });
    assert!(waited.is_none(), "gw2 renews its Lease and has confirmed nothing");
    let gone = wait_until(PATIENCE, || fleet.mapping("default", "echo").is_none().then_some(()));
    assert!(gone.is_some(), "gw2 renews no more");
    run.terminate();
}

/// There is no definition yet, or no namespace: the gateway says so, waits and goes on.
#[test]
fn what_is_not_installed_yet() {
    let Some(fleet) = Fleet::new(1) else { return };
    let run = fleet.station.start_on("gw1", fleet.command_as(1, "gw1", "not-yet"));
    let line = run.wait_line(&["not-yet"]);
    assert!(line.contains("create it"), "{line}");
    fleet.echo("default", &[1]);
    fleet.plane.apply(&mapping_of("default", "echo", &[crate::fleet::external(1)], 8080));
    fleet.plane.apply(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "not-yet" },
    }));
    fleet.wait_answer(1, Some("pod1"));
    run.terminate();
}
