//! The gateway's pod asks for what was shown to be necessary, and for no more.

use serde_json::json;

use crate::{Failure, NAMESPACE, manifests};

#[test]
fn the_gateway_asks_for_no_more_than_it_needs() -> Result<(), Failure> {
    let Some(manifests) = manifests::kustomize("deploy/kustomize")? else { return Ok(()) };
    let object = manifests.find("DaemonSet", "smartnat").ok_or("no DaemonSet")?;
    assert_eq!(object["metadata"]["namespace"], NAMESPACE);
    let pod = &object["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().ok_or("no containers")?;
    assert_eq!((containers.len(), &pod["initContainers"]), (1, &json!(null)));
    assert_eq!(
        containers[0]["securityContext"],
        json!({
            "runAsUser": 0, "runAsGroup": 0, "privileged": false, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"] },
        })
    );
    assert_eq!(pod["securityContext"], json!({ "seccompProfile": { "type": "RuntimeDefault" } }));
    assert_eq!((&pod["hostPID"], &pod["hostIPC"]), (&json!(null), &json!(null)));
    let volumes = pod["volumes"].as_array().ok_or("no volumes")?;
    let paths: Vec<_> = volumes.iter().filter_map(|v| v["hostPath"]["path"].as_str()).collect();
    assert_eq!(paths, ["/run/smartnat", "/var/lib/smartnat", "/run/xtables.lock", "/proc/sys/net"]);
    Ok(())
}

#[test]
fn all_versions_are_that_of_the_program() -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let read = |path: &str| std::fs::read_to_string(manifests::repository(path));
    let chart: serde_json::Value =
        serde_yaml_ng::from_str(&read("deploy/helm/smartnat/Chart.yaml")?)?;
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
    let kustomization: serde_json::Value =
        serde_yaml_ng::from_str(&read("deploy/kustomize/kustomization.yaml")?)?;
    assert_eq!(kustomization["images"], json!([{ "name": "smartnat", "newTag": version }]));
    Ok(())
}
