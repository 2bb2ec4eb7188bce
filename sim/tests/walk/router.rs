//! A router between `left` and `right` with rules given as `iptables-save` prints them.

use std::net::IpAddr;

use smartnat_core::model::Family;
use smartnat_core::objects::{
    BuiltinHook, ChainName, SysctlKey, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_core::xtables_text::parse_rule;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::walk::{DropCause, Outcome, Packet, TcpFlags, Trace};
use smartnat_sim::{SimHost, SimKernel};

/// The client's side: 192.0.2.0/24, `2001:db8:2::/64`, the router is `.1`.
pub(crate) const LEFT: &str = "left";
/// The server's side: 10.0.0.0/24, `fd00::/64`, the router is `.1`.
pub(crate) const RIGHT: &str = "right";

/// Addresses as one family sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    pub(crate) family: Family,
    pub(crate) client: &'static str,
    pub(crate) other_client: &'static str,
    pub(crate) external: &'static str,
    pub(crate) server: &'static str,
    pub(crate) other_server: &'static str,
    pub(crate) inside: &'static str,
}

/// Both families.
pub(crate) const SIDES: [Side; 2] = [
    Side {
        family: Family::V4,
        client: "192.0.2.10",
        other_client: "192.0.2.11",
        external: "192.0.2.1",
        server: "10.0.0.10",
        other_server: "10.0.0.11",
        inside: "10.0.0.1",
    },
    Side {
        family: Family::V6,
        client: "2001:db8:2::10",
        other_client: "2001:db8:2::11",
        external: "2001:db8:2::1",
        server: "fd00::10",
        other_server: "fd00::11",
        inside: "fd00::1",
    },
];

/// The router, forwarding, without any rule.
pub(crate) fn router() -> SimHost {
    let mut kernel = SimKernel::new(XtFlavour::Nft);
    for (name, addresses) in
        [(LEFT, ["192.0.2.1/24", "2001:db8:2::1/64"]), (RIGHT, ["10.0.0.1/24", "fd00::1/64"])]
    {
        kernel.add_link(name);
        for address in addresses {
            kernel.add_address(name, address);
        }
    }
    for family in Family::ALL {
        set(&mut kernel, &SysctlKey::Forwarding(family), "1");
    }
    SimHost::new(kernel, 1)
}

/// Sets a sysctl.
pub(crate) fn set(kernel: &mut SimKernel, key: &SysctlKey, value: &str) {
    kernel.write_sysctl(key, value).expect("a sysctl");
}

/// An address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Appends rules as `table CHAIN rule`; chains come into being on first mention.
pub(crate) fn rules(host: &mut SimHost, family: Family, lines: &[&str]) {
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (table, chain, text) = (words.next(), words.next(), words.next());
        let table = match table.expect("a table") {
            "mangle" => XtTable::Mangle,
            "nat" => XtTable::Nat,
            "raw" => XtTable::Raw,
            _ => XtTable::Filter,
        };
        let (id, chain) = (XtTableId { family, table }, chain.expect("a chain"));
        let rule = parse_rule(family, text.expect("a rule"), |name| name.starts_with("X-"))
            .unwrap_or_else(|| XtRule::new(XtTarget::Unknown((*line).into())));
        for name in std::iter::once(chain).chain(rule.jump_target().map(|c| c.0.as_str())) {
            declare(host, id, name);
        }
        host.kernel.foreign_append(id, chain, &rule);
    }
}

fn declare(host: &mut SimHost, id: XtTableId, chain: &str) {
    let name = ChainName(chain.into());
    let there = host.kernel.xtables().table(id).is_some_and(|table| table.chain(&name).is_some());
    if !there && !BuiltinHook::ALL.iter().any(|hook| hook.name() == chain) {
        let ops = vec![NetworkOp::PutChain { chain: name, rules: Vec::new() }];
        let domain = Domain::Xtables(id);
        host.kernel.interfere(&Transaction { domain, ops }).expect("a chain");
    }
}

/// The packet as it left, and by which interface.
#[track_caller]
pub(crate) fn left(trace: &Trace) -> (&str, Packet) {
    match &trace.outcome {
        Outcome::Left { interface, packet, .. } => (interface, *packet),
        _ => panic!("it did not leave:\n{trace}"),
    }
}

/// The one answer that left, and by which interface.
#[track_caller]
pub(crate) fn answered(trace: &Trace) -> (&str, Packet) {
    match trace.answers.as_slice() {
        [answer] => left(answer),
        _ => panic!("not one answer:\n{trace}"),
    }
}

/// What the router answered or forwarded, as source and destination with their ports.
pub(crate) fn ends(packet: &Packet) -> (std::net::SocketAddr, std::net::SocketAddr) {
    let (source, destination) = packet.ports().unwrap_or_default();
    let end = std::net::SocketAddr::new;
    (end(packet.source, source), end(packet.destination, destination))
}

/// Address and port as iptables and tests write them.
pub(crate) fn at(address: &str, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip(address), port)
}

/// A datagram.
pub(crate) fn udp(from: (&str, u16), to: (&str, u16)) -> Packet {
    Packet::opening(smartnat_core::model::Protocol::Udp, (ip(from.0), from.1), (ip(to.0), to.1))
}

/// A segment.
pub(crate) fn tcp(from: (&str, u16), to: (&str, u16), flags: TcpFlags) -> Packet {
    Packet::tcp((ip(from.0), from.1), (ip(to.0), to.1), flags)
}

/// The packet that answers one.
pub(crate) fn back(packet: &Packet, flags: TcpFlags) -> Packet {
    let (source, destination) = packet.ports().expect("ports");
    let (from, to) = ((packet.destination, destination), (packet.source, source));
    match packet.tcp_flags() {
        Some(_) => Packet::tcp(from, to, flags),
        None => Packet::opening(smartnat_core::model::Protocol::Udp, from, to),
    }
}

/// Why it was dropped.
#[track_caller]
pub(crate) fn dropped(trace: &Trace) -> &DropCause {
    match &trace.outcome {
        Outcome::Dropped { cause, .. } => cause,
        _ => panic!("it was not dropped:\n{trace}"),
    }
}
