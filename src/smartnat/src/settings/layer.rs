//! Where values come from: flags, variables, the configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::catalogue::{ENV_PREFIX, LEGACY_PREFIX, SETTINGS, Setting, likely};
use super::problem::Problem;

/// Largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, without the dashes.
    Flag(&'static str),
    /// A variable.
    Variable(String),
    /// A key of the configuration file.
    File(PathBuf, &'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, key) => write!(f, "{key} in {}", path.display()),
        }
    }
}

/// A value as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// One value, or several where the setting is a list.
    pub values: Vec<String>,
    /// Where it was given.
    pub origin: Origin,
}

/// Values by key of their setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    values: BTreeMap<&'static str, Given>,
}

impl Layer {
    /// Sets a flag's value, if it was given.
    pub fn flag(&mut self, key: &'static str, value: Option<&String>) {
        self.flags(key, value.map_or(&[], std::slice::from_ref));
    }

    /// Sets the values of a flag that can be repeated.
    pub fn flags(&mut self, key: &'static str, values: &[String]) {
        let Some(setting) = Setting::of(key) else { return };
        if !values.is_empty() {
            self.insert(setting, values.to_vec(), Origin::Flag(setting.flag));
        }
    }

    fn insert(&mut self, setting: &'static Setting, values: Vec<String>, origin: Origin) {
        self.values.insert(setting.key, Given { values, origin });
    }

    /// The value of a setting.
    pub fn get(&self, key: &str) -> Option<&Given> {
        self.values.get(key)
    }

    /// Takes what is missing here from a layer of lower precedence.
    pub fn fill_from(&mut self, lower: Self) {
        for (key, given) in lower.values {
            self.values.entry(key).or_insert(given);
        }
    }
}

/// How important a remark about the configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteLevel {
    /// Only of interest when looking closely.
    Debug,
    /// Worth a line.
    Info,
    /// Likely a mistake.
    Warning,
}

/// A remark about the configuration that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How important.
    pub level: NoteLevel,
    /// For people.
    pub message: String,
}

/// What is special about variables of the Go version that are no setting of ours.
const LEGACY_WITHOUT_EFFECT: &[(&str, NoteLevel, &str)] = &[(
    "AUTOREFRESH_PERIOD_SEC",
    NoteLevel::Debug,
    "has no effect: interfaces, addresses and routes are followed by the kernel's notifications",
)];
const LEGACY_DEBUG: &str = "DEBUG_ENABLED";

/// The two layers of the environment, ours first, with remarks.
pub(super) fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> (Layer, Layer, Vec<Note>) {
    let (mut ours, mut legacy, mut notes) = (Layer::default(), Layer::default(), Vec::new());
    let given = |(name, value): &(String, String)| !value.is_empty() || empty_counts(name);
    let mut variables: Vec<_> = variables.into_iter().filter(given).collect();
    variables.sort();
    for (name, value) in variables {
        if name.starts_with(ENV_PREFIX) {
            our_variable(&name, &value, &mut ours, &mut notes);
        } else if let Some(old) = name.strip_prefix(LEGACY_PREFIX) {
            legacy_variable(&name, old, &value, &mut legacy, &mut notes, problems);
        }
    }
    (ours, legacy, notes)
}

/// Whether the setting of this variable has a meaning for an empty value.
fn empty_counts(name: &str) -> bool {
    let named = |setting: &Setting| {
        let old = name.strip_prefix(LEGACY_PREFIX);
        setting.variable() == name || (old.is_some() && old == setting.legacy)
    };
    SETTINGS.iter().any(|setting| setting.empty && named(setting))
}

fn our_variable(name: &str, value: &str, layer: &mut Layer, notes: &mut Vec<Note>) {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
        layer.insert(setting, split(setting, value), Origin::Variable(name.into()));
        return;
    }
    // Kubernetes adds variables for a Service named smartnat, so that a strange one is no error.
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    if name != CONFIG_VARIABLE
        && let Some(likely) = likely(name, known.iter().map(String::as_str))
    {
        notes.push(Note {
            level: NoteLevel::Warning,
            message: format!("variable {name} is unknown and ignored; did you mean {likely}?"),
        });
    }
}

fn legacy_variable(
    name: &str,
    old: &str,
    value: &str,
    layer: &mut Layer,
    notes: &mut Vec<Note>,
    problems: &mut Vec<Problem>,
) {
    let origin = Origin::Variable(name.into());
    let mut note = |level, message| notes.push(Note { level, message });
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.legacy == Some(old)) {
        layer.insert(setting, split(setting, value), origin);
    } else if old == LEGACY_DEBUG {
        match (super::read::boolean(value), Setting::of("logLevel")) {
            (Some(true), Some(setting)) => layer.insert(setting, vec!["debug".into()], origin),
            (Some(_), _) => {}
            (None, _) => problems.push(Problem::value(&origin, value, "allowed: true or false")),
        }
    } else if let Some((_, level, why)) =
        LEGACY_WITHOUT_EFFECT.iter().find(|(known, ..)| *known == old)
    {
        note(*level, format!("variable {name} is accepted and {why}"));
    } else {
        let known = SETTINGS.iter().filter_map(|setting| setting.legacy);
        let hint = likely(old, known.chain([LEGACY_DEBUG]))
            .map(|known| format!("; did you mean {LEGACY_PREFIX}{known}?"))
            .unwrap_or_default();
        note(NoteLevel::Warning, format!("variable {name} is unknown and ignored{hint}"));
    }
}

fn split(setting: &Setting, value: &str) -> Vec<String> {
    if setting.list {
        value.split(',').map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect()
    } else {
        vec![value.to_owned()]
    }
}

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "SMARTNAT_CONFIG";

/// The configuration file's layer.
pub(super) fn from_file(path: &Path, problems: &mut Vec<Problem>) -> Layer {
    match read_file(path) {
        Ok(text) => from_yaml(path, &text, problems),
        Err(problem) => {
            problems.push(problem);
            Layer::default()
        }
    }
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let about = |error| Problem::file(path, format!("can't be read: {error}"));
    let length = std::fs::metadata(path).map_err(about)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Problem::file(path, format!("has {length} bytes; at most {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(about)
}

/// The layer of a configuration file's text.
pub(super) fn from_yaml(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::default();
    let mapping = match serde_yaml_ng::from_str::<Value>(text) {
        Ok(Value::Mapping(mapping)) => mapping,
        Ok(Value::Null) => return layer,
        Ok(_) => {
            problems.push(Problem::file(path, "must hold keys and values, as in `guard: true`"));
            return layer;
        }
        Err(error) => {
            problems.push(Problem::file(path, format!("is no YAML: {error}")));
            return layer;
        }
    };
    for (key, value) in mapping {
        let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        let Some(setting) = Setting::of(&key) else {
            problems.push(unknown_key(path, &key));
            continue;
        };
        let origin = Origin::File(path.to_owned(), setting.key);
        match values_of(setting, value) {
            Some(values) if values.is_empty() => {}
            Some(values) => layer.insert(setting, values, origin),
            None => problems.push(Problem::new(
                &origin,
                format!("has a value of the wrong shape; allowed: {}", setting.allowed),
            )),
        }
    }
    layer
}

fn unknown_key(path: &Path, key: &str) -> Problem {
    let keys = SETTINGS.iter().map(|setting| setting.key);
    let hint = match likely(key, keys.clone()) {
        Some(known) => format!("did you mean {known:?}?"),
        None => format!("known are {}", keys.collect::<Vec<_>>().join(", ")),
    };
    Problem::file(path, format!("key {key:?} is unknown; {hint}"))
}

/// Values of a key; `None` when the shape is wrong.
fn values_of(setting: &Setting, value: Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Sequence(items) if setting.list => items.iter().map(scalar).collect(),
        Value::Mapping(entries) if setting.key == "gateways" => {
            let mut pairs = Vec::new();
            for (interface, addresses) in entries {
                let interface = scalar(&interface)?;
                for address in addresses_of(&addresses)? {
                    pairs.push(format!("{interface}={address}"));
                }
            }
            Some(pairs)
        }
        value => scalar(&value).map(|text| split(setting, &text)),
    }
}

/// `10.0.0.1`, `[10.0.0.1, "fd00::1"]` or `{ipv4: 10.0.0.1, ipv6: "fd00::1"}`.
fn addresses_of(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Sequence(items) => items.iter().map(scalar).collect(),
        Value::Mapping(entries) => entries
            .iter()
            .map(|(family, address)| match family.as_str() {
                Some("ipv4" | "ipv6") => scalar(address),
                _ => None,
            })
            .collect(),
        value => scalar(value).map(|text| vec![text]),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        _ => None,
    }
}
