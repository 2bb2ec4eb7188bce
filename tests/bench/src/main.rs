//! Measures `SmartNat` on real packets in throw-away network namespaces, beside plain forwarding and
//! what one would write by hand, and writes a report with plots.

mod campaign;
mod cluster;
mod connects;
mod control;
mod criterion;
mod error;
mod flat;
mod machine;
mod measured;
mod network;
mod options;
mod pair;
mod processors;
mod report;
mod results;
mod stats;
mod streams;
mod subjects;
mod svg;
mod usage;
mod worker;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use campaign::Campaign;
use error::{BenchError, file, system};
use options::{Command, Measure, Options};
use results::Results;

/// Name of the file with everything that was measured.
const RESULTS: &str = "results.json";

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.command {
        Some(Command::Worker { order }) => work(&order),
        None => measure(&options.measure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smartnat-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(order: &str) -> Result<(), BenchError> {
    let order = serde_json::from_str(order)
        .map_err(|source| BenchError::Content { path: "the order".into(), source })?;
    worker::work(&order, &mut std::io::stdout().lock())
}

fn measure(measure: &Measure) -> Result<(), BenchError> {
    let results = match &measure.from {
        Some(path) => read(path)?,
        None => measured(measure)?,
    };
    let Some(out) = &measure.out else {
        println!("{}", report::markdown(&results));
        return Ok(());
    };
    write(&results, out)
}

fn measured(measure: &Measure) -> Result<Results, BenchError> {
    let settings = measure.settings();
    let machine = machine::describe()?;
    let core = measure.criterion.as_deref().map(criterion::read).transpose()?.unwrap_or_default();
    let mut campaign = Campaign::new(&settings, measure.flavour)?;
    let control = campaign.control()?;
    let traffic = campaign.traffic();
    drop(campaign);
    Ok(Results { machine, settings, traffic, control, core })
}

fn read(path: &Path) -> Result<Results, BenchError> {
    let text = fs::read_to_string(path).map_err(file(path))?;
    serde_json::from_str(&text)
        .map_err(|source| BenchError::Content { path: path.display().to_string(), source })
}

fn write(results: &Results, out: &Path) -> Result<(), BenchError> {
    fs::create_dir_all(out).map_err(file(out))?;
    let put = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text).map_err(file(&path))
    };
    let text = serde_json::to_string_pretty(results).map_err(|e| system("results")(e.into()))?;
    put(RESULTS, &(text + "\n"))?;
    put("README.md", &report::markdown(results))?;
    for (name, picture) in report::plots(results) {
        put(name, &picture)?;
    }
    println!("{}", out.join("README.md").display());
    Ok(())
}
