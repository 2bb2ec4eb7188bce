//! The text of a file → documents with their positions.

use serde::Deserialize;
use serde_json::Value;

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// Number in the file, from 1. Empty documents are not counted.
    pub(super) number: usize,
    /// First line, from 1.
    pub(super) line: usize,
    /// What it says.
    pub(super) content: Result<Value, Malformed>,
}

/// A document that is no YAML or JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Line in the file, from 1, if known.
    pub(super) line: Option<usize>,
    /// What the parser says.
    pub(super) message: String,
}

/// Broken documents whose message is made with the file's own line numbers; that costs a
/// pass over the document's whole lead each.
const MAX_EXACT: usize = 20;

/// The documents of a JSON file: one value after the other.
pub(super) fn json_documents(text: &str) -> Vec<Document> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    loop {
        let rest = text.get(stream.byte_offset()..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        let line = 1 + text[..stream.byte_offset() + blank].matches('\n').count();
        let Some(next) = stream.next() else { return documents };
        let content = next.map_err(|error| Malformed {
            line: (error.line() > 0).then_some(error.line()),
            message: format!("is no JSON: {error}"),
        });
        let broken = content.is_err();
        documents.push(Document { number: documents.len() + 1, line, content });
        if broken {
            return documents;
        }
    }
}

/// The documents of a YAML file. A broken one does not hide those after it.
pub(super) fn yaml_documents(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut broken = 0;
    for (lead, chunk) in split(text) {
        let Some(first) = chunk.lines().position(has_content) else { continue };
        let content = yaml(chunk).or_else(|malformed| {
            broken += 1;
            if broken > MAX_EXACT {
                return Err(malformed);
            }
            // The same error once more, with the lines as they are in the file.
            yaml(&format!("{}{chunk}", "\n".repeat(lead)))
        });
        if matches!(content, Ok(Value::Null)) {
            continue;
        }
        documents.push(Document { number: documents.len() + 1, line: lead + first + 1, content });
    }
    documents
}

/// Number of lines before each document, and its text with its `---`.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > start {
            chunks.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, i);
        }
        offset += line.len();
    }
    chunks.push((start_line, &text[start..]));
    chunks
}

/// YAML allows `---` at the beginning of a line for nothing else, not even in a block of text.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether a line is more than a comment, a directive or a marker.
fn has_content(line: &str) -> bool {
    let line = if is_marker(line) { &line[3..] } else { line };
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "...")
}

/// More brackets than this that no manifest leaves open at once; the parser's effort grows
/// with their square before it gives up.
const MAX_OPEN_BRACKETS: usize = 1000;

fn yaml(text: &str) -> Result<Value, Malformed> {
    if open_brackets(text) > MAX_OPEN_BRACKETS {
        return Err(Malformed { line: None, message: "is nested too deeply".into() });
    }
    let malformed = |error: serde_yaml_ng::Error| Malformed {
        line: error.location().map(|l| l.line()),
        message: format!("is no YAML: {error}"),
    };
    let deserializer = serde_yaml_ng::Deserializer::from_str(text);
    let mut value = serde_yaml_ng::Value::deserialize(deserializer).map_err(malformed)?;
    value.apply_merge().map_err(malformed)?;
    json_of(value).map_err(|message| Malformed { line: None, message })
}

/// The largest number of brackets that are open at once, those in texts counted too.
fn open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The value in JSON's terms. The parser has bounded its depth.
fn json_of(value: serde_yaml_ng::Value) -> Result<Value, String> {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(b) => Value::Bool(b),
        Yaml::Number(n) => number(&n)?,
        Yaml::String(s) => Value::String(s),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(json_of).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(map) => {
            let entry = |(key, value)| Ok((key_of(key)?, json_of(value)?));
            Value::Object(map.into_iter().map(entry).collect::<Result<_, String>>()?)
        }
        Yaml::Tagged(tagged) => {
            return Err(format!("has the tag {}, which manifests do not use", tagged.tag));
        }
    })
}

/// The key of a map as text, as `kubectl` reads it.
fn key_of(key: serde_yaml_ng::Value) -> Result<String, String> {
    use serde_yaml_ng::Value as Yaml;
    match key {
        Yaml::String(s) => Ok(s),
        Yaml::Number(n) => Ok(n.to_string()),
        Yaml::Bool(b) => Ok(b.to_string()),
        _ => Err("has a field whose name is no text; put the name in quotes".into()),
    }
}

fn number(number: &serde_yaml_ng::Number) -> Result<Value, String> {
    if let Some(n) = number.as_i64() {
        return Ok(n.into());
    }
    if let Some(n) = number.as_u64() {
        return Ok(n.into());
    }
    let float = number.as_f64().and_then(serde_json::Number::from_f64);
    float.map(Value::Number).ok_or_else(|| format!("has the number {number}, which JSON lacks"))
}

#[cfg(test)]
mod tests;
