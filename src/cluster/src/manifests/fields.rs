//! Fields of a manifest that the API does not know, and what was probably meant.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::api;

/// Fields that an object can have, with those of their values.
#[derive(Debug, Default)]
struct Known {
    fields: BTreeMap<String, Known>,
    /// Whether any field is allowed.
    open: bool,
}

/// Fields of `metadata`; the schema of a custom resource does not repeat them.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A field that the API does not know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownField {
    /// Where it is, for example `spec.ports[0].servicePrt`.
    pub(super) path: String,
    /// The field that was probably meant.
    pub(super) likely: Option<String>,
}

/// How many unknown fields of one object are told.
const MAX_UNKNOWN: usize = 20;

/// Fields of a Mapping that the API does not know, in the order of their paths.
pub(super) fn unknown_in_mapping(mapping: &Value) -> Vec<UnknownField> {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let mut found = Vec::new();
    collect(mapping, KNOWN.get_or_init(known_in_mapping), "", &mut found);
    found
}

/// What the schema of the custom resource allows.
fn known_in_mapping() -> Known {
    let crd = api::crd();
    let version = crd.spec.versions.first();
    let schema = version.and_then(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref());
    let schema = schema.and_then(|s| serde_json::to_value(s).ok()).unwrap_or_default();
    let mut known = of_schema(&schema);
    let leaf = |name: &str| (name.to_owned(), Known { open: true, ..Known::default() });
    known.fields.extend(["apiVersion", "kind", "status"].map(leaf));
    let metadata = Known { fields: METADATA.map(leaf).into(), open: false };
    known.fields.insert("metadata".into(), metadata);
    known
}

fn of_schema(schema: &Value) -> Known {
    if let Some(items) = schema.get("items") {
        return of_schema(items);
    }
    match schema.get("properties").and_then(Value::as_object) {
        Some(properties) => Known {
            fields: properties.iter().map(|(k, v)| (k.clone(), of_schema(v))).collect(),
            open: false,
        },
        None => Known { open: true, ..Known::default() },
    }
}

fn collect(value: &Value, known: &Known, path: &str, found: &mut Vec<UnknownField>) {
    if known.open {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if found.len() >= MAX_UNKNOWN {
                    return;
                }
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.fields.get(name) {
                    Some(known) => collect(value, known, &path, found),
                    None => found.push(UnknownField {
                        path,
                        likely: likely(name, known.fields.keys().map(String::as_str)),
                    }),
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                collect(item, known, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

/// The candidate that `name` is probably a misspelling of.
pub(super) fn likely<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    // A third of a name may be wrong; of a long one more would be another word.
    let limit = (name.chars().count() / 3).clamp(1, 4);
    let folded = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|c| (closeness(&folded, &c.to_ascii_lowercase(), limit), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c.to_owned())
}

/// The distance, or `limit` where one name is a good part of the other: `sources` for
/// `allowedSources`.
fn closeness(name: &str, candidate: &str, limit: usize) -> usize {
    let distance = distance(name, candidate);
    let part = name.len().min(candidate.len()) >= 4
        && (candidate.contains(name) || name.contains(candidate));
    if part { distance.min(limit) } else { distance }
}

/// Longest text that is compared: the effort is quadratic, and no name is that long.
const MAX_COMPARED: usize = 64;

/// Insertions, deletions, substitutions and swaps of neighbours from `a` to `b`.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_COMPARED).collect();
    let b: Vec<char> = b.chars().take(MAX_COMPARED).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
