//! P1, P2, P4: what the packet walk does with a first packet is what the oracle says, which is
//! computed from the Snapshot and the contract alone.

use std::net::IpAddr;

use smartnat_core::model::{ClusterObject, Family, Protocol, Snapshot};
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::oracle::{Expectation, Origin, Probe, ProbeKind, expect};
use smartnat_sim::walk::{DropCause, Outcome, Packet, Receiver, SimHost, Trace};

use crate::common::*;

/// The host's addresses on its inside.
const INSIDE: [&str; 2] = ["10.0.0.2", "fd00::2"];
/// A client's port that no Mapping has.
const CLIENT_PORT: u16 = 40_000;

/// Everybody to everything that a generated Mapping may have, and beyond.
fn probes() -> Vec<Probe> {
    let origins = [
        ("ext1", &["192.0.2.5", "192.0.2.200", "198.18.0.1", "2001:db8:c::5", "2001:db8:d::5"][..]),
        ("ext2", &["192.0.2.5", "2001:db8:c::5"]),
        ("int0", &["10.1.0.1", "10.1.0.4", "10.0.0.77", "fd01::1", "fd00::77"]),
    ];
    let targets = [
        EXT1,
        EXT1_B,
        EXT1_V6,
        EXT2,
        EXT2_V6,
        "10.0.0.2",
        "fd00::2",
        "10.1.0.2",
        "fd01::2",
        "10.0.0.50",
        "9.9.9.9",
        "2001:db8:f::9",
    ];
    let kinds = [
        ProbeKind::Transport { protocol: Protocol::Tcp, port: 80 },
        ProbeKind::Transport { protocol: Protocol::Tcp, port: 81 },
        ProbeKind::Transport { protocol: Protocol::Tcp, port: 90 },
        ProbeKind::Transport { protocol: Protocol::Tcp, port: 99 },
        ProbeKind::Transport { protocol: Protocol::Udp, port: 5002 },
        ProbeKind::Transport { protocol: Protocol::Udp, port: 6003 },
        ProbeKind::Transport { protocol: Protocol::Sctp, port: 80 },
        ProbeKind::Echo,
    ];
    let mut probes = Vec::new();
    for (interface, sources) in origins {
        for source in sources.iter().map(|s| ip(s)) {
            for destination in targets.map(ip) {
                let same_family = Family::of(&source) == Family::of(&destination);
                probes.extend(kinds.into_iter().filter(|_| same_family).map(|kind| Probe {
                    origin: Origin::Interface(interface.into()),
                    source,
                    destination,
                    kind,
                }));
            }
        }
    }
    probes
}

fn packet(probe: &Probe) -> Packet {
    match probe.kind {
        ProbeKind::Transport { protocol, port } => {
            Packet::opening(protocol, (probe.source, CLIENT_PORT), (probe.destination, port))
        }
        ProbeKind::Echo => Packet::ping(probe.source, probe.destination, 1),
    }
}

/// Each probe meets a host that has seen none before it.
pub(crate) fn assert_the_walk_does_what_the_oracle_says(objects: &[ClusterObject]) {
    let driver = started_on(bare_kernel(XtFlavour::Nft), objects.to_vec());
    assert_in_sync(&driver);
    let closed = driver.gateway.dataplane().expect("a dataplane").closed_forwarding.clone();
    let snapshot = Snapshot {
        cluster: cluster(objects),
        host: driver.kernel.host().clone(),
        config: config(),
    };
    for probe in probes() {
        let expected = expect(&snapshot, &probe, closed.contains(&Family::of(&probe.source)));
        let Origin::Interface(interface) = &probe.origin else { continue };
        let mut host = SimHost::new(driver.kernel.clone(), 7);
        let trace = host.receive(interface, packet(&probe)).expect("all is understood");
        assert!(agrees(&expected, &probe, &trace), "{probe:?}\n{expected:?}\n{trace}");
    }
}

fn agrees(expected: &Expectation, probe: &Probe, trace: &Trace) -> bool {
    let silent = trace.answers.is_empty();
    match (expected, &trace.outcome) {
        (
            Expectation::Translated { endpoints, masqueraded, .. },
            Outcome::Left { packet, interface, .. },
        ) => {
            let to = packet.ports().map(|(_, port)| (packet.destination, port));
            let hits = |address: IpAddr, port: u16| {
                endpoints.iter().any(|e| (e.address, e.port) == (address, port))
            };
            to.is_some_and(|(address, port)| hits(address, port))
                && (packet.source != probe.source) == *masqueraded
                && interface == "int0"
        }
        (Expectation::Refused { .. }, Outcome::Dropped { .. }) => silent,
        (
            Expectation::NobodyHome { .. },
            Outcome::Dropped { cause: DropCause::Rejected(_), .. },
        ) => leaves_by_the_way_it_came(probe, trace),
        (Expectation::Unconcerned, _) | (Expectation::Dropped, Outcome::Dropped { .. }) => true,
        (Expectation::Host, Outcome::Delivered { to, .. }) => {
            // An answer from an inside address must not leave an uplink (T4).
            let may_answer = !is_uplink(probe) || !INSIDE.map(ip).contains(&probe.destination);
            matches!(to, Receiver::Kernel | Receiver::Nobody)
                && (!may_answer || leaves_by_the_way_it_came(probe, trace))
        }
        (Expectation::Egress { address, uplink }, Outcome::Left { interface, packet, .. }) => {
            interface == uplink && packet.source == *address
        }
        _ => false,
    }
}

fn is_uplink(probe: &Probe) -> bool {
    matches!(&probe.origin, Origin::Interface(name) if name.starts_with("ext"))
}

/// T11: what the host answers.
fn leaves_by_the_way_it_came(probe: &Probe, trace: &Trace) -> bool {
    let Origin::Interface(came_by) = &probe.origin else { return true };
    !trace.answers.is_empty()
        && trace.answers.iter().all(|answer| {
            matches!(&answer.outcome, Outcome::Left { interface, .. } if interface == came_by)
        })
}
