//! What `explain` says of a connection's first packet, held against what the kernel did with it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smartnat_core::explain::{Explanation, Origin, Progress, Question, Scene, Verdict, explain};
use smartnat_core::model::{Protocol, ServiceEndpoint};
use smartnat_sim::walk::{Membership, Packet, Payload, Relation, SctpChunk, Step, TcpFlags, Trace};

use crate::packets;
use crate::wire::Seen;

/// Both ends of connections that were begun in this round: only the first packet of one is explained.
#[derive(Default)]
pub(crate) struct Begun(BTreeSet<(Protocol, IpAddr, u16, IpAddr, u16)>);

impl Begun {
    /// The question that a packet asks, if it is the first of a would-be connection.
    pub(crate) fn question(
        &mut self,
        interface: &str,
        packet: &Packet,
        trace: &Trace,
    ) -> Option<Question> {
        let new = |step: &Step| {
            matches!(step, Step::Tracked(Membership::Of { state: Relation::New, .. }))
        };
        let (source_port, port) = packet.ports()?;
        let protocol = packet.transport()?;
        let ends = (protocol, packet.source, source_port, packet.destination, port);
        // What a pod goes on to send on an ended connection is held back (T10), of which no file tells.
        let known = !self.0.insert(ends) || source_port < packets::FIRST_CLIENT_PORT;
        let opens = match packet.payload {
            Payload::Tcp { flags, .. } => flags == TcpFlags::SYN,
            Payload::Sctp { chunk, .. } => chunk == SctpChunk::Init,
            Payload::Udp { .. } => true,
            Payload::Icmp(_) => false,
        };
        (opens && !known && packet.ttl > 1 && trace.steps.iter().any(new)).then(|| Question {
            source: packet.source,
            source_port: Some(source_port),
            destination: packet.destination,
            port,
            protocol,
            origin: Some(Origin::Interface(interface.to_owned())),
        })
    }
}

/// The explanation, if it does not say what the kernel did.
pub(crate) fn wrong_explanation(
    scene: &Scene,
    question: &Question,
    linux: &[Seen],
) -> Option<Explanation> {
    let told = explain(scene, question);
    let perhaps = told.steps.iter().any(|step| step.progress == Progress::Perhaps);
    (!perhaps && !agrees(&told, question, linux)).then_some(told)
}

fn agrees(told: &Explanation, question: &Question, linux: &[Seen]) -> bool {
    if !told.endpoints.is_empty() {
        return to_an_endpoint(told, linux);
    }
    let answered = linux.iter().any(|seen| seen.packet.destination == question.source);
    match told.verdict {
        Verdict::Refused => linux.is_empty(),
        Verdict::Answered => answered,
        Verdict::Egress => told.egress.as_ref().is_some_and(|way| {
            let by = |seen: &Seen| way.interface.as_ref() == Some(&seen.interface);
            linux.iter().any(|seen| by(seen) && way.source == seen.packet.source)
        }),
        Verdict::Passes => linux.iter().any(|seen| {
            (seen.packet.source, seen.packet.destination) == (question.source, question.destination)
        }),
        // It, its reply or its answer is dropped; a socket's answer is the host's own affair.
        Verdict::Dropped => linux.iter().all(|s| s.packet.destination != question.destination),
        Verdict::Host => linux.iter().all(|seen| seen.packet.source == question.destination),
        Verdict::Delivered | Verdict::PartlyDelivered => false,
    }
}

/// The kernel's choice is one of those told, and has no obstacle on its way there.
fn to_an_endpoint(told: &Explanation, linux: &[Seen]) -> bool {
    let ways = |seen: &Seen| {
        let port = seen.packet.ports().map_or(0, |(_, port)| port);
        let chosen = ServiceEndpoint { address: seen.packet.destination, port };
        told.endpoints.iter().find(move |way| way.endpoint == chosen)
    };
    match linux {
        [] => told.endpoints.iter().any(|way| way.obstacle.is_some()),
        [seen] => match ways(seen) {
            Some(way) => {
                way.interface.as_ref() == Some(&seen.interface)
                    && way.source.is_none_or(|source| source == seen.packet.source)
            }
            // A rule of others answers on the way to it.
            None => told.endpoints.iter().any(|way| way.obstacle.is_some()),
        },
        _ => false,
    }
}
