//! First packets of would-be connections: everybody to everything that a story may have, and beyond.

use std::net::IpAddr;
use std::sync::LazyLock;

use smartnat_core::model::{Family, Protocol};
use smartnat_sim::SimKernel;
use smartnat_sim::oracle::{Origin, Probe, ProbeKind};
use smartnat_sim::walk::{Packet, Random};

use crate::common::{EXT1, EXT1_B, EXT1_V6, EXT2, EXT2_V6, ip};

const CLIENTS: [&str; 5] =
    ["192.0.2.5", "192.0.2.200", "198.18.0.1", "2001:db8:c::5", "2001:db8:d::5"];
const INSIDERS: [&str; 5] = ["10.1.0.1", "10.1.0.4", "10.0.0.77", "fd01::1", "fd00::77"];
const EXTERNAL: [&str; 6] = [EXT1, EXT1_B, EXT1_V6, EXT2, EXT2_V6, "203.0.113.30"];
/// The host itself inside, pods, neighbours, the rest of the world.
const BEYOND: [&str; 7] =
    ["10.0.0.2", "fd00::2", "10.1.0.2", "fd01::2", "10.0.0.50", "9.9.9.9", "2001:db8:f::9"];

const KINDS: [ProbeKind; 10] = [
    transport(Protocol::Tcp, 80),
    transport(Protocol::Tcp, 81),
    transport(Protocol::Tcp, 90),
    transport(Protocol::Tcp, 99),
    transport(Protocol::Udp, 5000),
    transport(Protocol::Udp, 5002),
    transport(Protocol::Udp, 6003),
    transport(Protocol::Udp, 80),
    transport(Protocol::Sctp, 80),
    ProbeKind::Echo,
];

const fn transport(protocol: Protocol, port: u16) -> ProbeKind {
    ProbeKind::Transport { protocol, port }
}

/// Connections that a Mapping may let in, from outside.
pub(crate) static CONNECTIONS: LazyLock<Vec<Probe>> = LazyLock::new(|| {
    let origins = ["ext1", "ext2", "ext3"].map(|name| (name, &CLIENTS[..]));
    every(&origins, &EXTERNAL, &KINDS[..9])
});

/// All of them.
pub(crate) static ALL: LazyLock<Vec<Probe>> = LazyLock::new(|| {
    let origins = [
        ("ext1", &CLIENTS[..]),
        ("ext2", &CLIENTS[..]),
        ("ext3", &CLIENTS[..1]),
        ("int0", &INSIDERS),
    ];
    every(&origins, &[&EXTERNAL[..], &BEYOND].concat(), &KINDS)
});

fn every(origins: &[(&str, &[&str])], targets: &[&str], kinds: &[ProbeKind]) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (interface, sources) in origins {
        for source in sources.iter().map(|s| ip(s)) {
            for destination in targets.iter().map(|t| ip(t)) {
                let same_family = Family::of(&source) == Family::of(&destination);
                probes.extend(kinds.iter().filter(|_| same_family).map(|kind| Probe {
                    origin: Origin::Interface((*interface).into()),
                    source,
                    destination,
                    kind: *kind,
                }));
            }
        }
    }
    probes
}

/// Some of [`ALL`], half of them to what a Mapping may have.
pub(crate) fn some(number: usize, random: &mut Random) -> impl Iterator<Item = &'static Probe> {
    let mut pick = |from: &'static [Probe]| {
        let limit = u64::try_from(from.len()).expect("a few hundred");
        &from[usize::try_from(random.next_64() % limit).expect("a few hundred")]
    };
    let picked: Vec<&Probe> =
        (0..number).map(|n| pick(if n % 2 == 0 { &CONNECTIONS } else { &ALL })).collect();
    picked.into_iter()
}

/// The packet of a probe from a client's port.
pub(crate) fn packet(probe: &Probe, client_port: u16) -> Packet {
    let (from, to): (IpAddr, IpAddr) = (probe.source, probe.destination);
    match probe.kind {
        ProbeKind::Transport { protocol, port } => {
            Packet::opening(protocol, (from, client_port), (to, port))
        }
        ProbeKind::Echo => Packet::ping(from, to, client_port),
    }
}

/// The interface of a probe; none of a story's is the host's own.
pub(crate) fn interface(probe: &Probe) -> &str {
    match &probe.origin {
        Origin::Interface(name) => name,
        Origin::Local => "lo",
    }
}

/// Whether the interface of a probe has a way back: it is up and speaks the family.
pub(crate) fn can_come(probe: &Probe, kernel: &SimKernel) -> bool {
    let family = Family::of(&probe.source);
    kernel.links().get(interface(probe)).is_some_and(|link| {
        let mut addresses = link.addresses.iter().filter(|a| !a.link_local);
        link.up && addresses.any(|a| Family::of(&a.address.addr()) == family)
    })
}
