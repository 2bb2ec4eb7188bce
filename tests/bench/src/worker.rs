//! The gateway that is measured, in a process of its own: what memory and processor time it needs
//! is then its alone. It writes a line for each part that is done, so that what a time limit cuts
//! off does not take the rest with it.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use smartnat_core::gateway::{Gateway, Input};
use smartnat_core::model::{Backend, ClusterObject, IptablesFlavour};
use smartnat_linux::{LinuxKernel, LinuxOptions, StateDir};

use crate::cluster;
use crate::error::{BenchError, system};
use crate::measured::{Measured, Spent, drive};
use crate::network;
use crate::stats::{median, percentile};
use crate::usage::{Memory, Processor};

/// What the process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What it programs.
    pub backend: Backend,
    /// Which iptables programs.
    pub flavour: IptablesFlavour,
    /// Where what was there before is kept; whoever gives the order removes it.
    pub state: PathBuf,
    /// Mappings.
    pub size: u32,
    /// Changes of each kind.
    pub turns: u32,
    /// Pods of the Service that is replaced pod by pod.
    pub pods: u32,
    /// Seconds after which no further change of a kind is begun.
    pub limit_seconds: u64,
}

/// One line of what it writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// All Mappings were programmed.
    Cold(Cold),
    /// Changes of one kind were made.
    Changes(Kind, Changes),
    /// Everything was done.
    Done,
    /// It could not go on.
    Failed(String),
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One of two endpoints is replaced.
    Endpoint,
    /// A Mapping comes with its Service.
    Added,
    /// That Mapping goes.
    Deleted,
    /// One pod of many of a Service is replaced, one after the other.
    Rolling,
}

/// What the first sync took. Times in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cold {
    /// Decisions.
    pub core_us: f64,
    /// Changing the kernel.
    pub apply_us: f64,
    /// Reading the kernel and its connections.
    pub read_us: f64,
    /// Operations.
    pub operations: u64,
    /// Child processes.
    pub processes: u64,
    /// Bytes sent to nftables, where that carries the dataplane.
    pub bytes: Option<u64>,
    /// Processor time.
    pub processor: Processor,
    /// Memory of the process after it handed back what is free, as the program does.
    pub memory: Memory,
}

impl Cold {
    /// The time of it, in microseconds.
    pub(crate) fn total_us(&self) -> f64 {
        self.core_us + self.apply_us + self.read_us
    }
}

/// What changes of one kind took each. Times in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// So many were asked for.
    pub asked: u32,
    /// So many were made within the time limit.
    pub made: u32,
    /// From the changed object to the last change of the kernel, median.
    pub applied_us: f64,
    /// From the changed object to rest, median.
    pub median_us: f64,
    /// The same, 99th percentile.
    pub p99_us: f64,
    /// All together.
    pub all_us: f64,
    /// Decisions, median.
    pub core_us: f64,
    /// Changing the kernel, median.
    pub apply_us: f64,
    /// Reading the kernel, median.
    pub read_us: f64,
    /// Listing connections, median.
    pub list_us: f64,
    /// Operations, median.
    pub operations: f64,
    /// Child processes, mean.
    pub processes: f64,
    /// Bytes sent to nftables, mean, where that carries the dataplane.
    pub bytes: Option<f64>,
    /// Processor time of the process, mean.
    pub own_us: f64,
    /// Processor time of its children, mean.
    pub children_us: f64,
    /// Memory of the process here.
    pub memory: Memory,
}

/// Runs in the gateway's namespace and writes what it finds, a line a part.
pub(crate) fn work(order: &Order, out: &mut impl Write) -> Result<(), BenchError> {
    let mut tell = |part: &Part| {
        let line = serde_json::to_string(part).map_err(|e| system("report")(e.into()))?;
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(system("report"))
    };
    match Station::open(order).and_then(|station| station.measure(&mut tell)) {
        Ok(()) => tell(&Part::Done),
        Err(BenchError::Traffic(text)) => tell(&Part::Failed(text)),
        Err(error) => tell(&Part::Failed(error.to_string())),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn refused(error: impl ToString) -> BenchError {
    BenchError::Traffic(error.to_string())
}

/// What was used so far, or by something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    processor: Processor,
    processes: u64,
    bytes: Option<u64>,
}

impl Used {
    fn since(self, before: Self) -> Self {
        Self {
            processor: self.processor.since(before.processor),
            processes: self.processes - before.processes,
            bytes: self.bytes.zip(before.bytes).map(|(now, before)| now - before),
        }
    }

    fn and(self, more: Self) -> Self {
        let processor = Processor {
            own_us: self.processor.own_us + more.processor.own_us,
            children_us: self.processor.children_us + more.processor.children_us,
        };
        let bytes = more.bytes.map(|bytes| self.bytes.unwrap_or_default() + bytes);
        Self { processor, processes: self.processes + more.processes, bytes }
    }
}

struct Station<'a> {
    order: &'a Order,
    gateway: Gateway,
    kernel: Measured<LinuxKernel>,
}

impl<'a> Station<'a> {
    fn open(order: &'a Order) -> Result<Self, BenchError> {
        let options = LinuxOptions {
            backend: order.backend,
            flavour: order.flavour,
            state_dir: StateDir::new(&order.state),
            ..LinuxOptions::default()
        };
        let kernel = Measured::new(LinuxKernel::open(options).map_err(refused)?);
        let gateway = Gateway::new(network::config(order.backend));
        Ok(Self { order, gateway, kernel })
    }

    fn measure(
        mut self,
        tell: &mut impl FnMut(&Part) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let (size, turns, pods) = (self.order.size, self.order.turns, self.order.pods);
        tell(&Part::Cold(self.cold()?))?;

        let one = self.changes(turns, |turn| (cluster::one_endpoint(size, turn), None))?;
        tell(&Part::Changes(Kind::Endpoint, one))?;
        // However many turns there were, traffic finds the endpoints where its server has them.
        self.feed(cluster::one_endpoint(size, 1))?;
        // Each turn leaves things as they were, by a change that is not counted.
        let added =
            self.changes(turns, |_| (cluster::one_more(size), Some(cluster::one_less(size))))?;
        tell(&Part::Changes(Kind::Added, added))?;
        self.feed(cluster::one_more(size))?;
        let deleted =
            self.changes(turns, |_| (cluster::one_less(size), Some(cluster::one_more(size))))?;
        tell(&Part::Changes(Kind::Deleted, deleted))?;
        self.feed(cluster::one_less(size))?;

        self.feed(cluster::fleet(pods))?;
        let rolling = self.changes(pods, |turn| (cluster::replace(turn, pods), None))?;
        tell(&Part::Changes(Kind::Rolling, rolling))?;
        self.feed(cluster::without_fleet(pods))?;
        Ok(())
    }

    fn drive(&mut self, inputs: Vec<Input>) -> Result<Spent, BenchError> {
        let now = smartnat::driver::now();
        drive(&mut self.gateway, &mut self.kernel, now, inputs).map_err(BenchError::Traffic)
    }

    fn feed(&mut self, objects: Vec<ClusterObject>) -> Result<Spent, BenchError> {
        self.drive(vec![Input::Cluster(objects)])
    }

    fn cold(&mut self) -> Result<Cold, BenchError> {
        let host = self.kernel.inner().observe_host().map_err(refused)?;
        let inputs = vec![Input::Host(host), Input::Cluster(cluster::many(self.order.size))];
        let before = self.used()?;
        let spent = self.drive(inputs)?;
        let used = self.used()?.since(before);
        smartnat_heap::release();
        Ok(Cold {
            core_us: micros(spent.core),
            apply_us: micros(spent.apply),
            read_us: micros(spent.observe + spent.flows),
            operations: spent.operations,
            processes: used.processes,
            bytes: used.bytes,
            processor: used.processor,
            memory: Memory::now()?,
        })
    }

    /// Makes changes until there are enough or time is up. After each comes another that leads back
    /// and is not counted, where one is given.
    fn changes(
        &mut self,
        asked: u32,
        change: impl Fn(u32) -> (Vec<ClusterObject>, Option<Vec<ClusterObject>>),
    ) -> Result<Changes, BenchError> {
        let end = Instant::now() + Duration::from_secs(self.order.limit_seconds);
        let mut all = Vec::new();
        let mut used = Used::default();
        for turn in 0..asked {
            if turn > 0 && Instant::now() > end {
                break;
            }
            let (there, back) = change(turn);
            let before = self.used()?;
            all.push(self.feed(there)?);
            used = used.and(self.used()?.since(before));
            if let Some(back) = back {
                self.feed(back)?;
            }
        }
        summary(asked, &all, used)
    }

    fn used(&mut self) -> Result<Used, BenchError> {
        let kernel = self.kernel.inner();
        let (processes, bytes) = (kernel.processes_started(), kernel.nftables_bytes());
        Ok(Used { processor: Processor::now()?, processes, bytes })
    }
}

fn summary(asked: u32, all: &[Spent], used: Used) -> Result<Changes, BenchError> {
    let made = u32::try_from(all.len()).map_err(refused)?;
    let of = |part: fn(&Spent) -> Duration| all.iter().map(move |spent| micros(part(spent)));
    let median_of = |part| median(of(part)).ok_or_else(|| refused("no change was asked for"));
    Ok(Changes {
        asked,
        made,
        applied_us: median_of(|spent| spent.until_applied)?,
        median_us: median_of(Spent::total)?,
        p99_us: percentile(of(Spent::total), 99).unwrap_or_default(),
        all_us: of(Spent::total).sum(),
        core_us: median_of(|spent| spent.core)?,
        apply_us: median_of(|spent| spent.apply)?,
        read_us: median_of(|spent| spent.observe)?,
        list_us: median_of(|spent| spent.flows)?,
        operations: median(all.iter().map(|s| count(s.operations))).unwrap_or_default(),
        processes: count(used.processes) / f64::from(made),
        bytes: used.bytes.map(|bytes| count(bytes) / f64::from(made)),
        own_us: micros_of(used.processor.own_us) / f64::from(made),
        children_us: micros_of(used.processor.children_us) / f64::from(made),
        memory: Memory::now()?,
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "a run of 2^52 µs would take a century")]
fn micros_of(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(core: u64, apply: u64, observe: u64) -> Spent {
        let micros = Duration::from_micros;
        let (core, apply, observe) = (micros(core), micros(apply), micros(observe));
        let until_applied = core + apply;
        Spent { core, apply, observe, flows: micros(1), until_applied, operations: 4 }
    }

    #[test]
    fn a_summary_tells_the_middle_the_worst_and_the_share_of_each_part() {
        let all = [spent(10, 100, 1), spent(20, 200, 1), spent(30, 900, 1)];
        let one = |bytes| Used {
            processor: Processor { own_us: 100, children_us: 200 },
            processes: 2,
            bytes,
        };
        let used = Used::default().and(one(Some(10))).and(one(Some(20))).and(one(Some(60)));
        let found = summary(5, &all, used).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        assert_eq!((found.asked, found.made), (5, 3));
        near(found.applied_us, 220.0);
        near(found.median_us, 222.0);
        near(found.p99_us, 932.0);
        near(found.all_us, 112.0 + 222.0 + 932.0);
        near(found.core_us, 20.0);
        near(found.apply_us, 200.0);
        near(found.read_us, 1.0);
        near(found.list_us, 1.0);
        near(found.operations, 4.0);
        near(found.processes, 2.0);
        near(found.bytes.unwrap(), 30.0);
        assert_eq!(Used::default().and(one(None)).bytes, None, "what is not counted is not told");
        near(found.own_us, 100.0);
        near(found.children_us, 200.0);
        assert!(summary(5, &[], used).is_err());
    }
}
