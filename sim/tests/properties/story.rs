//! Histories that can be read: what happens to a gateway, its cluster and its host.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use smartnat_core::model::{
    ClusterObject, EndpointSlice, Mapping, MappingPort, ObjectKey, ObjectKind, Service,
};
use smartnat_core::ops::OpErrorClass;
use smartnat_sim::scenario::{without_mapping, without_service};

use crate::host_events::{ADDRESSES, Interference, LINKS};
use crate::objects::{MAPPINGS, SERVICES, a_mapping, a_service, cluster as cluster_of_all};
use crate::setup::{Setup, setups};

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Objects of the cluster change.
    Cluster(Vec<ClusterObject>),
    /// A link goes down or up, with its IPv6 addresses.
    Flap(&'static str),
    /// An address comes or goes.
    Address(&'static str, &'static str),
    /// A link comes or goes.
    Link(&'static str),
    /// Others change what is ours.
    Interfere(Interference, Index),
    /// A client connects, if it is let in.
    Connect(Index),
    /// The n-th operation from now fails.
    Fail(u64, OpErrorClass),
    /// So many reads fail.
    FailReads(usize),
    /// The program dies after so many operations.
    Crash(u64),
    /// It starts anew.
    Restart,
    /// The kernel tells of changes.
    Notify,
    /// Time passes.
    Wait(u64),
}

/// A gateway and what happens to it. Prints as numbered sentences.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
    /// Decides which packets are sent in between, and what is left to chance on their way.
    pub(crate) seed: u64,
}

/// Stories of so many steps.
pub(crate) fn stories(number: Range<usize>) -> impl Strategy<Value = Story> {
    (setups(), beginnings(), prop::collection::vec(step(), number), any::<u16>()).prop_map(
        |(setup, beginning, steps, seed)| {
            let steps = [beginning, steps].concat();
            Story { setup, steps, seed: seed.into() }
        },
    )
}

/// Most stories begin with a cluster that serves, and with connections.
fn beginnings() -> impl Strategy<Value = Vec<Step>> {
    let served = (cluster_of_all(), prop::collection::vec(any::<Index>(), 0..4));
    let served = served.prop_map(|(objects, connections)| {
        let connect = connections.into_iter().map(Step::Connect);
        std::iter::once(Step::Cluster(objects)).chain(connect).collect()
    });
    prop_oneof![1 => Just(Vec::new()), 2 => served]
}

fn step() -> impl Strategy<Value = Step> {
    let class = select(vec![
        OpErrorClass::NotFound,
        OpErrorClass::Exists,
        OpErrorClass::Busy,
        OpErrorClass::Invalid,
        OpErrorClass::Transient,
    ]);
    let link = || select(LINKS.to_vec());
    prop_oneof![
        6 => a_mapping().prop_map(|m| Step::Cluster(vec![m])),
        6 => a_service().prop_map(Step::Cluster),
        1 => (0..MAPPINGS).prop_map(|n| Step::Cluster(vec![without_mapping(&format!("m{n}"))])),
        1 => (0..SERVICES).prop_map(|n| Step::Cluster(without_service(&format!("s{n}")))),
        1 => link().prop_map(Step::Flap),
        1 => select(ADDRESSES.to_vec()).prop_map(|(link, address)| Step::Address(link, address)),
        1 => link().prop_map(Step::Link),
        2 => (select(Interference::ALL.to_vec()), any::<Index>())
            .prop_map(|(what, at)| Step::Interfere(what, at)),
        4 => any::<Index>().prop_map(Step::Connect),
        2 => (1..30_u64, class).prop_map(|(n, class)| Step::Fail(n, class)),
        1 => (1..3_usize).prop_map(Step::FailReads),
        2 => (0..40_u64).prop_map(Step::Crash),
        1 => Just(Step::Restart),
        2 => Just(Step::Notify),
        2 => (1..9_000_u64).prop_map(Step::Wait),
    ]
}

/// On one line, as a file of regressions wants it.
impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string().replace('\n', " "))
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "1. A gateway starts: {}; seed {}.", self.setup, self.seed)?;
        let mut known = BTreeSet::new();
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {}", number + 2, step.sentence(&mut known))?;
        }
        Ok(())
    }
}

impl Step {
    /// `known`: the Mappings and Services that exist.
    fn sentence(&self, known: &mut BTreeSet<(ObjectKind, ObjectKey)>) -> String {
        match self {
            Self::Cluster(objects) => cluster(objects, known),
            Self::Flap(link) => format!("Link {link} goes down, or up if it was down."),
            Self::Address(link, address) => {
                format!("Address {address} is taken from {link}, or given back.")
            }
            Self::Link(link) => format!("Link {link} is unplugged, or plugged in if it was not."),
            Self::Interfere(what, _) => format!("Others {what}."),
            Self::Connect(_) => "A client connects, if any is let in.".into(),
            Self::Fail(1, class) => format!("The next operation will fail: {class}."),
            Self::Fail(n, class) => {
                format!("The operation after {} more will fail: {class}.", n - 1)
            }
            Self::FailReads(times) => format!("The next {times} reads of the kernel will fail."),
            Self::Crash(0) => "The program dies before its next operation.".into(),
            Self::Crash(n) => format!("The program dies after {n} operations."),
            Self::Restart => "The program starts anew.".into(),
            Self::Notify => "The kernel tells that something changed.".into(),
            Self::Wait(millis) => format!("{millis} ms pass."),
        }
    }
}

/// The sentences of a change of the cluster.
pub(crate) fn cluster(
    objects: &[ClusterObject],
    known: &mut BTreeSet<(ObjectKind, ObjectKey)>,
) -> String {
    let slices = objects.iter().filter_map(|object| match object {
        ClusterObject::EndpointSlice(slice) => Some(&**slice),
        _ => None,
    });
    let slices: Vec<&EndpointSlice> = slices.collect();
    let sentences: Vec<String> = objects
        .iter()
        .filter_map(|object| match object {
            ClusterObject::Mapping(m) => {
                let verb = verb(known, ObjectKind::Mapping, &m.key);
                Some(format!("Mapping {} is {verb}: {}.", m.key.name, mapping(m)))
            }
            ClusterObject::Service(s) => {
                let verb = verb(known, ObjectKind::Service, &s.key);
                Some(format!("Service {} is {verb}: {}.", s.key.name, service(s, &slices)))
            }
            ClusterObject::Deleted(kind, key) if *kind != ObjectKind::EndpointSlice => {
                known.remove(&(*kind, key.clone()));
                Some(format!("{kind:?} {} is deleted.", key.name))
            }
            _ => None,
        })
        .collect();
    if sentences.is_empty() { "The cluster is as before.".into() } else { sentences.join(" ") }
}

fn verb(
    known: &mut BTreeSet<(ObjectKind, ObjectKey)>,
    kind: ObjectKind,
    key: &ObjectKey,
) -> &'static str {
    if known.insert((kind, key.clone())) { "created" } else { "changed" }
}

fn mapping(mapping: &Mapping) -> String {
    let spec = &mapping.spec;
    let ports: Vec<String> = spec.ports.iter().map(port).collect();
    let mut text =
        format!("{}; {} of {}", spec.addresses.join(", "), ports.join(", "), spec.service_name);
    if !spec.allowed_sources.is_empty() {
        let _ = write!(text, "; sources {}", spec.allowed_sources.join(", "));
    }
    match spec.masquerade {
        Some(true) => text += "; masquerade",
        Some(false) => text += "; no masquerade",
        None => {}
    }
    match spec.egress {
        Some(true) => text += "; egress",
        Some(false) => text += "; no egress",
        None => {}
    }
    match mapping.created {
        Some(at) => text + &format!("; created at {} s", at.0 / 1000),
        None => text + "; age unknown",
    }
}

fn port(port: &MappingPort) -> String {
    let mut text = port.protocol.clone().unwrap_or_else(|| "tcp".into());
    if let Some(first) = port.port {
        let _ = write!(text, " {first}");
    }
    if let Some(last) = port.end_port {
        let _ = write!(text, "-{last}");
    }
    match &port.service_port {
        Some(target) => text + &format!(" → {target}"),
        None => text,
    }
}

fn service(service: &Service, slices: &[&EndpointSlice]) -> String {
    let target = |name: &str| {
        let of_name = slices.iter().flat_map(|s| &s.ports).find(|p| p.name == name);
        of_name.and_then(|p| p.port).map_or_else(String::new, |port| format!(" → {port}"))
    };
    let ports = service.ports.iter().map(|p| {
        let name = if p.name.is_empty() { String::new() } else { format!("{} ", p.name) };
        format!("{name}{} {}{}", p.protocol, p.port, target(&p.name))
    });
    let mut text = ports.collect::<Vec<_>>().join(", ");
    let endpoints = slices.iter().flat_map(|s| &s.endpoints).map(|e| {
        let state = match (e.ready, e.serving, e.terminating) {
            (true, ..) => "ready",
            (false, true, true) => "draining",
            (false, true, false) => "serving but not ready",
            (false, false, true) => "terminating",
            (false, false, false) => "not ready",
        };
        let addresses: Vec<String> = e.addresses.iter().map(ToString::to_string).collect();
        format!("{} {state}", addresses.join("/"))
    });
    let endpoints: Vec<String> = endpoints.collect();
    text += "; ";
    text += &if endpoints.is_empty() { "no endpoint".into() } else { endpoints.join(", ") };
    if let Some(seconds) = service.affinity_seconds {
        let _ = write!(text, "; a client stays {seconds} s");
    }
    text + if service.publish_not_ready { "; publishes what is not ready" } else { "" }
}
