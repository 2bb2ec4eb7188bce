//! Each packet under explanation and on its walk, there and back.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smartnat_core::explain::{
    Cause, EndpointWay, Explanation, Origin, Progress, Question, Scene, Verdict, explain,
};
use smartnat_core::model::{ClusterObject, Family, Protocol, ServiceEndpoint};
use smartnat_sim::SimKernel;
use smartnat_sim::walk::{
    DropCause, Outcome, Packet, Payload, SctpChunk, SimHost, TcpFlags, Trace,
};

use crate::common::*;
use crate::host::Circumstances;

const CLIENT_PORT: u16 = 40_000;
/// Chance chooses among five endpoints at most: a few seeds meet most of them.
const SEEDS: [u64; 3] = [7, 8, 23];

fn questions() -> Vec<Question> {
    let origins = [
        (Some("ext1"), &["192.0.2.5", "203.0.113.77", "2001:db8:c::5", "2001:db8:1::77"][..]),
        (Some("ext2"), &["192.0.2.200", "2001:db8:c::5"]),
        (Some("int0"), &["10.1.0.1", "10.1.0.20", "10.0.0.77", "fd01::20"]),
        (None, &["10.0.0.2", "fd00::2"]),
    ];
    let targets = [
        EXT1,
        EXT1_V6,
        EXT2,
        EXT2_V6,
        "10.0.0.2",
        "10.1.0.2",
        "fd01::2",
        "9.9.9.9",
        "2001:db8:f::9",
    ];
    let ports = [
        (Protocol::Tcp, 80),
        (Protocol::Tcp, 81),
        (Protocol::Tcp, 443),
        (Protocol::Tcp, 8080),
        (Protocol::Udp, 5002),
        (Protocol::Udp, 6003),
        (Protocol::Sctp, 80),
    ];
    let mut questions = Vec::new();
    for (interface, sources) in origins {
        let origin = interface.map_or(Origin::Local, |name| Origin::Interface(name.into()));
        for source in sources.iter().map(|s| ip(s)) {
            let same_family = |to: &IpAddr| Family::of(to) == Family::of(&source);
            for destination in targets.map(ip).into_iter().filter(same_family) {
                questions.extend(ports.map(|(protocol, port)| Question {
                    source,
                    source_port: Some(CLIENT_PORT),
                    destination,
                    port,
                    protocol,
                    origin: Some(origin.clone()),
                }));
            }
        }
    }
    questions
}

/// Explain tells what the walk does, of every packet.
pub(crate) fn assert_explained(objects: &[ClusterObject], circumstances: &Circumstances) {
    let driver = circumstances.gateway(objects);
    let scene = circumstances.scene(objects, &driver.kernel);
    for question in questions() {
        let told = explain(&scene, &question);
        let arrives = match &question.origin {
            Some(Origin::Interface(name)) => scene.host.links[name].up,
            _ => true,
        };
        if !arrives {
            assert_eq!(told.verdict, Verdict::Dropped, "{question:?} cannot arrive");
            continue;
        }
        for seed in SEEDS {
            let (trace, back) = walk(&driver.kernel, &scene, &question, seed);
            assert!(
                agrees(&told, &question, &trace, back.as_ref()),
                "{told:#?}\n{trace}\nback: {}\n{:#?}",
                back.as_ref().map(ToString::to_string).unwrap_or_default(),
                scene.foreign,
            );
        }
    }
}

/// The packet's walk, and that of the answer of whoever got it.
fn walk(
    kernel: &SimKernel,
    scene: &Scene,
    question: &Question,
    seed: u64,
) -> (Trace, Option<Trace>) {
    let mut host = SimHost::new(kernel.clone(), seed);
    let from = (question.source, CLIENT_PORT);
    let packet = Packet::opening(question.protocol, from, (question.destination, question.port));
    let trace = match &question.origin {
        Some(Origin::Interface(name)) => host.receive(name, packet),
        _ => host.send(packet),
    };
    let trace = trace.expect("all is understood");
    let Outcome::Left { interface, packet, .. } = &trace.outcome else { return (trace, None) };
    if !scene.host.links[interface].up {
        return (trace, None);
    }
    let back = host.receive(interface, answer(packet)).expect("all is understood");
    (trace, Some(back))
}

fn answer(to: &Packet) -> Packet {
    let (source, destination) = to.ports().expect("a transport packet");
    let (from, back) = ((to.destination, destination), (to.source, source));
    match to.payload {
        Payload::Tcp { .. } => Packet::tcp(from, back, TcpFlags::SYN_ACK),
        Payload::Sctp { .. } => {
            let payload = Payload::Sctp {
                source: destination,
                destination: source,
                chunk: SctpChunk::InitAck,
            };
            Packet::new(to.destination, to.source, payload)
        }
        _ => Packet::opening(Protocol::Udp, from, back),
    }
}

fn agrees(told: &Explanation, question: &Question, trace: &Trace, back: Option<&Trace>) -> bool {
    if !told.endpoints.is_empty() {
        return to_an_endpoint(told, question, trace, back);
    }
    let silent = trace.answers.is_empty();
    match (told.verdict, &trace.outcome) {
        (Verdict::Refused, Outcome::Dropped { .. }) => silent,
        (Verdict::Answered, Outcome::Dropped { cause: DropCause::Rejected(_), .. }) => {
            // What the host answers itself by way of `lo` is not followed through others' rules.
            question.origin == Some(Origin::Local)
                || trace.answers.iter().any(|answer| !matches!(answer.outcome, Outcome::Dropped { .. }))
        }
        // A rule of others takes it past our answer.
        (Verdict::Answered | Verdict::Dropped, Outcome::Delivered { .. }) => {
            told.steps.iter().any(|step| step.progress == Progress::Perhaps)
        }
        (Verdict::Host, Outcome::Delivered { packet, .. }) => {
            packet.destination == question.destination
        }
        // None of the generated rules of others answers.
        (Verdict::Dropped, Outcome::Dropped { cause: DropCause::Rejected(_), .. }) => {
            let lost = |answer: &Trace| matches!(answer.outcome, Outcome::Dropped { .. });
            question.origin == Some(Origin::Local) || trace.answers.iter().all(lost)
        }
        (Verdict::Dropped, Outcome::Dropped { .. }) => true,
        (Verdict::Dropped, Outcome::Left { .. }) => {
            // The packet leaves by egress, its reply does not come back.
            told.egress.is_none() && back.is_some_and(|back| !left(back))
        }
        (Verdict::Passes, Outcome::Left { packet, .. }) => {
            (packet.source, packet.destination) == (question.source, question.destination)
        }
        (Verdict::Egress, Outcome::Left { packet, interface, .. }) => {
            told.egress.as_ref().is_some_and(|way| {
                way.interface.as_ref() == Some(interface) && way.source == packet.source
            }) && back.is_some_and(|back| {
                matches!(&back.outcome, Outcome::Left { packet, .. } if packet.destination == question.source)
            })
        }
        _ => false,
    }
}

fn left(trace: &Trace) -> bool {
    matches!(trace.outcome, Outcome::Left { .. })
}

/// The endpoint that chance chose is one of those told, and the packet gets there and back
/// exactly when explain says so.
fn to_an_endpoint(
    told: &Explanation,
    question: &Question,
    trace: &Trace,
    back: Option<&Trace>,
) -> bool {
    let packet = match &trace.outcome {
        Outcome::Left { packet, .. }
        | Outcome::Dropped { packet, .. }
        | Outcome::Delivered { packet, .. } => packet,
    };
    let port = packet.ports().map(|(_, port)| port).unwrap_or_default();
    let chosen = ServiceEndpoint { address: packet.destination, port };
    let Some(way) = told.endpoints.iter().find(|way| way.endpoint == chosen) else {
        return false;
    };
    let obstacles: BTreeSet<_> = told.endpoints.iter().map(|way| way.obstacle.is_some()).collect();
    let verdict = match told.verdict {
        Verdict::Delivered => obstacles == BTreeSet::from([false]),
        Verdict::PartlyDelivered => obstacles.len() == 2,
        Verdict::Dropped => obstacles == BTreeSet::from([true]),
        _ => false,
    };
    verdict && way.obstacle.is_none() == goes_all_the_way(way, question, trace, back)
}

fn goes_all_the_way(
    way: &EndpointWay,
    question: &Question,
    trace: &Trace,
    back: Option<&Trace>,
) -> bool {
    let Outcome::Left { packet, interface, .. } = &trace.outcome else { return false };
    let Some(reply) = &way.reply else { return back.is_some_and(comes_back) };
    let there = way.interface.as_ref() == Some(interface)
        && way.source.is_none_or(|source| source == packet.source);
    let returned = back.is_some_and(|back| match &back.outcome {
        Outcome::Left { interface, next_hop, packet } => {
            reply.interface.as_ref() == Some(interface)
                && reply.gateway.unwrap_or(question.source) == *next_hop
                && (packet.source, packet.destination) == (question.destination, question.source)
        }
        Outcome::Delivered { packet, .. } => {
            reply.interface.is_none() && packet.destination == question.source
        }
        Outcome::Dropped { .. } => false,
    });
    there && returned
}

fn comes_back(back: &Trace) -> bool {
    !matches!(back.outcome, Outcome::Dropped { .. })
}

/// Verdicts and obstacles that explanations came to.
#[derive(Default)]
pub(crate) struct Met {
    verdicts: Vec<Verdict>,
    causes: BTreeSet<Cause>,
}

impl Met {
    pub(crate) fn add(&mut self, objects: &[ClusterObject], circumstances: &Circumstances) {
        let driver = circumstances.gateway(objects);
        let scene = circumstances.scene(objects, &driver.kernel);
        for told in questions().iter().map(|question| explain(&scene, question)) {
            if !self.verdicts.contains(&told.verdict) {
                self.verdicts.push(told.verdict);
            }
            self.causes.extend(told.cause);
            self.causes.extend(told.endpoints.iter().filter_map(|way| way.obstacle));
        }
    }

    /// What no explanation came to so far.
    pub(crate) fn missed(&self) -> Vec<String> {
        let all = [
            Verdict::Delivered,
            Verdict::PartlyDelivered,
            Verdict::Egress,
            Verdict::Passes,
            Verdict::Host,
            Verdict::Refused,
            Verdict::Answered,
            Verdict::Dropped,
        ];
        let verdicts = all.iter().filter(|v| !self.verdicts.contains(v)).map(|v| format!("{v:?}"));
        let causes = [
            Cause::InterfaceDown,
            Cause::SourceRefused,
            Cause::PortNotMapped,
            Cause::AddressNotMapped,
            Cause::AddressNotHere,
            Cause::Conflict,
            Cause::NoService,
            Cause::NoServicePort,
            Cause::NoEndpoint,
            Cause::NoRouteToEndpoint,
            Cause::NoReturnRoute,
            Cause::ForeignDrop,
            Cause::NoTransit,
            Cause::ForwardingClosed,
            Cause::NoRoute,
        ];
        let causes = causes.iter().filter(|c| !self.causes.contains(c)).map(|c| format!("{c:?}"));
        verdicts.chain(causes).collect()
    }
}
