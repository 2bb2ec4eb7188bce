use serde_json::json;

use super::*;

/// Number, line and content of each document; a broken one is its line alone.
fn told(documents: &[Document]) -> Vec<(usize, usize, Value)> {
    let content = |document: &Document| match &document.content {
        Ok(value) => value.clone(),
        Err(malformed) => json!({ "broken": malformed.line }),
    };
    documents.iter().map(|d| (d.number, d.line, content(d))).collect()
}

#[test]
fn documents_have_numbers_and_lines() {
    for (text, expected) in [
        ("", vec![]),
        ("# only a comment\n---\n# and another\n", vec![]),
        ("a: 1", vec![(1, 1, json!({ "a": 1 }))]),
        ("---\na: 1\n", vec![(1, 2, json!({ "a": 1 }))]),
        (
            "--- {a: 1}\n--- # two\n\nb: 2\n",
            vec![(1, 1, json!({ "a": 1 })), (2, 4, json!({ "b": 2 }))],
        ),
        (
            "%YAML 1.1\n---\na: 1\n...\n---\nb: 2\n",
            vec![(1, 3, json!({ "a": 1 })), (2, 6, json!({ "b": 2 }))],
        ),
        ("a: 1\r\n---\r\nb: 2\r\n", vec![(1, 1, json!({ "a": 1 })), (2, 3, json!({ "b": 2 }))]),
        (
            "a: |\n  ---\n  x\n---\n~\n---\nb: 2",
            vec![(1, 1, json!({ "a": "---\nx\n" })), (2, 7, json!({ "b": 2 }))],
        ),
        (
            "a: &x {p: 1}\nb: {<<: *x, q: 2}",
            vec![(1, 1, json!({ "a": { "p": 1 }, "b": { "p": 1, "q": 2 } }))],
        ),
        ("{1: a, true: b}", vec![(1, 1, json!({ "1": "a", "true": "b" }))]),
    ] {
        assert_eq!(told(&yaml_documents(text)), expected, "{text:?}");
    }
}

#[test]
fn a_broken_document_hides_no_other() {
    let text = "a: 1\n---\nb: [1,\nc: 2\n---\nd: 4\n";
    let documents = yaml_documents(text);
    let read: Vec<_> = documents.iter().map(|d| d.content.is_ok()).collect();
    assert_eq!(read, [true, false, true]);
    let malformed = documents[1].content.as_ref().unwrap_err();
    assert!(malformed.line.is_some_and(|l| (3..=5).contains(&l)), "{malformed:?}");
    assert!(malformed.message.starts_with("is no YAML: "), "{malformed:?}");
}

#[test]
fn what_json_lacks_is_an_error_and_no_panic() {
    let deep = "[".repeat(100_000);
    let bomb: String = (1..40).fold("a0: &a0 [x]\n".into(), |text, i| {
        format!("{text}a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)
    });
    for text in ["a: .nan", "a: !thing x", "? [a]\n: b", "a: 1\na: 2", "\tx", &deep, &bomb] {
        let documents = yaml_documents(text);
        assert!(documents[0].content.is_err(), "{text:.40}");
    }
}

#[test]
fn json_documents_follow_each_other() {
    let documents = told(&json_documents("{\"a\": 1}\n\n{\"b\":\n 2}"));
    assert_eq!(documents, [(1, 1, json!({ "a": 1 })), (2, 3, json!({ "b": 2 }))]);
    let documents = told(&json_documents("{\"a\": 1}\n{\"b\":\n"));
    assert_eq!(documents, [(1, 1, json!({ "a": 1 })), (2, 2, json!({ "broken": 3 }))]);
    assert_eq!(told(&json_documents(" \n ")), []);
}
