//! Who is served, who is not, and by which pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smartnat_core::model::{Family, Protocol};
use smartnat_sim::topology::addresses::{
    CLIENT1_REFUSED_V4, CLIENT1_REFUSED_V6, CLIENT1_V4, CLIENT1_V6, CLIENT2_REFUSED_V4,
    CLIENT2_REFUSED_V6, CLIENT2_V4, CLIENT2_V6, EXT1_V4, EXT1_V6, EXT2_V4, EXT2_V6, GATEWAY_V4,
    GATEWAY_V6, NEIGHBOUR_V4, NEIGHBOUR_V6,
};

use super::{Finding, in_words};
use crate::demo::stage::{PODS, Request, Stage, end};
use crate::lab::traffic::Outcome;

/// Connections of each client for the spread.
const SPREAD_CONNECTIONS: u32 = 150;

/// Least and most of 300 connections that one of three pods may get: 100 by far more than five
/// standard deviations.
const SPREAD_FAIR: std::ops::RangeInclusive<u32> = 55..=150;

const ALLOWED: [Request; 14] = [
    ("client1", CLIENT1_V4, Protocol::Tcp, EXT1_V4[0], 8080),
    ("client1", CLIENT1_V6, Protocol::Tcp, EXT1_V6[0], 8080),
    ("client1", CLIENT1_V4, Protocol::Udp, EXT1_V4[0], 5353),
    ("client1", CLIENT1_V6, Protocol::Udp, EXT1_V6[0], 5353),
    ("client2", CLIENT2_V4, Protocol::Tcp, EXT2_V4[0], 8080),
    ("client2", CLIENT2_V6, Protocol::Tcp, EXT2_V6[0], 8080),
    ("client2", CLIENT2_V4, Protocol::Udp, EXT2_V4[0], 5353),
    ("client2", CLIENT2_V6, Protocol::Udp, EXT2_V6[0], 5353),
    // On the uplink's own link, without a router between.
    ("neighbour", NEIGHBOUR_V4, Protocol::Tcp, EXT1_V4[0], 8080),
    ("neighbour", NEIGHBOUR_V6, Protocol::Udp, EXT1_V6[0], 5353),
    // A port of a range that the Service does not list.
    ("client2", CLIENT2_V4, Protocol::Udp, EXT2_V4[0], 5065),
    ("client2", CLIENT2_V6, Protocol::Udp, EXT2_V6[0], 5065),
    // The manifest of the Go version.
    ("client1", CLIENT1_V4, Protocol::Tcp, EXT1_V4[0], 9080),
    ("client1", CLIENT1_V4, Protocol::Udp, EXT1_V4[0], 9053),
];

const REFUSED: [Request; 8] = [
    ("client1", CLIENT1_REFUSED_V4, Protocol::Tcp, EXT1_V4[0], 8080),
    ("client1", CLIENT1_REFUSED_V6, Protocol::Tcp, EXT1_V6[0], 8080),
    ("client1", CLIENT1_REFUSED_V4, Protocol::Udp, EXT1_V4[0], 5353),
    ("client1", CLIENT1_REFUSED_V6, Protocol::Udp, EXT1_V6[0], 5353),
    ("client2", CLIENT2_REFUSED_V4, Protocol::Tcp, EXT2_V4[0], 8080),
    ("client2", CLIENT2_REFUSED_V6, Protocol::Udp, EXT2_V6[0], 5353),
    // Allowed on other ports, but not on this one.
    ("client2", CLIENT2_V4, Protocol::Tcp, EXT2_V4[0], 8443),
    ("client2", CLIENT2_V6, Protocol::Tcp, EXT2_V6[0], 8443),
];

fn describe((host, from, protocol, external, port): Request) -> String {
    format!("{host} ({from}) to {} {protocol}", end(external, port))
}

/// T1, T5, T7: everybody who may is served, and pods see the gateway.
pub(super) fn allowed<S: Stage>(stage: &mut S) -> Finding {
    let mut finding = Finding::default();
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    let gateway = [GATEWAY_V4, GATEWAY_V6].map(|a| a.parse::<IpAddr>().ok());
    for request in ALLOWED {
        let begin = Instant::now();
        let (client, from, protocol, external, port) = request;
        let outcome = stage.ask(client, from.parse().ok(), protocol, end(external, port));
        slowest = slowest.max(begin.elapsed());
        finding.require(outcome.is_answered(), || format!("{}: {outcome}", describe(request)));
        if let Some(answer) = outcome.answer() {
            answered += 1;
            let seen = answer.seen_peer.ip();
            finding.require(gateway.contains(&Some(seen)), || {
                format!("{}: the pod saw {seen}, not the gateway", describe(request))
            });
        }
    }
    let slowest = S::KERNEL.real_time(slowest).map_or_else(String::new, |slowest| {
        format!(", the slowest in {:.1} ms", slowest.as_secs_f64() * 1000.0)
    });
    finding.measured = format!(
        "{answered} of {} requests answered{slowest}: by both uplinks, from a neighbour\n\
         on the link, on a port range, on the manifest of the Go version",
        ALLOWED.len(),
    );
    finding
}

/// T2: nothing comes back, and nothing arrives at a pod.
pub(super) fn refused(stage: &mut impl Stage) -> Finding {
    let mut finding = Finding::default();
    let before = stage.requests();
    let outcomes = stage.ask_in_vain(&REFUSED);
    for (request, outcome) in REFUSED.into_iter().zip(&outcomes) {
        finding
            .require(*outcome == Outcome::TimedOut, || format!("{}: {outcome}", describe(request)));
    }
    let arrived = stage.requests() - before;
    finding.require(arrived == 0, || format!("{arrived} requests arrived at pods"));
    let silent = outcomes.iter().filter(|o| **o == Outcome::TimedOut).count();
    finding.measured = format!(
        "{silent} of {} requests met silence{}; {arrived} arrived at a pod",
        REFUSED.len(),
        in_words(" for ", stage.silence(), " ms"),
    );
    finding
}

/// T8: about a third for each of three pods, on both families.
pub(super) fn spread(stage: &mut impl Stage) -> Finding {
    let mut finding = Finding::default();
    let mut lines = Vec::new();
    let ends = [
        (Family::V4, [("client1", EXT1_V4[0]), ("client2", EXT2_V4[0])]),
        (Family::V6, [("client1", EXT1_V6[0]), ("client2", EXT2_V6[0])]),
    ];
    for (family, clients) in ends {
        let mut counts: BTreeMap<String, u32> = PODS.map(|pod| (pod.to_owned(), 0)).into();
        for (client, external) in clients {
            for _ in 0..SPREAD_CONNECTIONS {
                let to = end(external, 8080);
                let outcome = stage.ask(client, None, Protocol::Tcp, to);
                finding.require(outcome.is_answered(), || format!("{client} to {to}: {outcome}"));
                if let Some(server) = outcome.server() {
                    *counts.entry(server.into()).or_default() += 1;
                }
            }
        }
        for (pod, count) in &counts {
            finding.require(SPREAD_FAIR.contains(count), || {
                format!("{family}: {pod} got {count} connections, not {SPREAD_FAIR:?}")
            });
        }
        let shares: Vec<String> = counts.iter().map(|(pod, n)| format!("{pod} {n}")).collect();
        lines.push(format!(
            "{family}: {} new connections, {}",
            2 * SPREAD_CONNECTIONS,
            shares.join(", ")
        ));
    }
    finding.measured = lines.join("\n");
    finding
}
