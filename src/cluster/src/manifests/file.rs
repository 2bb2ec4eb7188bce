//! One file → its objects and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use smartnat_core::model;

use super::document::{Document, json_documents, yaml_documents};
use super::fields;
use super::problem::{ManifestProblem, Severity};
use crate::api;
use crate::convert::{self, ConversionError};
use crate::store::{LegacyEndpoints, SourceId, SourceKind, SourceObject};

/// Problems that are told of one file.
const MAX_PROBLEMS: usize = 200;

/// How deep a `List` may lie in another.
const MAX_LIST_DEPTH: usize = 4;

/// An object and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) object: SourceObject,
    pub(super) document: usize,
    pub(super) line: usize,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct ParsedFile {
    pub(super) objects: BTreeMap<SourceId, Located>,
    pub(super) problems: Vec<ManifestProblem>,
    /// Objects that the file has but that could not be read.
    pub(super) broken: BTreeSet<SourceId>,
    /// Something could not be read and nobody knows what it was.
    pub(super) unreadable: bool,
}

/// Reads the text of a file; `name` is how problems call it.
pub(super) fn parse(name: &str, path: &Path, bytes: &[u8]) -> ParsedFile {
    let mut reader = Reader { name, parsed: ParsedFile::default(), seen: 0, last_broken: None };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        // What an editor or a full disk leaves behind, rather than somebody's wish.
        Ok("") => reader.unreadable("is empty; delete the file to delete its objects"),
        Ok(text) => {
            let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
            let documents = if is_json { json_documents(text) } else { yaml_documents(text) };
            for document in documents {
                reader.document(document);
            }
        }
        Err(error) => reader.unreadable(&format!("is no UTF-8 text: {error}")),
    }
    // Where the last object is broken, the file may be cut off, and more of it missing.
    reader.parsed.unreadable |= reader.last_broken == Some(reader.seen);
    reader.parsed
}

/// Where an object is: its document and, within a `List`, its item.
#[derive(Clone, Debug)]
struct Place {
    document: usize,
    line: usize,
    prefix: String,
}

struct Reader<'a> {
    name: &'a str,
    parsed: ParsedFile,
    /// Objects so far.
    seen: usize,
    /// Which of them was the last broken one.
    last_broken: Option<usize>,
}

impl Reader<'_> {
    fn unreadable(&mut self, message: &str) {
        self.parsed.unreadable = true;
        self.parsed.problems.push(ManifestProblem::of_file(self.name, message));
    }

    fn document(&mut self, document: Document) {
        let place = Place { document: document.number, line: document.line, prefix: String::new() };
        match document.content {
            Ok(value) => self.value(&place, value, None, 0),
            Err(malformed) => {
                self.parsed.unreadable = true;
                let line = malformed.line.unwrap_or(place.line);
                let place = Place { line, ..place };
                self.problem(&place, Severity::Error, None, None, malformed.message);
            }
        }
    }

    /// An object or a list of them. `inherited` is what the items of a typed list may omit.
    fn value(
        &mut self,
        place: &Place,
        value: Value,
        inherited: Option<(&str, &str)>,
        depth: usize,
    ) {
        self.seen += 1;
        let Value::Object(mut object) = value else {
            self.broken(place, None, None, "is no Kubernetes object but a list or a plain value");
            return;
        };
        if let Some((version, kind)) = inherited {
            object.entry("apiVersion").or_insert_with(|| version.into());
            object.entry("kind").or_insert_with(|| kind.into());
        }
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        for (field, value) in [("apiVersion", &version), ("kind", &kind)] {
            if value.is_empty() {
                self.broken(
                    place,
                    None,
                    Some(field),
                    "is missing; a Kubernetes object has apiVersion and kind",
                );
                return;
            }
        }
        match (version.as_str(), kind.as_str()) {
            (version, list) if is_list(version, list) => {
                let item = list.strip_suffix("List").filter(|kind| !kind.is_empty());
                self.list(place, &mut object, item.map(|kind| (version, kind)), depth);
            }
            (api::API_VERSION, api::KIND) => self.mapping(place, object),
            ("v1", "Service") => {
                self.read::<Service>(place, SourceKind::Service, object, |s| {
                    convert::service(s).map(|s| SourceObject::Service(s.shared()))
                });
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.read::<EndpointSlice>(place, SourceKind::EndpointSlice, object, |s| {
                    convert::endpoint_slice(s).map(|s| SourceObject::EndpointSlice(s.shared()))
                });
            }
            ("v1", "Endpoints") => {
                self.read::<Endpoints>(place, SourceKind::Endpoints, object, |e| {
                    let key = convert::object_key(&e.metadata)?;
                    let slices = convert::slices_of_endpoints(e)?.into_iter();
                    let slices = slices.map(model::EndpointSlice::shared).collect();
                    Ok(SourceObject::Endpoints(Arc::new(LegacyEndpoints { key, slices })))
                });
            }
            (version, kind) => self.other(place, version, kind, &object),
        }
    }

    fn list(
        &mut self,
        place: &Place,
        list: &mut Map<String, Value>,
        inherited: Option<(&str, &str)>,
        depth: usize,
    ) {
        if depth >= MAX_LIST_DEPTH {
            self.broken(place, None, None, "is a List too deep within other Lists");
            return;
        }
        match list.remove("items") {
            Some(Value::Array(items)) => {
                for (i, item) in items.into_iter().enumerate() {
                    let prefix = format!("{}items[{i}].", place.prefix);
                    self.value(&Place { prefix, ..place.clone() }, item, inherited, depth + 1);
                }
            }
            None | Some(Value::Null) => {}
            Some(_) => self.broken(place, None, Some("items"), "must be a list of objects"),
        }
    }

    fn mapping(&mut self, place: &Place, mut object: Map<String, Value>) {
        // Whatever a manifest says of the status, it is not the user's to say.
        object.remove("status");
        let value = Value::Object(object);
        let id = identity(SourceKind::Mapping, value.get("metadata"));
        for unknown in fields::unknown_in_mapping(&value) {
            let message = match unknown.likely {
                Some(likely) => format!("is not a known field; did you mean {likely}?"),
                None => "is not a known field and has no effect".into(),
            };
            self.problem(place, Severity::Warning, id.clone(), Some(&unknown.path), message);
        }
        let Value::Object(object) = value else { return };
        self.read::<api::Mapping>(place, SourceKind::Mapping, object, |m| {
            convert::mapping(m).map(|m| SourceObject::Mapping(m.shared()))
        });
    }

    /// Reads an object of type `T` and takes it over.
    fn read<T: DeserializeOwned>(
        &mut self,
        place: &Place,
        kind: SourceKind,
        object: Map<String, Value>,
        convert: impl FnOnce(&T) -> Result<SourceObject, ConversionError>,
    ) {
        let id = identity(kind, object.get("metadata"));
        let result = serde_path_to_error::deserialize::<_, T>(Value::Object(object))
            .map_err(|error| syntax_error(&error))
            .and_then(|typed| convert(&typed));
        match result {
            Ok(object) => self.add(place, object),
            Err(error) => {
                let field = (!error.field.is_empty()).then_some(error.field.as_str());
                self.broken(place, id, field, error.message);
            }
        }
    }

    fn add(&mut self, place: &Place, object: SourceObject) {
        let id = object.id();
        if let Some(first) = self.parsed.objects.get(&id) {
            let message = format!(
                "is already in document {} (line {}) of this file, which counts; remove one",
                first.document, first.line
            );
            self.problem(place, Severity::Error, Some(id), None, message);
            return;
        }
        let located = Located { object, document: place.document, line: place.line };
        self.parsed.objects.insert(id, located);
    }

    /// A kind that is none of ours, unless it was meant to be.
    fn other(&mut self, place: &Place, version: &str, kind: &str, object: &Map<String, Value>) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let looks_like_ours = kind == api::KIND && fields::distance(group, api::GROUP) <= 4;
        if group == api::GROUP && kind != api::KIND {
            let likely = fields::likely(kind, [api::KIND]);
            let mend = if likely.is_some() { "did you mean Mapping?" } else { "use Mapping" };
            let id = identity(SourceKind::Mapping, object.get("metadata"));
            let message = format!("{kind:?} is not known in {}; {mend}", api::API_VERSION);
            self.broken(place, id, Some("kind"), message);
        } else if group == api::GROUP || looks_like_ours {
            let id = identity(SourceKind::Mapping, object.get("metadata"));
            let message = format!("{version:?} is not known; use {}", api::API_VERSION);
            self.broken(place, id, Some("apiVersion"), message);
        } else if kind == "EndpointSlice" && group == "discovery.k8s.io" {
            let id = identity(SourceKind::EndpointSlice, object.get("metadata"));
            let message = format!("{version:?} is not known; use discovery.k8s.io/v1");
            self.broken(place, id, Some("apiVersion"), message);
        }
    }

    /// Reports that something could not be read, so that its last good version stays.
    fn broken(
        &mut self,
        place: &Place,
        id: Option<SourceId>,
        field: Option<&str>,
        message: impl Into<String>,
    ) {
        match &id {
            Some(id) => {
                self.parsed.broken.insert(id.clone());
                self.last_broken = Some(self.seen);
            }
            None => self.parsed.unreadable = true,
        }
        self.problem(place, Severity::Error, id, field, message.into());
    }

    fn problem(
        &mut self,
        place: &Place,
        severity: Severity,
        object: Option<SourceId>,
        field: Option<&str>,
        message: String,
    ) {
        if self.parsed.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let prefix = place.prefix.as_str();
        let field = match field {
            Some(field) => Some(format!("{prefix}{field}")),
            None => prefix.strip_suffix('.').map(str::to_owned),
        };
        self.parsed.problems.push(ManifestProblem {
            file: self.name.to_owned(),
            document: Some(place.document),
            line: Some(place.line),
            severity,
            object,
            field,
            message,
        });
    }
}

/// Whether this is a list of objects that we read.
fn is_list(version: &str, kind: &str) -> bool {
    matches!(
        (version, kind),
        ("v1", "List" | "ServiceList" | "EndpointsList")
            | ("discovery.k8s.io/v1", "EndpointSliceList")
            | (api::API_VERSION, "MappingList")
    )
}

/// Which object this is, as far as its metadata can be read.
fn identity(kind: SourceKind, metadata: Option<&Value>) -> Option<SourceId> {
    let metadata = metadata?.as_object()?;
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(str::to_owned);
    let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        ..Default::default()
    };
    Some(SourceId { kind, key: convert::object_key(&metadata).ok()? })
}

/// Field and sentence of a value of the wrong type.
fn syntax_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ConversionError {
    let path = error.path().to_string();
    let field = if path == "." { String::new() } else { path };
    let mut message = error.inner().to_string();
    for (technical, plain) in [
        ("expected a sequence", "expected a list"),
        ("expected i64", "expected a whole number"),
        ("expected i32", "expected a whole number"),
        ("expected a map", "expected fields"),
    ] {
        message = message.replace(technical, plain);
    }
    ConversionError::new(field, message)
}

#[cfg(test)]
mod tests;
