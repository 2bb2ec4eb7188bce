//! Sets, maps and their elements.

use std::fmt::Write as _;

use super::{quoted, value};
use crate::objects::nft::{
    NftData, NftElement, NftKey, NftName, NftSet, NftSetSpec, NftType, NftValue,
};

/// A set or map with its first `most` elements in order of their keys, one a line, and how many
/// more there are. What its elements counted is left out.
pub fn render_set(name: &NftName, set: &NftSet, most: usize) -> String {
    let mut text = format!("{} {name} {{\n", kind_of(&set.spec));
    for line in declaration(&set.spec) {
        let _ = writeln!(text, "\t{line}");
    }
    let mut elements: Vec<String> = (set.elements.iter().take(most))
        .map(|(key, element)| render_element(&set.spec, key, element))
        .collect();
    if set.elements.len() > most {
        elements.push(format!("# and {} more", set.elements.len() - most));
    }
    if !elements.is_empty() {
        let _ = writeln!(text, "\telements = {{ {} }}", elements.join(",\n\t\t     "));
    }
    text.push_str("}\n");
    text
}

/// `set` or `map`.
pub fn kind_of(spec: &NftSetSpec) -> &'static str {
    if spec.data == NftData::Nothing { "set" } else { "map" }
}

/// What a set or map is created with, line by line.
pub fn declaration(spec: &NftSetSpec) -> Vec<String> {
    let mut lines = vec![match &spec.data {
        NftData::Nothing => format!("type {}", types(&spec.key)),
        NftData::Verdict => format!("type {} : verdict", types(&spec.key)),
        NftData::Values(values) => format!("type {} : {}", types(&spec.key), types(values)),
    }];
    if let Some(size) = spec.size {
        lines.push(format!("size {size}"));
    }
    lines.extend(flags(spec));
    if spec.counter {
        lines.push("counter".to_owned());
    }
    if let Some(seconds) = spec.timeout.filter(|seconds| *seconds > 0) {
        lines.push(format!("timeout {}", value::duration(u64::from(seconds) * 1_000)));
    }
    lines
}

/// A timeout of the set says by itself that elements have one.
fn flags(spec: &NftSetSpec) -> Option<String> {
    let flags = [
        (spec.dynamic, "dynamic"),
        (spec.interval, "interval"),
        (spec.timeout.is_some(), "timeout"),
    ];
    let implied = !spec.dynamic && !spec.interval && spec.timeout != Some(0);
    let names: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    (!implied).then(|| format!("flags {}", names.join(",")))
}

fn types(types: &[NftType]) -> String {
    types.iter().map(|t| t.name()).collect::<Vec<_>>().join(" . ")
}

/// An element: its key, its comment and what it carries.
pub fn render_element(spec: &NftSetSpec, key: &NftKey, element: &NftElement) -> String {
    let mut text = render_key(spec, key);
    if let Some(comment) = &element.comment {
        let _ = write!(text, " comment {}", quoted(comment));
    }
    match (&element.value, &spec.data) {
        (NftValue::Nothing, _) => {}
        (NftValue::Verdict(verdict), _) => {
            let _ = write!(text, " : {verdict}");
        }
        (NftValue::Bytes(bytes), NftData::Values(types)) => {
            let _ = write!(text, " : {}", fields(types, bytes, None));
        }
        (NftValue::Bytes(bytes), _) => {
            let _ = write!(text, " : {}", fields(&[], bytes, None));
        }
    }
    text
}

/// The key of an element, or its interval.
pub fn render_key(spec: &NftSetSpec, key: &NftKey) -> String {
    fields(&spec.key, &key.first, key.last.as_deref())
}

/// The fields of a concatenation, each padded to four bytes. Bytes beyond the last type, or of one
/// whose size is not known, are one field.
fn fields(types: &[NftType], first: &[u8], last: Option<&[u8]>) -> String {
    let mut texts = Vec::new();
    let mut start = 0;
    for kind in types {
        if start >= first.len() {
            break;
        }
        let size = if kind.size() == 0 { first.len() } else { kind.size() };
        texts.push(field(value::Kind::from(*kind), start, size, first, last));
        start = start.saturating_add(size).next_multiple_of(4);
    }
    if start < first.len() {
        texts.push(field(value::Kind::Bytes, start, first.len(), first, last));
    }
    texts.join(" . ")
}

fn field(
    kind: value::Kind,
    start: usize,
    size: usize,
    first: &[u8],
    last: Option<&[u8]>,
) -> String {
    let part = |bytes: &'_ [u8]| -> Box<[u8]> {
        let end = start.saturating_add(size).min(bytes.len());
        bytes.get(start..end).unwrap_or_default().into()
    };
    match last {
        Some(last) => value::interval(kind, &part(first), &part(last)),
        None => value::text(kind, &part(first)),
    }
}
