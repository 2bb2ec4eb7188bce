//! Why a Mapping is rejected, in sentences that name the field, the value and the mend.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{ObjectKey, PortRange, Protocol};

/// How many sentences a rejection prints: a condition's message is limited to 32 KiB.
pub(super) const MAX_SENTENCES: usize = 32;

/// How many characters of a value are kept: enough to recognise it.
const MAX_VALUE: usize = 80;

/// Why a Mapping was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rejection {
    /// It is wrong in itself; all its problems, in the order of the specification.
    Invalid(Vec<Problem>),
    /// Older Mappings own external endpoints of it (T19); the first few of them.
    Conflict(Vec<ConflictProblem>),
}

/// One thing that is wrong with a Mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// The field, for example `spec.ports[2].endPort`.
    pub field: String,
    /// Its value, shortened if very long; absent where the field is missing.
    pub value: Option<String>,
    /// What is wrong with it and how to mend it, continuing "`field`: `value` …".
    pub message: String,
}

/// An external endpoint that another Mapping owns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConflictProblem {
    /// The external address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports that both want.
    pub ports: PortRange,
    /// The Mapping that owns them.
    pub winner: ObjectKey,
}

impl Problem {
    /// A problem with what `field` holds.
    pub(super) fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        let mut value = value.to_string();
        if let Some((end, _)) = value.char_indices().nth(MAX_VALUE) {
            value.truncate(end);
            value.push('…');
        }
        Self { field: field.into(), value: Some(value), message: message.into() }
    }

    /// A problem with `field` not being there.
    pub(super) fn missing(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), value: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value:?} {}.", self.field, self.message),
            None => write!(f, "{}: {}.", self.field, self.message),
        }
    }
}

impl ConflictProblem {
    /// The contested endpoint, for example `203.0.113.10 tcp/8080`.
    pub fn endpoint(&self) -> String {
        format!("{} {}/{}", self.address, self.protocol, self.ports)
    }
}

impl fmt::Display for ConflictProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is owned by Mapping {}, which comes first by age; choose another port or address, \
             or delete one of the two.",
            self.endpoint(),
            self.winner
        )
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => sentences(f, problems),
            Self::Conflict(problems) => sentences(f, problems),
        }
    }
}

/// The first sentences, separated by a space, and whether there are more.
fn sentences(f: &mut fmt::Formatter<'_>, problems: &[impl fmt::Display]) -> fmt::Result {
    for (i, problem) in problems.iter().take(MAX_SENTENCES).enumerate() {
        let separator = if i == 0 { "" } else { " " };
        write!(f, "{separator}{problem}")?;
    }
    if problems.len() > MAX_SENTENCES { f.write_str(" There are more.") } else { Ok(()) }
}
