//! What `deploy/` tells the program is understood by it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use smartnat::settings::{
    CONFIG_VARIABLE, ENV_PREFIX, Layer, SETTINGS, Setting, Settings, resolve,
};

type Failure = Box<dyn std::error::Error>;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

fn yaml(path: &str) -> Result<Value, Failure> {
    Ok(serde_yaml_ng::from_str(&fs::read_to_string(deploy(path))?)?)
}

/// Settings from variables of ours and a file, as the program would read them.
fn read(variables: &[(String, String)], file: Option<&Path>) -> Result<Settings, String> {
    let known: BTreeSet<String> = SETTINGS.iter().map(Setting::variable).collect();
    for (name, _) in variables {
        let unknown =
            name.starts_with(ENV_PREFIX) && name != CONFIG_VARIABLE && !known.contains(name);
        if unknown {
            return Err(format!("no setting has the variable {name}"));
        }
    }
    let variables = variables.iter().filter(|(name, _)| name != CONFIG_VARIABLE).cloned();
    let settings = resolve(Layer::default(), file, variables, "host").map_err(|e| e.to_string())?;
    settings.require_uplinks().map_err(|e| e.to_string())?;
    Ok(settings)
}

#[test]
fn the_pod_is_configured_as_its_volumes_are() -> Result<(), Failure> {
    let object = yaml("kustomize/daemon-set.yaml")?;
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    let variables: Vec<(String, String)> = container["env"]
        .as_array()
        .ok_or("no env")?
        .iter()
        .filter_map(|v| {
            // What the node and the pod give is a name.
            let value = v["value"].as_str().unwrap_or("some-name");
            Some((v["name"].as_str()?.to_owned(), value.to_owned()))
        })
        .collect();
    let settings = read(&variables, Some(&deploy("kustomize/smartnat.yaml")))?;
    assert_eq!(settings.gateway.instance, "some-name");
    assert_eq!(settings.cluster.namespace, "some-name");

    let mounts = container["volumeMounts"].as_array().ok_or("no mounts")?;
    let mounted: BTreeSet<&Path> =
        mounts.iter().filter_map(|m| m["mountPath"].as_str()).map(Path::new).collect();
    let config = variables.iter().find(|(name, _)| name == CONFIG_VARIABLE).ok_or("no file")?;
    for used in [
        settings.state_dir.as_path(),
        &settings.data_dir,
        &settings.sysctl_dir.join("net"),
        Path::new(&config.1).parent().ok_or("no directory")?,
    ] {
        assert!(mounted.contains(used), "{} is not mounted", used.display());
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], settings.monitor.port, "{probe}");
    }
    Ok(())
}

#[test]
fn the_values_of_the_chart_are_settings() -> Result<(), Failure> {
    let config = yaml("helm/smartnat/values.yaml")?["config"].to_string();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("smartnat.yaml");
    fs::write(&file, config)?;
    read(&[], Some(&file))?;
    let schema = yaml("helm/smartnat/values.schema.json")?;
    let properties = schema["properties"]["config"]["properties"].as_object().ok_or("no schema")?;
    for key in properties.keys() {
        assert!(SETTINGS.iter().any(|s| s.key == key), "the schema knows {key}, the program not");
    }
    Ok(())
}

#[test]
fn the_environment_of_the_unit_is_understood() -> Result<(), Failure> {
    let text = fs::read_to_string(deploy("systemd/smartnat.env"))?;
    let assignment = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_name.then(|| (name.to_owned(), value.to_owned()))
    };
    let given: Vec<_> = text.lines().filter_map(assignment).collect();
    read(&given, None)?;
    // What is there to be uncommented, too.
    let all: Vec<_> =
        text.lines().map(|l| l.strip_prefix('#').unwrap_or(l)).filter_map(assignment).collect();
    assert!(all.len() > given.len(), "nothing to uncomment was found");
    let settings = read(&all, None)?;
    assert_eq!(settings.gateway.instance, "gw-1");
    assert!(all.iter().any(|(name, _)| name == "KUBECONFIG"));
    Ok(())
}

#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() -> Result<(), Failure> {
    let text = fs::read_to_string(deploy("systemd/smartnat.service"))?;
    let installed = "/usr/local/bin/smartnat";
    assert!(text.contains(installed));
    let dir = tempfile::tempdir()?;
    let unit = dir.path().join("smartnat.service");
    fs::write(&unit, text.replace(installed, env!("CARGO_BIN_EXE_smartnat")))?;
    // 25 is an exposure of 2.5; a unit without any restriction has 9.6.
    for words in [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=25"]] {
        let output = match Command::new("systemd-analyze").args(words).arg(&unit).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: no systemd-analyze");
                return Ok(());
            }
            output => output?,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{words:?}: {said}");
    }
    Ok(())
}
