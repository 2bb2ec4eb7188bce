//! All measurements of one run of this program, one after the other: two at a time would disturb
//! each other.

use std::collections::BTreeMap;
use std::time::Duration;

use smartnat::lab::Lab;
use smartnat_core::model::IptablesFlavour;

use crate::error::{BenchError, system};
use crate::network::{self, Sources};
use crate::processors::Processors;
use crate::results::{Control, ControlRun, Settings, Traffic, TrafficRun};
use crate::subjects::{Carrier, SUBJECTS, Subject};
use crate::worker::Order;
use crate::{cluster, connects, control, flat, streams};

/// A network that is ready for traffic.
struct Station {
    lab: Lab,
    sources: Sources,
    /// Whether its gateway knows connections.
    tracks: bool,
}

/// Networks by what carries the traffic, and the number of Mappings where that matters. Of those that
/// could not be made, the reason.
type Stations = BTreeMap<(Carrier, Option<u32>), Result<Station, String>>;

/// Measures and keeps the networks for traffic.
pub(crate) struct Campaign<'a> {
    settings: &'a Settings,
    flavour: IptablesFlavour,
    processors: Processors,
    stations: Stations,
}

fn tell(text: &str) {
    eprintln!("{text}");
}

fn at_size(size: Option<u32>) -> String {
    size.map(|size| format!(", {size} Mappings")).unwrap_or_default()
}

impl<'a> Campaign<'a> {
    /// Measures nothing yet.
    pub(crate) fn new(
        settings: &'a Settings,
        flavour: IptablesFlavour,
    ) -> Result<Self, BenchError> {
        let processors = Processors::choose()?;
        Ok(Self { settings, flavour, processors, stations: Stations::new() })
    }

    /// Changes: every backend at every size, in fresh networks each run. Those of the last run stay.
    pub(crate) fn control(&mut self) -> Result<Vec<Control>, BenchError> {
        let backends = SUBJECTS.iter().filter(|subject| subject.carrier.backend().is_some());
        let cases = self
            .settings
            .sizes
            .iter()
            .flat_map(|size| backends.clone().map(|subject| (subject, *size)));
        let mut found: Vec<(&Subject, Control)> = cases
            .map(|(subject, size)| {
                (subject, Control { subject: subject.key.into(), size, runs: Vec::new() })
            })
            .collect();
        // The smallest size at which the first sync took too long.
        let mut too_long: BTreeMap<&str, u32> = BTreeMap::new();
        for run in 0..self.settings.control_runs {
            for (subject, control) in &mut found {
                if let Some(size) = too_long.get(subject.key).filter(|size| **size <= control.size)
                {
                    if control.runs.is_empty() {
                        let limit = self.settings.limit_seconds;
                        let why =
                            format!("not tried, since {size} Mappings took more than {limit} s");
                        self.give_up(subject.carrier, control.size, &why);
                        let missing = Some(why);
                        control.runs.push(ControlRun { missing, ..ControlRun::default() });
                    }
                    continue;
                }
                let done = self.control_once(subject, control.size, run)?;
                tell(&format!(
                    "control run {}: {}, {} Mappings: {}",
                    run + 1,
                    subject.name,
                    control.size,
                    describe(&done)
                ));
                if done.cold.is_none() {
                    too_long.insert(subject.key, control.size);
                }
                control.runs.push(done);
            }
        }
        Ok(found.into_iter().map(|(_, control)| control).collect())
    }

    fn give_up(&mut self, carrier: Carrier, size: u32, why: &str) {
        self.stations.insert((carrier, Some(size)), Err(why.into()));
    }

    fn control_once(
        &mut self,
        subject: &Subject,
        size: u32,
        run: u32,
    ) -> Result<ControlRun, BenchError> {
        // The record of what was there before is of no use once the namespace is gone.
        let state = tempfile::tempdir().map_err(system("a temporary directory"))?;
        let order = Order {
            backend: subject.carrier.backend().unwrap_or_default(),
            flavour: self.flavour,
            state: state.path().to_owned(),
            size,
            turns: self.settings.turns,
            pods: self.settings.pods,
            limit_seconds: self.settings.limit_seconds,
        };
        let lab = network::build(size, false)?;
        let done = control::run(&lab, &order)?;
        if done.cold.is_none() {
            let why = done.missing.clone().unwrap_or_default();
            self.give_up(subject.carrier, size, &why);
        } else if run + 1 == self.settings.control_runs {
            network::forget_soon(&lab)?;
            let station = Station { lab, sources: Sources::default(), tracks: true };
            self.stations.insert((subject.carrier, Some(size)), Ok(station));
        }
        Ok(done)
    }

    /// Traffic: every subject at every size, in turn, as often as there are runs.
    pub(crate) fn traffic(&mut self) -> Vec<Traffic> {
        let mut cases = self.cases();
        for (subject, traffic) in &mut cases {
            let place = (subject.carrier, traffic.size);
            if !self.stations.contains_key(&place) {
                tell(&format!("preparing {}{}", subject.name, at_size(traffic.size)));
                let station = self.prepare(subject.carrier, traffic.size);
                self.stations.insert(place, station.map_err(|error| error.to_string()));
            }
            if let Some(Err(why)) = self.stations.get(&place) {
                traffic.missing = Some(why.clone());
            }
        }
        for run in 0..self.settings.runs {
            tell(&format!("traffic run {} of {}", run + 1, self.settings.runs));
            // Another first each time, so that nobody always follows the same neighbour's leavings.
            let first = run as usize % cases.len();
            cases.rotate_left(first);
            for (subject, traffic) in cases.iter_mut().filter(|(_, t)| t.missing.is_none()) {
                match self.round(subject, traffic.size, run) {
                    Ok(found) => traffic.runs.push(found),
                    Err(error) => {
                        tell(&format!("{}{}: {error}", subject.name, at_size(traffic.size)));
                        traffic.missing = Some(error.to_string());
                    }
                }
            }
            cases.rotate_right(first);
        }
        cases.into_iter().map(|(_, traffic)| traffic).collect()
    }

    fn cases(&self) -> Vec<(&'static Subject, Traffic)> {
        let sizes = |subject: &Subject| match subject.carrier {
            Carrier::Forwarding => vec![None],
            Carrier::Nftables | Carrier::Iptables | Carrier::Flat => {
                self.settings.sizes.iter().copied().map(Some).collect()
            }
        };
        let case = |subject: &'static Subject, size| {
            let (subject_key, runs) = (subject.key.to_owned(), Vec::new());
            (subject, Traffic { subject: subject_key, size, runs, missing: None })
        };
        SUBJECTS
            .iter()
            .flat_map(|subject| sizes(subject).into_iter().map(move |size| case(subject, size)))
            .collect()
    }

    fn prepare(&self, carrier: Carrier, size: Option<u32>) -> Result<Station, BenchError> {
        let mappings = size.unwrap_or(1);
        let lab = network::build(mappings, true)?;
        let tracks = carrier != Carrier::Forwarding;
        if tracks {
            flat::program(&lab, self.flavour, mappings, self.settings.limit_seconds)?;
            network::forget_soon(&lab)?;
        }
        Ok(Station { lab, sources: Sources::default(), tracks })
    }

    fn round(
        &mut self,
        subject: &Subject,
        size: Option<u32>,
        run: u32,
    ) -> Result<TrafficRun, BenchError> {
        let missing = || BenchError::Traffic("its network is missing".into());
        let station = self.stations.get_mut(&(subject.carrier, size));
        let Station { lab, sources, tracks } =
            station.and_then(|station| station.as_mut().ok()).ok_or_else(missing)?;
        let mappings = size.unwrap_or(1);
        let target = subject.target(mappings);
        // It alone has a UDP port.
        let last = mappings - 1;
        let both = (subject.carrier.target(last), cluster::endpoints(last));
        let length = Duration::from_secs_f64(self.settings.stream_seconds);
        if *tracks {
            network::forget_connections(lab)?;
        }
        let count = self.settings.connections;
        Ok(TrafficRun {
            run,
            connects: connects::measure(lab, sources, target, count, self.processors)?,
            stream_gbits: streams::stream(lab, sources, target, length, self.processors)?,
            datagrams: streams::datagrams(lab, sources, both, length, self.processors)?,
        })
    }
}

fn describe(run: &ControlRun) -> String {
    let cold = run.cold.as_ref().map(|cold| format!("first sync {:.0} ms", cold.total_us() / 1e3));
    let parts = cold.into_iter().chain(run.missing.clone());
    parts.collect::<Vec<_>>().join(", ")
}
