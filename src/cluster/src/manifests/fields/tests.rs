use serde_json::json;

use super::*;

#[test]
fn unknown_fields_are_found_with_what_was_meant() {
    let mapping = json!({
        "apiVersion": "x", "kind": "Mapping", "statsu": {},
        "metadata": { "name": "a", "labels": { "free": "x" }, "namspace": "b" },
        "status": { "whatever": 1 },
        "spec": {
            "addresses": [], "allowedSource": [], "sources": [], "colour": "red",
            "ports": [{ "port": 1 }, { "Port": 1, "endport": 2, "servicePrt": 3, "targetPort": 4 }],
        },
    });
    let found = unknown_in_mapping(&mapping);
    let found: Vec<_> = found.iter().map(|u| (u.path.as_str(), u.likely.as_deref())).collect();
    assert_eq!(
        found,
        [
            ("metadata.namspace", Some("namespace")),
            ("spec.allowedSource", Some("allowedSources")),
            ("spec.colour", None),
            ("spec.ports[1].Port", Some("port")),
            ("spec.ports[1].endport", Some("endPort")),
            ("spec.ports[1].servicePrt", Some("servicePort")),
            ("spec.ports[1].targetPort", Some("port")),
            ("spec.sources", Some("allowedSources")),
            ("statsu", Some("status")),
        ]
    );
}

#[test]
fn the_number_of_unknown_fields_is_bounded() {
    let spec: serde_json::Map<_, _> = (0..1000).map(|i| (format!("x{i}"), json!(1))).collect();
    assert_eq!(unknown_in_mapping(&json!({ "spec": spec })).len(), MAX_UNKNOWN);
}

#[test]
fn distances() {
    for (a, b, expected) in [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("abc", "acb", 1),
        ("kitten", "sitting", 3),
        ("ä", "a", 1),
    ] {
        assert_eq!(distance(a, b), expected, "{a} {b}");
        assert_eq!(distance(b, a), expected, "{b} {a}");
    }
}
