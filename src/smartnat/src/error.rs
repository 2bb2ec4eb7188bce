//! How a command ends.

use std::process::ExitCode;

use thiserror::Error;

use crate::settings::Problems;

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Success,
    /// It was done, and the answer is no: a Mapping is rejected, a clean-up left something.
    Rejected,
}

/// Why a command could not do what it was asked.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// Arguments that can't be used, such as a file that does not exist.
    #[error("{0}")]
    Usage(String),
    /// Something went wrong on the way.
    #[error("{0}")]
    Failed(String),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Rejected => Self::from(1),
        }
    }
}

impl CommandError {
    /// 1 for a failure, 2 for wrong usage or configuration.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}
