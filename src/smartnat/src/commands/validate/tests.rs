use super::*;

fn write(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    dir
}

fn mapping(name: &str, port: &str) -> String {
    format!(
        "apiVersion: smartnat.aureacentral.com/v1alpha1\nkind: Mapping\n\
         metadata: {{name: {name}, namespace: n, creationTimestamp: 2020-01-01T00:00:00Z}}\n\
         spec: {{addresses: [203.0.113.10], serviceName: s, ports: [{{port: {port}}}]}}\n"
    )
}

fn judged(dir: &tempfile::TempDir) -> Verdicts {
    let path = dir.path().to_owned();
    let manifests = load([&path].into_iter()).expect("readable");
    let admission = admit(&manifests.cluster, &smartnat_core::model::GatewayConfig::default());
    Verdicts {
        mappings: verdicts(admission, &manifests.sources, &BTreeMap::new()),
        files: manifests.problems,
    }
}

#[test]
fn every_mapping_has_a_verdict_with_its_place_and_all_its_problems() {
    let dir = write(&[
        ("a.yaml", &mapping("good", "80")),
        (
            "b.yaml",
            &format!("{}---\n{}", mapping("late", "80"), mapping("wrong", "0, endPort: 99999")),
        ),
    ]);
    let found = judged(&dir);
    assert!(!found.good());
    let text = found.text().replace(&dir.path().display().to_string(), "DIR");
    assert!(text.contains("accepted  n/good  DIR/a.yaml:1\n"), "{text}");
    assert!(text.contains("rejected  n/late  DIR/b.yaml:1\n"), "{text}");
    assert!(text.contains("owned by Mapping n/good"), "{text}");
    assert!(text.contains("spec.ports[0].port: \"0\""), "{text}");
    assert!(text.contains("spec.ports[0].endPort: \"99999\""), "{text}");
    assert!(
        text.ends_with("3 Mappings: 1 accepted, 2 rejected; files: 0 errors, 0 warnings\n"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_yaml_is_no_success() {
    let dir = write(&[("a.yaml", &mapping("good", "80")), ("b.yaml", "kind: [")]);
    let found = judged(&dir);
    assert!(!found.good());
    let text = found.text();
    assert!(text.contains("accepted  n/good"), "{text}");
    assert!(text.contains("error  ") && text.contains("b.yaml"), "{text}");
}

#[test]
fn an_unknown_field_is_a_warning_and_no_failure() {
    let dir = write(&[("a.yaml", &mapping("good", "80, endport: 81"))]);
    let found = judged(&dir);
    assert!(found.good());
    assert!(found.text().contains("endport"), "{}", found.text());
}

#[test]
fn a_path_that_does_not_exist_is_wrong_usage() {
    let error = load([&PathBuf::from("/no/such")].into_iter()).map(drop).expect_err("none");
    assert!(matches!(error, CommandError::Usage(_)), "{error}");
    assert!(error.to_string().contains("/no/such"), "{error}");
}

#[test]
fn the_place_of_a_mapping_is_not_that_of_its_service() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: good, namespace: n}\n\
                   spec: {ports: [{port: 80}]}\n";
    let dir = write(&[("a.yaml", &mapping("good", "80")), ("b.yaml", service)]);
    let source = judged(&dir).mappings[0].source.clone().expect("known");
    assert!(source.ends_with("a.yaml:1"), "{source}");
}
