//! The chart renders what kustomize does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::manifests::{Manifests, documents, kustomize, repository, skipped};
use crate::{Failure, NAMESPACE};

const CHART: &str = "deploy/helm/smartnat";

/// Helm, or a program with the same engine.
enum Renderer {
    Helm,
    /// Python that has the package helm-python-sdk.
    Python(PathBuf),
}

impl Renderer {
    fn find() -> Result<Option<Self>, Failure> {
        if Command::new("helm").arg("version").output().is_ok_and(|output| output.status.success())
        {
            return Ok(Some(Self::Helm));
        }
        let python = repository("target/helm/bin/python");
        if python.is_file() {
            return Ok(Some(Self::Python(python)));
        }
        skipped("helm, nor target/helm (make deps-helm)", "SMARTNAT_REQUIRE_HELM")
    }

    /// Renders the chart with `values` laid over its own.
    fn run(&self, values: &Value) -> Result<Output, Failure> {
        self.run_in(NAMESPACE, values)
    }

    /// Likewise, for a release in `namespace`.
    fn run_in(&self, namespace: &str, values: &Value) -> Result<Output, Failure> {
        let mut command = match self {
            Self::Helm => {
                let mut command = Command::new("helm");
                command.args(["template", "smartnat"]).arg(repository(CHART));
                command.args(["--include-crds", "--namespace", namespace]);
                for (key, value) in values.as_object().into_iter().flatten() {
                    command.arg("--set-json").arg(format!("{key}={value}"));
                }
                command
            }
            Self::Python(python) => {
                let mut command = Command::new(python);
                command.arg(repository("deploy/helm/render.py")).arg(repository(CHART));
                command.args([namespace, &values.to_string()]);
                command
            }
        };
        Ok(command.output()?)
    }

    fn render(&self, values: &Value) -> Result<Manifests, Failure> {
        Self::rendered(&self.run(values)?)
    }

    fn rendered(output: &Output) -> Result<Manifests, Failure> {
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(Manifests(documents(str::from_utf8(&output.stdout)?)?))
    }
}

#[test]
fn the_chart_renders_what_kustomize_does() -> Result<(), Failure> {
    let Some(expected) = kustomize("deploy/kustomize")? else { return Ok(()) };
    let Some(helm) = Renderer::find()? else { return Ok(()) };
    let mut expected = comparable(expected)?;
    // Helm makes the namespace itself, or it is there.
    expected.remove(&("Namespace".to_owned(), NAMESPACE.to_owned()));
    let rendered = comparable(helm.render(&json!({}))?)?;
    let names = |of: &BTreeMap<_, _>| of.keys().cloned().collect::<Vec<(String, String)>>();
    assert_eq!(names(&rendered), names(&expected));
    for (key, object) in expected {
        let helm = &rendered[&key];
        assert!(*helm == object, "{key:?}\nhelm:      {helm}\nkustomize: {object}");
    }
    Ok(())
}

#[test]
fn a_release_in_another_namespace_has_its_own_account_everywhere() -> Result<(), Failure> {
    let Some(helm) = Renderer::find()? else { return Ok(()) };
    let rendered = Renderer::rendered(&helm.run_in("gateways", &json!({}))?)?;
    let policy = rendered.find("ValidatingAdmissionPolicy", "smartnat-controller-writes");
    let condition = &policy.ok_or("no policy")?["spec"]["matchConditions"][0]["expression"];
    let account = "request.userInfo.username == 'system:serviceaccount:gateways:smartnat'";
    assert_eq!(condition, account);
    for object in &rendered.0 {
        let text = object.to_string();
        assert!(!text.contains(NAMESPACE), "{text}");
    }
    Ok(())
}

#[test]
fn values_reach_the_objects() -> Result<(), Failure> {
    let Some(helm) = Renderer::find()? else { return Ok(()) };
    let rendered = helm.render(&json!({
        "image": { "repository": "example/smartnat", "tag": "7" },
        "monitor": { "address": "0.0.0.0", "port": 9090 },
        "config": { "uplinkPattern": "wan.*", "egress": true },
        "nodeSelector": { "role": "edge" },
        "admission": { "enabled": false },
    }))?;
    assert!(rendered.0.iter().all(|o| o["kind"] != "ValidatingAdmissionPolicy"));
    let config = rendered.find("ConfigMap", "smartnat").ok_or("no ConfigMap")?;
    let settings: Value =
        serde_yaml_ng::from_str(config["data"]["smartnat.yaml"].as_str().unwrap_or_default())?;
    assert_eq!((&settings["uplinkPattern"], &settings["egress"]), (&json!("wan.*"), &json!(true)));
    let pod =
        &rendered.find("DaemonSet", "smartnat").ok_or("no DaemonSet")?["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["role"], "edge");
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "example/smartnat:7");
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({ "host": "127.0.0.1", "port": 9090, "path": "/readyz" })
    );
    Ok(())
}

#[test]
fn wrong_values_are_refused_by_their_schema() -> Result<(), Failure> {
    let Some(helm) = Renderer::find()? else { return Ok(()) };
    for (values, named) in [
        (json!({ "monitr": {} }), "monitr"),
        (json!({ "monitor": { "port": 70000 } }), "port"),
        (json!({ "config": { "instance": "gw-1" } }), "instance"),
        (json!({ "config": { "uplinkPattern": "" } }), "uplinkPattern"),
        (json!({ "image": { "pullPolicy": "Sometimes" } }), "pullPolicy"),
    ] {
        let output = helm.run(&values)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values} is accepted");
        assert!(said.contains(named), "{values}: {named:?} is not in: {said}");
    }
    Ok(())
}

/// Objects by kind and name, without what the two tools do in their own way: the name of a `ConfigMap` ends
/// with a hash, or its hash is an annotation; its content has comments or has none.
fn comparable(manifests: Manifests) -> Result<BTreeMap<(String, String), Value>, Failure> {
    let mut objects = BTreeMap::new();
    for mut object in manifests.0 {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "ConfigMap" {
            object["metadata"]["name"] = json!("smartnat");
            let text = object["data"]["smartnat.yaml"].as_str().unwrap_or_default();
            object["data"]["smartnat.yaml"] = serde_yaml_ng::from_str(text)?;
        }
        if kind == "DaemonSet" {
            let template = &mut object["spec"]["template"];
            if let Some(annotations) = template["metadata"]["annotations"].as_object_mut() {
                annotations.remove("checksum/config");
            }
            let volumes = template["spec"]["volumes"].as_array_mut();
            for volume in volumes.into_iter().flatten().filter(|v| v["configMap"].is_object()) {
                volume["configMap"]["name"] = json!("smartnat");
            }
        }
        write_whole_numbers_alike(&mut object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        objects.insert((kind, name), object);
    }
    Ok(objects)
}

/// 1.0 and 1 are the same to the API server, and kustomize makes the one the other.
fn write_whole_numbers_alike(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0);
            if let Some(whole) = whole.and_then(serde_json::Number::from_f64) {
                *number = whole;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers_alike),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers_alike),
        _ => {}
    }
}
