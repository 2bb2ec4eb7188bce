//! What is wrong with a configuration.

use std::fmt;
use std::path::Path;

use super::layer::Origin;

/// One thing that is wrong: where, which value, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    text: String,
}

impl Problem {
    /// About what was given at `origin`.
    pub fn new(origin: &Origin, text: impl fmt::Display) -> Self {
        Self { text: format!("{origin} {text}") }
    }

    /// A wrong value.
    pub fn value(origin: &Origin, value: &str, text: impl fmt::Display) -> Self {
        Self { text: format!("{origin}: {value:?} is not valid; {text}") }
    }

    /// About a setting that was not given.
    pub fn missing(text: impl fmt::Display) -> Self {
        Self { text: text.to_string() }
    }

    /// About the configuration file.
    pub fn file(path: &Path, text: impl fmt::Display) -> Self {
        Self { text: format!("configuration file {}: {text}", path.display()) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "wrong configuration: {only}"),
            all => {
                write!(f, "wrong configuration, {} problems:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}
