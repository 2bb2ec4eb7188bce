//! The program `smartnat`: configuration, command line and the loop that drives
//! the core. A library beside the binary so that tests can use its parts.

pub mod cli;
pub mod error;
pub mod logging;
pub mod output;
pub mod settings;
pub mod lab;
