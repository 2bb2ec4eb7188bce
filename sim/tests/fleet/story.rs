//! Histories of a fleet that can be read.

use std::fmt;
use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::select;
use smartnat_core::ops::OpErrorClass;
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::WriteFault;

use crate::setup::{A, B, C, HOSTS};

/// External addresses; the last is nobody's at first.
pub(crate) const ADDRESSES: [&str; 4] = [A, B, C, "203.0.113.99"];
/// Mappings, in two namespaces. The earlier in the list, the older.
pub(crate) const MAPPINGS: [(&str, &str); 4] =
    [("default", "m0"), ("team", "m1"), ("default", "m2"), ("team", "m3")];

/// A specification: which addresses, which port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// Bits by place in [`ADDRESSES`].
    pub(crate) addresses: u8,
    pub(crate) port: u16,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A Mapping is created or changed.
    Claim(usize, Claim),
    Delete(usize),
    /// Its finalizer is taken away by force.
    Strip(usize),
    /// The Service of a namespace has so many endpoints; none: there is no Service.
    Endpoints(&'static str, Option<usize>),
    /// With so many operations of the last transaction done.
    Kill(usize, u64),
    Start(usize, usize),
    Stop(usize),
    PowerOff(usize),
    PowerOn(usize),
    /// An address comes to a host, or goes if it was there.
    Address(usize, usize),
    /// A host cannot reach the API server, or can again.
    CutOff(usize, bool),
    /// Nobody can, or everybody can again.
    Outage(bool),
    Lag(usize, Kind, u64),
    SlowWrites(usize, u64, u64),
    SlowKernel(usize, u64),
    CutWatch(usize, Kind, usize),
    FailWrites(usize, WriteFault, usize),
    FailOperation(usize, u64, OpErrorClass),
    DeleteLease(usize),
    Wait(u64),
}

/// A fleet and what happens to it. Prints as numbered sentences.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) hosts: usize,
    pub(crate) steps: Vec<Step>,
    /// Programs that do not run in the end are started, or their hosts stay dead.
    pub(crate) all_return: bool,
}

pub(crate) fn stories(number: Range<usize>) -> impl Strategy<Value = Story> {
    (1..=HOSTS.len(), prop::collection::vec((step(), waits()), number), any::<bool>()).prop_map(
        |(hosts, steps, all_return)| {
            let steps = steps.into_iter().flat_map(|(step, wait)| [step, Step::Wait(wait)]);
            let exists = |step: &Step| step.host().is_none_or(|host| host < hosts);
            Story { hosts, steps: steps.filter(exists).collect(), all_return }
        },
    )
}

/// From amidst a burst to beyond a handover, a Lease and a patience.
fn waits() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..30_u64, 3 => 30..1_500_u64, 2 => 1_500..9_000_u64, 1 => 9_000..30_000_u64]
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 0..HOSTS.len();
    let mapping = || 0..MAPPINGS.len();
    let kind = || select(Kind::ALL.to_vec());
    let claim = (1..16_u8, 80..83_u16).prop_map(|(addresses, port)| Claim { addresses, port });
    let fault = select(vec![
        WriteFault::Lost,
        WriteFault::AnswerLost,
        WriteFault::Refused,
        WriteFault::Overtaken,
    ]);
    let class = select(vec![OpErrorClass::Busy, OpErrorClass::Transient, OpErrorClass::Exists]);
    let back = || prop_oneof![2 => Just(0_usize), 1 => 1..6_usize];
    prop_oneof![
        10 => (mapping(), claim).prop_map(|(m, claim)| Step::Claim(m, claim)),
        6 => mapping().prop_map(Step::Delete),
        1 => mapping().prop_map(Step::Strip),
        2 => (select(vec!["default", "team"]), prop::option::weighted(0.8, 0..3_usize))
            .prop_map(|(namespace, count)| Step::Endpoints(namespace, count)),
        3 => (host(), 0..6_u64).prop_map(|(h, n)| Step::Kill(h, n)),
        4 => (host(), back()).prop_map(|(h, back)| Step::Start(h, back)),
        1 => host().prop_map(Step::Stop),
        1 => host().prop_map(Step::PowerOff),
        2 => host().prop_map(Step::PowerOn),
        5 => (host(), 0..ADDRESSES.len()).prop_map(|(h, a)| Step::Address(h, a)),
        3 => (host(), any::<bool>()).prop_map(|(h, off)| Step::CutOff(h, off)),
        1 => any::<bool>().prop_map(Step::Outage),
        4 => (host(), kind(), 0..6_000_u64).prop_map(|(h, kind, lag)| Step::Lag(h, kind, lag)),
        2 => (host(), 0..400_u64, 0..900_u64).prop_map(|(h, to, fro)| Step::SlowWrites(h, to, fro)),
        2 => (host(), 0..300_u64).prop_map(|(h, millis)| Step::SlowKernel(h, millis)),
        3 => (host(), kind(), back()).prop_map(|(h, kind, back)| Step::CutWatch(h, kind, back)),
        3 => (host(), fault, 1..4_usize).prop_map(|(h, f, count)| Step::FailWrites(h, f, count)),
        1 => (host(), 1..20_u64, class).prop_map(|(h, n, c)| Step::FailOperation(h, n, c)),
        1 => host().prop_map(Step::DeleteLease),
    ]
}

impl Step {
    fn host(&self) -> Option<usize> {
        match self {
            Self::Claim(..)
            | Self::Delete(_)
            | Self::Strip(_)
            | Self::Endpoints(..)
            | Self::Outage(_)
            | Self::Wait(_) => None,
            Self::Kill(host, _)
            | Self::Start(host, _)
            | Self::Stop(host)
            | Self::PowerOff(host)
            | Self::PowerOn(host)
            | Self::Address(host, _)
            | Self::CutOff(host, _)
            | Self::Lag(host, ..)
            | Self::SlowWrites(host, ..)
            | Self::SlowKernel(host, _)
            | Self::CutWatch(host, ..)
            | Self::FailWrites(host, ..)
            | Self::FailOperation(host, ..)
            | Self::DeleteLease(host) => Some(*host),
        }
    }
}

/// On one line, as a file of regressions wants it.
impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string().replace('\n', " "))
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = HOSTS[..self.hosts]
            .iter()
            .map(|(name, address, _)| format!("{name} ({address})"))
            .collect();
        writeln!(f, "1. A fleet runs: {}.", hosts.join(", "))?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {step}", number + 2)?;
        }
        let rest =
            if self.all_return { "what does not run is started" } else { "the dead stay dead" };
        writeln!(f, "{}. Then nothing goes wrong any more, and {rest}.", self.steps.len() + 2)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapping = |m: &usize| format!("{}/{}", MAPPINGS[*m].0, MAPPINGS[*m].1);
        if let Some(host) = self.host() {
            return write!(f, "{}{}.", HOSTS[host].0, self.of_host());
        }
        match self {
            Self::Claim(m, claim) => {
                let addresses: Vec<&str> = claim.addresses().collect();
                let (name, port) = (mapping(m), claim.port);
                write!(f, "Mapping {name} asks for port {port} of {}.", addresses.join(", "))
            }
            Self::Delete(m) => write!(f, "Mapping {} is deleted.", mapping(m)),
            Self::Strip(m) => write!(f, "The finalizer of Mapping {} is taken away.", mapping(m)),
            Self::Endpoints(namespace, Some(count)) => {
                write!(f, "Service {namespace}/echo has {count} endpoints.")
            }
            Self::Endpoints(namespace, None) => write!(f, "Service {namespace}/echo is deleted."),
            Self::Outage(true) => f.write_str("Nobody reaches the API server."),
            Self::Outage(false) => f.write_str("Everybody reaches the API server."),
            Self::Wait(millis) => write!(f, "{millis} ms pass."),
            _ => Ok(()),
        }
    }
}

impl Step {
    /// What a host or something of it does, as the rest of a sentence.
    fn of_host(&self) -> String {
        match self {
            Self::Kill(_, n) => {
                format!(" is killed, {n} operations into what its kernel was doing")
            }
            Self::Start(_, 0) => " starts".into(),
            Self::Start(_, back) => format!(" starts from lists that are {back} steps old"),
            Self::Stop(_) => " ends in good order".into(),
            Self::PowerOff(_) => " loses its power".into(),
            Self::PowerOn(_) => " boots".into(),
            Self::Address(_, a) => format!(" gets {}, or loses it if it had it", ADDRESSES[*a]),
            Self::CutOff(_, true) => " does not reach the API server".into(),
            Self::CutOff(_, false) => " reaches the API server".into(),
            Self::Lag(_, kind, lag) => format!(" hears of {kind:?} {lag} ms late"),
            Self::SlowWrites(_, to, fro) => {
                format!("'s writes take {to} ms, and their answers {fro} ms")
            }
            Self::SlowKernel(_, millis) => format!("'s kernel takes {millis} ms for an answer"),
            Self::CutWatch(_, kind, back) => {
                format!("'s watch of {kind:?} is cut, and its next list is {back} steps old")
            }
            Self::FailWrites(_, fault, count) => {
                let how = match fault {
                    WriteFault::Lost => "are lost",
                    WriteFault::AnswerLost => "take effect without an answer",
                    WriteFault::Refused => "are refused",
                    WriteFault::Overtaken => "are overtaken",
                };
                format!("'s next {count} writes {how}")
            }
            Self::FailOperation(_, n, class) => format!("'s operation {n} from now fails: {class}"),
            Self::DeleteLease(_) => "'s Lease is deleted by somebody".into(),
            _ => String::new(),
        }
    }
}

impl Claim {
    pub(crate) fn addresses(self) -> impl Iterator<Item = &'static str> {
        let is_asked_for = move |at: &usize| self.addresses & (1 << at) != 0;
        (0..ADDRESSES.len()).filter(is_asked_for).map(|at| ADDRESSES[at])
    }
}
