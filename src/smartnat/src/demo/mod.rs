//! The demo: the real controller in a throw-away network, with real traffic, told step by step.

mod host_state;
mod interrupt;
mod manifests;
mod report;
mod stage;
mod story;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use smartnat_core::model::{Backend, IptablesFlavour};
use thiserror::Error;

use crate::lab::{self, LabError};
use report::{Kernel, Report, StepReport};
use stage::{LinuxStage, SimulatedStage, Stage};

/// Programs without which the controller cannot work, and the package of each.
const PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("iptables-restore", "iptables"), ("ipset", "ipset")];

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The program to show.
    pub program: PathBuf,
    /// What carries its dataplane on real packets.
    pub backend: Backend,
    /// Which iptables it uses.
    pub flavour: IptablesFlavour,
    /// On the simulated kernel, for this reason; otherwise on real packets.
    pub simulated: Option<WhySimulated>,
    /// The result as one JSON document, instead of progress in words.
    pub json: bool,
}

impl DemoOptions {
    /// The running program itself.
    pub fn new(json: bool) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(|e| DemoError::Io("own path".into(), e))?;
        Ok(Self {
            program,
            backend: Backend::Iptables,
            flavour: IptablesFlavour::Auto,
            simulated: None,
            json,
        })
    }
}

/// Why the demo could not go on.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Not root.
    #[error(
        "the demo on real packets needs root, since it makes network namespaces: try it with sudo \
         (it touches nothing outside of them), or --backend simulated"
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
    /// The simulated network met what it does not understand.
    #[error("the simulated network: {0}")]
    Refused(smartnat_sim::walk::Refusal),
    /// The simulated network cannot be built.
    #[error("the simulated network: {0}")]
    Simulation(String),
    /// The result cannot be written.
    #[error("the result can't be written: {0}")]
    Output(String),
}

/// Why the demo runs on the simulated kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhySimulated {
    /// It was asked for.
    Asked,
    /// Network namespaces need root.
    NotRoot,
    /// A program is not there.
    MissingProgram {
        /// The program.
        program: &'static str,
        /// Where Debian has it.
        package: &'static str,
    },
}

impl fmt::Display for WhySimulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("it was asked for (--backend simulated)"),
            Self::NotRoot => f.write_str("this is not root, and network namespaces need root"),
            Self::MissingProgram { program, package } => {
                write!(f, "the program {program} is not there (package {package}, or: make deps)")
            }
        }
    }
}

/// Why real packets are not possible here, if they are not.
pub fn why_not_real() -> Option<WhySimulated> {
    match check_host() {
        Err(DemoError::Unprivileged) => Some(WhySimulated::NotRoot),
        Err(DemoError::MissingProgram { program, package }) => {
            Some(WhySimulated::MissingProgram { program, package })
        }
        // What else is wrong is told by the attempt.
        Err(_) | Ok(()) => None,
    }
}

/// Runs the demo; whether everything was as it should be.
pub fn run(options: &DemoOptions) -> Result<bool, DemoError> {
    let teller = Teller { json: options.json };
    if let Some(why) = options.simulated {
        teller.introduce_simulation(why);
        let mut report = Report { kernel: Kernel::Simulated, ..Report::default() };
        report.why_simulated = Some(why.to_string());
        return tell(&teller, report, || SimulatedStage::set_up(options.flavour));
    }
    check_host()?;
    teller.introduce();
    tell(&teller, Report::default(), || LinuxStage::set_up(options))
}

fn tell<S: Stage>(
    teller: &Teller,
    mut report: Report,
    set_up: impl FnOnce() -> Result<S, DemoError>,
) -> Result<bool, DemoError> {
    let log = play(teller, &mut report, set_up)?;
    teller.conclude(&report, &log)?;
    Ok(report.passed)
}

/// Plays the story from set-up to strike; the end of the controller's log.
fn play<S: Stage>(
    teller: &Teller,
    report: &mut Report,
    set_up: impl FnOnce() -> Result<S, DemoError>,
) -> Result<String, DemoError> {
    let begin = Instant::now();
    let since = |begin: Instant| S::KERNEL.real_time(begin.elapsed());
    let mut stage = set_up()?;
    let built = story::Finding::passed(stage.description());
    teller.step(report, StepReport::of("a network to try it in", built, since(begin)));
    for step in story::steps::<S>() {
        let step_begin = Instant::now();
        match (step.play)(&mut stage) {
            Ok(finding) => {
                teller.step(report, StepReport::of(step.title, finding, since(step_begin)));
            }
            Err(error) => {
                teller.step(report, StepReport::failed(step.title, &error, since(step_begin)));
                // A step that broke off may have left traffic behind.
                stage.stop_streams();
                if step.essential {
                    break;
                }
            }
        }
    }
    let log = stage.log_tail();
    let strike_begin = Instant::now();
    let struck = stage.strike();
    teller.step(report, StepReport::of("nothing left behind", struck, since(strike_begin)));
    report.finish(begin.elapsed());
    Ok(log)
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

/// Who tells the story: in words while it happens, or as a document at its end.
struct Teller {
    json: bool,
}

impl Teller {
    fn introduce(&self) {
        if !self.json {
            say(report::REAL_PACKETS);
            say(report::NETWORK);
        }
    }

    fn introduce_simulation(&self, why: WhySimulated) {
        if !self.json {
            say(&format!(
                "SmartNat demo ON THE SIMULATED KERNEL: the real controller on the manifests of \
                 deploy/samples,\nbut no real packets, since {why}.\n\
                 To see it on real packets: sudo smartnat demo\n"
            ));
            say(report::NETWORK);
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
