//! Random objects and random packets from small pools, so that they meet.

use std::net::IpAddr;

use smartnat_core::model::{ClusterObject, Family, GatewayConfig, Protocol};
use smartnat_sim::scenario::{mapping, service, without_mapping};
use smartnat_sim::walk::{Icmp, IcmpError, Packet, Payload, Quoted, Random, SctpChunk, TcpFlags};

use crate::scene::{Foreign, ip};
use crate::wire::Seen;

pub(crate) struct Dice(Random);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a small number");
        usize::try_from(self.0.next_64() % end).expect("a small number")
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const ADDRESSES: [&str; 6] = [
    "203.0.113.10",
    "203.0.113.11",
    "198.51.100.10",
    "2001:db8:1::10",
    "2001:db8:2::10",
    "10.0.0.2",
];
const SOURCES: [&str; 7] = [
    "192.0.2.0/24",
    "192.0.2.0/25",
    "203.0.113.77",
    "198.51.100.0/24",
    "0.0.0.0/0",
    "2001:db8:c::/48",
    "::/0",
];
const PODS: [&str; 6] = ["10.0.0.11", "10.0.0.12", "10.0.0.13", "10.1.0.7", "fd00::11", "fd00::12"];

/// Settings of a round.
pub(crate) fn config(dice: &mut Dice) -> GatewayConfig {
    GatewayConfig {
        uplink_pattern: "ext[0-9]".into(),
        guard: !dice.one_in(4),
        masquerade: !dice.one_in(3),
        egress: dice.one_in(5),
        ..GatewayConfig::default()
    }
}

/// A cluster with up to four Mappings of three Services.
pub(crate) fn cluster(dice: &mut Dice) -> Vec<ClusterObject> {
    let mut objects = Vec::new();
    for name in 0..3 {
        objects.extend(a_service(dice, name));
    }
    for name in 0..2 + dice.below(3) {
        objects.push(a_mapping(dice, name));
    }
    objects
}

/// Something changes.
pub(crate) fn change(dice: &mut Dice) -> Vec<ClusterObject> {
    match dice.below(5) {
        0 | 1 => {
            let name = dice.below(3);
            a_service(dice, name)
        }
        2 => vec![without_mapping(&format!("m{}", dice.below(4)))],
        _ => {
            let name = dice.below(4);
            vec![a_mapping(dice, name)]
        }
    }
}

fn a_service(dice: &mut Dice, name: usize) -> Vec<ClusterObject> {
    let mut built = service(&format!("s{name}"))
        .port("http", Protocol::Tcp, 80, 8080)
        .port("", Protocol::Udp, 5000, 6000)
        .port("sctp", Protocol::Sctp, 80, 3868);
    for pod in PODS {
        built = match dice.below(8) {
            0..=2 => built,
            3 => built.draining(pod),
            4 => built.not_ready(pod),
            _ => built.ready(pod),
        };
    }
    if dice.one_in(4) {
        built = built.affinity(3600);
    }
    built.build()
}

fn a_mapping(dice: &mut Dice, name: usize) -> ClusterObject {
    let mut built = mapping(&format!("m{name}"))
        .service(&format!("s{}", dice.below(3)))
        .created(u64::try_from(name + 1).expect("a small number"));
    for address in ADDRESSES {
        if dice.one_in(2) {
            built = built.address(address);
        }
    }
    // Never without any: it would be refused.
    built = built.address("203.0.113.12");
    if dice.one_in(2) {
        for source in SOURCES {
            if dice.one_in(2) {
                built = built.source(source);
            }
        }
    }
    let ports = [
        (Protocol::Tcp, 80, None, None),
        (Protocol::Tcp, 81, None, Some("http")),
        (Protocol::Tcp, 90, Some(93), Some("http")),
        (Protocol::Udp, 5000, Some(5003), None),
        (Protocol::Udp, 6000, Some(6003), Some("5000")),
        (Protocol::Udp, 53, None, Some("missing")),
        (Protocol::Sctp, 80, None, None),
    ];
    // Mostly ports of its own: whoever meets an older one in a single port is rejected whole.
    for (number, (protocol, port, end, of_service)) in ports.into_iter().enumerate() {
        let own = number % 3 == name % 3 && !dice.one_in(4);
        if own || dice.one_in(12) {
            built = built.port(protocol, port, end, of_service);
        }
    }
    built = built.tcp(1000 + u16::try_from(name).expect("a small number"));
    if dice.one_in(3) {
        built = built.masquerade(dice.one_in(2));
    }
    if dice.one_in(3) {
        built = built.egress(true);
    }
    built.build()
}

/// What others have in the way: mostly nothing.
pub(crate) fn foreign(dice: &mut Dice) -> Vec<Foreign> {
    let rules: [(&'static str, &'static str, &str); 11] = [
        ("filter", "FORWARD", "POLICY DROP"),
        ("filter", "FORWARD", "-p tcp -m tcp --dport 8080 -j DROP"),
        ("filter", "FORWARD", "-j REJECT --reject-with icmp-port-unreachable"),
        ("filter", "INPUT", "-p icmp -j DROP"),
        ("filter", "INPUT", "POLICY DROP"),
        ("mangle", "PREROUTING", "-p udp -m udp --dport 5001 -j DROP"),
        ("mangle", "PREROUTING", "-j MARK --set-xmark 0x1/0x1"),
        ("raw", "PREROUTING", "-p udp -m udp --dport 5002 -j CT --notrack"),
        (
            "nat",
            "PREROUTING",
            "-d 203.0.113.11/32 -p tcp -m tcp --dport 99 -j DNAT --to-destination 10.0.0.13:99",
        ),
        (
            "nat",
            "PREROUTING",
            "-d 203.0.113.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.13:99",
        ),
        ("nat", "POSTROUTING", "-o eth0 -j MASQUERADE"),
    ];
    rules
        .into_iter()
        .filter(|_| dice.one_in(12))
        .map(|(table, chain, rule)| (table, chain, rule.to_owned()))
        .collect()
}

/// Ports of clients begin here; those of services are below.
pub(crate) const FIRST_CLIENT_PORT: u16 = 20_000;

/// Interface, address; the first ones are in most lists of sources.
const CLIENTS: [(&str, &str); 14] = [
    ("ext1", "192.0.2.5"),
    ("ext1", "192.0.2.200"),
    ("ext1", "203.0.113.77"),
    ("ext1", "2001:db8:c::5"),
    ("ext1", "2001:db8:1::77"),
    ("ext2", "192.0.2.5"),
    ("ext2", "198.51.100.77"),
    ("ext2", "2001:db8:c::5"),
    ("ext2", "2001:db8:2::77"),
    ("ext2", "192.0.2.200"),
    ("eth0", "10.0.0.11"),
    ("eth0", "10.1.0.7"),
    ("eth0", "fd00::11"),
    ("eth0", "10.0.0.1"),
];
/// Where Mappings are.
const EXTERNAL: [&str; 5] =
    ["203.0.113.10", "203.0.113.11", "198.51.100.10", "2001:db8:1::10", "2001:db8:2::10"];
/// Where none is.
const ELSEWHERE: [&str; 8] = [
    "203.0.113.12",
    "10.0.0.2",
    "fd00::2",
    "10.0.0.12",
    "fd00::12",
    "203.0.113.77",
    "9.9.9.9",
    "2001:db8:f::9",
];
/// Protocols and ports; most are some Mapping's.
const PORTS: [(Protocol, u16); 16] = [
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Tcp, 90),
    (Protocol::Tcp, 92),
    (Protocol::Tcp, 99),
    (Protocol::Tcp, 1000),
    (Protocol::Tcp, 1001),
    (Protocol::Udp, 5000),
    (Protocol::Udp, 5001),
    (Protocol::Udp, 5002),
    (Protocol::Udp, 5003),
    (Protocol::Udp, 6000),
    (Protocol::Udp, 6003),
    (Protocol::Udp, 53),
    (Protocol::Sctp, 80),
    (Protocol::Sctp, 81),
];

/// What went over the links in this round, as memory for replies, repetitions and errors.
#[derive(Default)]
pub(crate) struct Memory {
    sent: Vec<(&'static str, Packet)>,
    left: Vec<Seen>,
}

impl Memory {
    pub(crate) fn keep(&mut self, interface: &'static str, packet: Packet, left: &[Seen]) {
        self.sent.push((interface, packet));
        self.left.extend(left.iter().cloned());
    }
}

/// An interface and what comes in by it.
pub(crate) fn packet(dice: &mut Dice, memory: &Memory) -> (&'static str, Packet) {
    let known = !memory.sent.is_empty() && !memory.left.is_empty();
    let (interface, mut packet) = match dice.below(20) {
        8..=13 if known => reply(dice, memory),
        14..=16 if known => again(dice, memory),
        17 | 18 if known => error(dice, memory),
        _ => opening(dice),
    };
    if dice.one_in(25) {
        packet.ttl = 1;
    }
    let elsewhere = dice.one_in(40);
    (if elsewhere { *dice.pick(&["ext1", "ext2", "eth0"]) } else { interface }, packet)
}

fn opening(dice: &mut Dice) -> (&'static str, Packet) {
    let client = dice.below(CLIENTS.len());
    let (interface, source) = CLIENTS[client];
    let (source, elsewhere) = (ip(source), dice.one_in(6));
    let all: Vec<IpAddr> = EXTERNAL.iter().chain(&ELSEWHERE).map(|t| ip(t)).collect();
    let fits =
        |at: &usize| all[*at].is_ipv4() == source.is_ipv4() && (*at >= EXTERNAL.len()) == elsewhere;
    let targets: Vec<usize> = (0..all.len()).filter(fits).collect();
    let (target, port) = (*dice.pick(&targets), dice.below(PORTS.len()));
    // A client's port belongs to one target: two connections never meet in one translated tuple,
    // where the kernel would draw a port among 64,512.
    let number = (client * all.len() + target) * PORTS.len() + port;
    let number = u16::try_from(number * 2 + dice.below(2)).expect("14 · 13 · 16 · 2 ports");
    let (from, to, protocol) =
        ((source, FIRST_CLIENT_PORT + number), (all[target], PORTS[port].1), PORTS[port].0);
    let packet = match dice.below(24) {
        0 | 1 => Packet::ping(source, to.0, from.1),
        2 => {
            let strays = [TcpFlags::ACK, TcpFlags::RST, TcpFlags::SYN_ACK, TcpFlags::FIN_ACK];
            Packet::tcp(from, to, *dice.pick(&strays))
        }
        _ => Packet::opening(protocol, from, to),
    };
    (interface, packet)
}

/// What the receiver of a packet that left answers.
fn reply(dice: &mut Dice, memory: &Memory) -> (&'static str, Packet) {
    let seen = dice.pick(&memory.left);
    let packet = seen.packet;
    let payload = match packet.payload {
        Payload::Tcp { source, destination, flags } => {
            let flags = if flags.syn() && !flags.ack() && !dice.one_in(5) {
                *dice.pick(&[TcpFlags::SYN_ACK, TcpFlags::SYN_ACK, TcpFlags::RST_ACK])
            } else {
                *dice.pick(&[TcpFlags::ACK, TcpFlags::ACK, TcpFlags::FIN_ACK, TcpFlags::RST])
            };
            Payload::Tcp { source: destination, destination: source, flags }
        }
        Payload::Udp { source, destination } => {
            Payload::Udp { source: destination, destination: source }
        }
        Payload::Sctp { source, destination, chunk } => {
            let chunk = match chunk {
                SctpChunk::Init => SctpChunk::InitAck,
                SctpChunk::InitAck => SctpChunk::CookieEcho,
                SctpChunk::CookieEcho => SctpChunk::CookieAck,
                _ => SctpChunk::Data,
            };
            Payload::Sctp { source: destination, destination: source, chunk }
        }
        Payload::Icmp(Icmp::Echo { reply: false, id }) => {
            Payload::Icmp(Icmp::Echo { reply: true, id })
        }
        Payload::Icmp(_) => return opening(dice),
    };
    (by(&seen.interface), Packet::new(packet.destination, packet.source, payload))
}

/// A sender goes on.
fn again(dice: &mut Dice, memory: &Memory) -> (&'static str, Packet) {
    let (interface, mut packet) = *dice.pick(&memory.sent);
    if let Payload::Tcp { flags, .. } = &mut packet.payload {
        *flags = *dice.pick(&[
            TcpFlags::ACK,
            TcpFlags::ACK,
            TcpFlags::ACK,
            TcpFlags::FIN_ACK,
            TcpFlags::RST,
            TcpFlags::SYN,
        ]);
    }
    packet.ttl = 64;
    (interface, packet)
}

/// Somebody on the way complains about a packet that left.
fn error(dice: &mut Dice, memory: &Memory) -> (&'static str, Packet) {
    let seen = dice.pick(&memory.left);
    if seen.packet.is_icmp_error() {
        return opening(dice);
    }
    let error = *dice.pick(&[
        IcmpError::PortUnreachable,
        IcmpError::HostUnreachable,
        IcmpError::TooBig,
        IcmpError::TimeExceeded,
    ]);
    let router = match (seen.interface.as_str(), seen.packet.family()) {
        ("ext1", Family::V4) => "203.0.113.1",
        ("ext1", Family::V6) => "2001:db8:1::1",
        ("ext2", Family::V4) => "198.51.100.1",
        ("ext2", Family::V6) => "2001:db8:2::1",
        (_, Family::V4) => "10.0.0.1",
        (_, Family::V6) => "fd00::1",
    };
    let by_end = error == IcmpError::PortUnreachable;
    let source = if by_end { seen.packet.destination } else { ip(router) };
    let message = Icmp::Error { error, quoted: Quoted::of(&seen.packet) };
    (by(&seen.interface), Packet::new(source, seen.packet.source, Payload::Icmp(message)))
}

fn by(interface: &str) -> &'static str {
    ["ext1", "ext2", "eth0"].into_iter().find(|name| *name == interface).expect("an interface")
}
