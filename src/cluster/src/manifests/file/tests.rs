use super::*;

const MAPPING: &str = "apiVersion: smartnat.aureacentral.com/v1alpha1\nkind: Mapping\n";

fn read(text: &str) -> ParsedFile {
    parse("m.yaml", Path::new("m.yaml"), text.as_bytes())
}

fn ids(parsed: &ParsedFile) -> Vec<String> {
    parsed.objects.keys().map(ToString::to_string).collect()
}

fn problems(parsed: &ParsedFile) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

/// That `text` has exactly one problem, and which.
fn only_problem(text: &str) -> String {
    let mut all = problems(&read(text));
    assert_eq!(all.len(), 1, "{text}: {all:?}");
    all.remove(0)
}

#[test]
fn all_kinds_are_read_and_others_ignored() {
    let text = format!(
        "{MAPPING}metadata: {{name: m}}\nspec: {{serviceName: s}}\n\
         ---\n{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: web}}, spec: {{}}}}\n\
         ---\n{{apiVersion: v1, kind: Endpoints, metadata: {{name: s}}}}\n\
         ---\n{{apiVersion: v1, kind: ConfigMap, metadata: 7}}\n\
         ---\n{{apiVersion: getambassador.io/v3alpha1, kind: Mapping}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s-1, \
              labels: {{kubernetes.io/service-name: s}}}}, addressType: IPv6, endpoints: []}}\n"
    );
    let parsed = read(&text);
    assert_eq!(problems(&parsed), [""; 0]);
    assert_eq!(
        ids(&parsed),
        ["Mapping default/m", "Service web/s", "EndpointSlice default/s-1", "Endpoints default/s"]
    );
}

#[test]
fn lists_are_read_typed_and_untyped() {
    let parsed = read(
        "{apiVersion: v1, kind: List, items: [\
           {apiVersion: smartnat.aureacentral.com/v1alpha1, kind: MappingList, items: [\
              {metadata: {name: a}, spec: {}}, {metadata: {name: b}, spec: {ports: x}}]}, \
           {apiVersion: v1, kind: Secret, metadata: {name: x}}, 7]}",
    );
    assert_eq!(ids(&parsed), ["Mapping default/a"]);
    assert_eq!(
        problems(&parsed),
        [
            "m.yaml:1 (document 1): Mapping default/b: items[0].items[1].spec.ports: \
             invalid type: string \"x\", expected a list",
            "m.yaml:1 (document 1): items[2]: is no Kubernetes object but a list or a plain value",
        ]
    );
}

#[test]
fn a_list_within_lists_has_a_bottom() {
    let mut text = String::from("{apiVersion: v1, kind: List, items: []}");
    for _ in 0..MAX_LIST_DEPTH {
        text = format!("{{apiVersion: v1, kind: List, items: [{text}]}}");
    }
    assert!(only_problem(&text).contains("too deep"));
}

#[test]
fn what_is_wrong_is_said_with_field_and_mend() {
    let of_mapping = |rest: &str| format!("{MAPPING}metadata: {{name: m}}\n{rest}");
    for (text, expected) in [
        ("", "is empty; delete the file to delete its objects"),
        ("[1]", "is no Kubernetes object"),
        ("kind: Mapping", "apiVersion: is missing"),
        ("apiVersion: v1\nki", "is no YAML"),
        ("apiVersion: v1", "kind: is missing"),
        (
            "{apiVersion: smartnat.aureacentral.com/v1beta1, kind: Mapping, metadata: {name: m}}",
            "Mapping default/m: apiVersion: \"smartnat.aureacentral.com/v1beta1\" is not known; \
             use smartnat.aureacentral.com/v1alpha1",
        ),
        (
            "{apiVersion: smartnat.aureacentral.co/v1alpha1, kind: Mapping, metadata: {name: m}}",
            "use smartnat.aureacentral.com/v1alpha1",
        ),
        (
            "{apiVersion: smartnat.aureacentral.com/v1alpha1, kind: Maping, metadata: {name: m}}",
            "did you mean Mapping?",
        ),
        (
            "{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, metadata: {name: s}}",
            "use discovery.k8s.io/v1",
        ),
        (&of_mapping(""), "Mapping default/m: missing field `spec`"),
        (&of_mapping("spec: {ports: [{port: x}]}"), "spec.ports[0].port: invalid type"),
        (&of_mapping("spec: {ports: [{port: 1.5}]}"), "expected a whole number"),
        (&of_mapping("spec: {ports: [{servicePort: []}]}"), "spec.ports[0].servicePort: []"),
        (&of_mapping("spec: {addresses: 1.2.3.4}"), "spec.addresses: invalid type"),
        (&of_mapping("spec: {masquerade: 'yes'}"), "spec.masquerade"),
        (&of_mapping("spec: {alowedSources: []}"), "did you mean allowedSources?"),
        (&of_mapping("spec: {unheardOf: 1}"), "spec.unheardOf: is not a known field"),
        (&format!("{MAPPING}metadata: {{}}\nspec: {{}}"), "metadata.name: is missing"),
        (
            &format!("{MAPPING}metadata: {{name: m, labels: {{a: 1}}}}\nspec: {{}}"),
            "metadata.labels.a",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{}]}}",
            "spec.ports[0]",
        ),
        ("{apiVersion: v1, kind: List, items: x}", "items: must be a list"),
    ] {
        let problem = only_problem(text);
        assert!(problem.contains(expected), "{expected:?} is not in {problem:?}");
    }
}

#[test]
fn a_warning_keeps_the_object_and_an_error_names_it() {
    let parsed = read(&format!("{MAPPING}metadata: {{name: m}}\nspec: {{x: 1}}"));
    assert!(!parsed.problems[0].is_error());
    assert_eq!(ids(&parsed), ["Mapping default/m"]);
    assert!(parsed.broken.is_empty() && !parsed.unreadable);

    let broken = format!("{MAPPING}metadata: {{name: m}}\nspec: 1");
    let parsed = read(&broken);
    assert!(parsed.problems[0].is_error());
    assert_eq!(parsed.broken.len(), 1);
    assert!(parsed.unreadable, "the file may end too early");
    assert!(!read(&format!("{broken}\n---\n{{apiVersion: v1, kind: Secret}}")).unreadable);

    assert!(read("a: [").unreadable);
    assert!(parse("x", Path::new("x"), b"\xff\xfe").unreadable);
    assert!(read("kind: Mapping").unreadable, "it may be a truncated file");
}

#[test]
fn a_status_is_nobodys_business() {
    let parsed = read(&format!("{MAPPING}metadata: {{name: m}}\nspec: {{}}\nstatus: [odd]"));
    assert_eq!(problems(&parsed), [""; 0]);
    assert_eq!(parsed.objects.len(), 1);
}

#[test]
fn the_first_of_two_in_one_file_counts() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {}}";
    let text = format!("# head\n---\n{service}\n---\n{service}\n");
    let problem = only_problem(&text);
    assert!(problem.starts_with("m.yaml:5 (document 2): Service default/s: "), "{problem}");
    assert!(problem.contains("document 1 (line 3)"), "{problem}");
    assert_eq!(read(&text).objects.values().next().map(|l| l.document), Some(1));
}

#[test]
fn a_byte_order_mark_is_skipped_and_json_is_json() {
    let json = "\u{feff}{\"apiVersion\": \"v1\", \"kind\": \"Service\", \
                \"metadata\": {\"name\": \"s\"}, \"spec\": {}}";
    let parsed = parse("s.JSON", Path::new("s.JSON"), json.as_bytes());
    assert_eq!(problems(&parsed), [""; 0]);
    assert_eq!(ids(&parsed), ["Service default/s"]);
}

#[test]
fn problems_are_bounded() {
    let parsed = read(&"---\na: [\n".repeat(MAX_PROBLEMS + 50));
    assert_eq!(parsed.problems.len(), MAX_PROBLEMS);
}
