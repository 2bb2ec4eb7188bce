//! The program `smartnat`: configuration, command line and the loop that drives
//! the core. A library beside the binary so that tests can use its parts.

pub mod backend;
pub mod cli;
pub mod commands;
pub mod demo;
pub mod driver;
pub mod error;
pub mod host_file;
pub mod lab;
pub mod logging;
pub mod membership;
pub mod monitor;
pub mod output;
pub mod panic_report;
pub mod planning;
pub mod render;
pub mod settings;
pub mod simulated;
pub mod state_files;
