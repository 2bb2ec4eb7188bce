//! A Kubernetes controller that turns a Linux machine into a layer-4 gateway.

use std::process::ExitCode;

use clap::Parser;
use smartnat::cli::{Cli, Command};
use smartnat::commands::execute;
use smartnat::panic_report;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The demo unwinds, since it removes its namespaces then.
    if matches!(cli.command, Command::Run(_)) {
        panic_report::install();
    }
    // A variable that is no text can't be one that we understand.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match execute(&cli, variables) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("smartnat: {error}");
            error.exit_code()
        }
    }
}
