//! The demo: the real controller in a throw-away network, with real traffic, told step by step.

mod host_state;
mod interrupt;
mod manifests;
mod report;
mod stage;
mod story;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use smartnat_core::model::IptablesFlavour;
use thiserror::Error;

use crate::lab::{self, LabError};
use report::{Report, StepReport};
use stage::Stage;

/// Programs without which the controller cannot work, and the package of each.
const PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("iptables-restore", "iptables"), ("ipset", "ipset")];

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The program to show.
    pub program: PathBuf,
    /// Which iptables it uses.
    pub flavour: IptablesFlavour,
    /// The result as one JSON document, instead of progress in words.
    pub json: bool,
}

impl DemoOptions {
    /// The running program itself.
    pub fn new(json: bool) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(|e| DemoError::Io("own path".into(), e))?;
        Ok(Self { program, flavour: IptablesFlavour::Auto, json })
    }
}

/// Why the demo could not go on.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Not root.
    #[error(
        "the demo needs root, since it makes network namespaces: try it with sudo. \
         It touches nothing outside of them."
    )]
    Unprivileged,
    /// A program is not there.
    #[error("the program {program} is not there: install the package {package} (or: make deps)")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// Where Debian has it.
        package: &'static str,
    },
    /// The network.
    #[error("the network of the demo: {0}")]
    Lab(#[from] LabError),
    /// A file.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// A manifest that does not look as it should.
    #[error("manifest {0}: {1}")]
    Manifest(&'static str, String),
    /// The controller did not do what it was started for.
    #[error("{what}; its last words:\n{log}")]
    Controller {
        /// What it did not do.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// Traffic that a step needs did not come about.
    #[error("{0}")]
    Unserved(String),
    /// The result cannot be written.
    #[error("the result can't be written: {0}")]
    Output(String),
}

/// Runs the demo; whether everything was as it should be.
pub fn run(options: &DemoOptions) -> Result<bool, DemoError> {
    check_host()?;
    let begin = Instant::now();
    let teller = Teller { json: options.json };
    teller.introduce();
    let mut stage = Stage::set_up(options)?;
    let mut report = Report::default();
    teller.step(&mut report, built(&stage, begin.elapsed()));
    for step in story::STEPS {
        let step_begin = Instant::now();
        match (step.play)(&mut stage) {
            Ok(finding) => {
                teller.step(&mut report, StepReport::of(step.title, finding, step_begin.elapsed()));
            }
            Err(error) => {
                let told = StepReport::failed(step.title, &error, step_begin.elapsed());
                teller.step(&mut report, told);
                if step.essential {
                    break;
                }
            }
        }
    }
    let log = stage.log_tail();
    teller.step(&mut report, strike(stage));
    report.finish(begin.elapsed());
    teller.conclude(&report, &log)?;
    Ok(report.passed)
}

fn check_host() -> Result<(), DemoError> {
    match lab::check_privileges() {
        Err(LabError::Unprivileged) => return Err(DemoError::Unprivileged),
        Err(LabError::NoIproute2) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|d| d.join(name).is_file());
    match PROGRAMS.into_iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => Err(DemoError::MissingProgram { program, package }),
        None => Ok(()),
    }
}

fn built(stage: &Stage, took: Duration) -> StepReport {
    let hosts = stage.lab().topology().hosts.len();
    let measured = format!("{hosts} hosts, each a network namespace of its own");
    StepReport::of("a network to try it in", story::Finding::passed(measured), took)
}

/// The end: the network goes, and nothing may be left of it.
fn strike(stage: Stage) -> StepReport {
    let begin = Instant::now();
    let mut places = stage.lab().namespace_paths();
    places.push(stage.directory().to_owned());
    drop(stage);
    let mut finding = story::Finding::passed("no namespace, no process, no file".into());
    for place in places {
        finding.require(!place.exists(), || format!("{} is left", place.display()));
    }
    StepReport::of("nothing left behind", finding, begin.elapsed())
}

/// Who tells the story: in words while it happens, or as a document at its end.
struct Teller {
    json: bool,
}

impl Teller {
    fn introduce(&self) {
        if !self.json {
            say(report::INTRODUCTION);
        }
    }

    fn step(&self, report: &mut Report, step: StepReport) {
        if !self.json {
            say(&step.to_string());
        }
        report.add(step);
    }

    fn conclude(&self, report: &Report, log: &str) -> Result<(), DemoError> {
        if self.json {
            let text = serde_json::to_string_pretty(report)
                .map_err(|e| DemoError::Output(e.to_string()))?;
            say(&(text + "\n"));
        } else {
            say(&report.to_string());
        }
        if !report.passed && !log.is_empty() {
            eprintln!("The last lines of the controller's log:\n{log}");
        }
        Ok(())
    }
}

/// A reader that went away ends no demo: the clean-up must still happen.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
