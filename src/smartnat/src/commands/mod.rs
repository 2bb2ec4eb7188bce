//! The commands, one a module.

mod cleanup;
mod explain;
mod handover;
mod host;
mod plan;
mod run;
mod status;
mod validate;

use clap::CommandFactory;
use smartnat_cluster::manifests::ManifestStore;
use smartnat_core::model::{Backend, ClusterState};

use crate::cli::{Cli, Command, OutputFormat};
use crate::demo::{self, DemoError, DemoOptions, WhySimulated};
use crate::error::{CommandError, Outcome};
use crate::settings::Settings;
use crate::{backend, logging, output};

/// Does what the command line asks for.
pub fn execute(
    cli: &Cli,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Outcome, CommandError> {
    let format = cli.common.output;
    match &cli.command {
        Command::Completions { shell } => return completions(*shell),
        Command::Crd => return crd(format),
        _ => {}
    }
    let settings = cli.settings(variables)?;
    logging::start(&settings);
    match &cli.command {
        Command::Run(args) => run::run(&settings, args),
        Command::Validate(args) => validate::validate(&settings, args, format),
        Command::Plan(args) => plan::plan(&settings, args, format),
        Command::Explain(args) => explain::explain(&settings, args, format),
        Command::Status => status::status(&settings, format),
        Command::Cleanup(args) => cleanup::cleanup(&settings, args, format),
        Command::Host => host::host(format),
        Command::Demo(_) => demo(&settings, format),
        Command::Completions { .. } | Command::Crd => Ok(Outcome::Success),
    }
}

fn demo(settings: &Settings, format: OutputFormat) -> Result<Outcome, CommandError> {
    let failed = |error: DemoError| CommandError::Failed(error.to_string());
    let options = DemoOptions::new(format == OutputFormat::Json).map_err(failed)?;
    let simulated = match (settings.gateway.backend, settings.origin("backend")) {
        (Backend::Simulated, _) => Some(WhySimulated::Asked),
        (_, Some(_)) => None,
        (_, None) => demo::why_not_real(),
    };
    let backend = match simulated {
        Some(_) => options.backend,
        None => backend::chosen(settings).gateway.backend,
    };
    let options = DemoOptions { backend, flavour: settings.flavour, simulated, ..options };
    let passed = demo::run(&options).map_err(failed)?;
    Ok(if passed { Outcome::Success } else { Outcome::Rejected })
}

fn completions(shell: clap_complete::Shell) -> Result<Outcome, CommandError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "smartnat", &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(Outcome::Success)
}

fn crd(format: OutputFormat) -> Result<Outcome, CommandError> {
    match format {
        OutputFormat::Json => output::print_json(&smartnat_cluster::api::crd())?,
        OutputFormat::Text => {
            let text = smartnat_cluster::api::crd_yaml()
                .map_err(|error| CommandError::Failed(format!("the definition: {error}")))?;
            output::print(&text)?;
        }
    }
    Ok(Outcome::Success)
}

/// The cluster in the directory of manifests; what is wrong in it goes to the log.
fn cluster_of_manifests(settings: &Settings) -> Result<ClusterState, CommandError> {
    let manifests = settings.require_manifests()?;
    let (store, reload) = ManifestStore::load(manifests).map_err(|error| {
        CommandError::Usage(format!("{error}; name a directory with --manifests DIR"))
    })?;
    for problem in &reload.problems {
        tracing::warn!("{problem}");
    }
    Ok(store.cluster_state())
}
