//! Why something could not be measured.

use std::io;

use smartnat::lab::LabError;
use thiserror::Error;

/// Why something could not be measured.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    /// The namespaces could not be built or used.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Something of the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What an earlier run wrote is not understood.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Every combination of source address and port was used: none is used twice.
    #[error("all source ports were used; ask for fewer runs or connections")]
    NoSource,
    /// Traffic did not come through.
    #[error("{0}")]
    Traffic(String),
    /// It took longer than allowed.
    #[error("more than {0} s")]
    TooLong(u64),
}

/// Names what was tried.
pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> BenchError {
    move |source| BenchError::System { what, source }
}

/// Names the file.
pub(crate) fn file(path: &std::path::Path) -> impl Fn(io::Error) -> BenchError {
    move |source| BenchError::File { path: path.display().to_string(), source }
}
