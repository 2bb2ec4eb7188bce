//! What must become of a first packet, from the verdicts of admission and resolution alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use smartnat_core::compile::Compiled;
use smartnat_core::model::{Family, HostState, Protocol, ServiceEndpoint};
use smartnat_sim::SimKernel;

use crate::common::walk::{Fate, Packet, fates};
use crate::common::*;

/// Client, external address, protocol, port.
pub(crate) type Probe = (IpAddr, IpAddr, Protocol, u16);

/// Every client to every address, protocol and port that a generated Mapping may have.
pub(crate) fn probes() -> Vec<Probe> {
    let clients = ["192.0.2.5", "192.0.2.200", "198.18.0.1", "2001:db8:c::5", "2001:db8:d::5"];
    let ports = [
        (Protocol::Tcp, 80),
        (Protocol::Tcp, 81),
        (Protocol::Tcp, 90),
        (Protocol::Tcp, 99),
        (Protocol::Udp, 5000),
        (Protocol::Udp, 5002),
        (Protocol::Udp, 6003),
        (Protocol::Udp, 80),
        (Protocol::Sctp, 80),
    ];
    let mut probes = Vec::new();
    for client in clients.map(ip) {
        for address in [EXT1, EXT1_B, EXT1_V6, EXT2, EXT2_V6].map(ip) {
            if Family::of(&client) == Family::of(&address) {
                probes.extend(ports.map(|(protocol, port)| (client, address, protocol, port)));
            }
        }
    }
    probes
}

/// What the kernel does with each probe. The uplink's number makes no difference to a client
/// from outside, as long as there is one.
pub(crate) fn all_fates(kernel: &SimKernel) -> BTreeMap<Probe, BTreeSet<Fate>> {
    let fate = |(source, destination, protocol, port): Probe| {
        let packet = Packet { uplink: ("ext1", 1), source, destination, protocol, port };
        fates(kernel, packet)
    };
    probes().into_iter().map(|probe| (probe, fate(probe))).collect()
}

/// The addresses that the host has on uplinks.
pub(crate) fn external(host: &HostState) -> BTreeSet<IpAddr> {
    let uplinks = host.links.iter().filter(|(name, _)| name.starts_with("ext"));
    let addresses = uplinks.flat_map(|(_, link)| &link.addresses).filter(|a| !a.link_local);
    addresses.map(|a| a.address.addr()).collect()
}

/// T1, T2, T5, T6, T9, T19.
pub(crate) fn expected(
    compiled: &Compiled,
    external: &BTreeSet<IpAddr>,
    (client, address, protocol, number): Probe,
) -> BTreeSet<Fate> {
    let family = Family::of(&address);
    let mut owners = compiled.admission.accepted.values().filter_map(|mapping| {
        let position = mapping
            .ports
            .iter()
            .position(|p| p.protocol == protocol && p.ports.contains(number))?;
        let here = mapping.addresses.contains(&address) && external.contains(&address);
        here.then_some((mapping, position))
    });
    let Some((mapping, position)) = owners.next() else {
        return BTreeSet::from([Fate::Untouched]);
    };
    assert!(owners.next().is_none(), "P3: {address} {protocol}/{number} has two owners");
    if !mapping.sources.allows(client) {
        return BTreeSet::from([Fate::Refused]);
    }
    let offset = number - mapping.ports[position].ports.first();
    let active = &compiled.resolved[&mapping.key][position].families.of(family).active;
    if active.is_empty() {
        return BTreeSet::from([Fate::NobodyHome]);
    }
    let target = |e: &ServiceEndpoint| ServiceEndpoint { port: e.port + offset, ..*e };
    active.iter().map(|e| Fate::Endpoint(target(e))).collect()
}
