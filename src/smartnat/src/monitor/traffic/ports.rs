//! Which Mapping a connection belongs to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smartnat_core::model::{ObjectKey, PortRange, Protocol};
use smartnat_core::objects::FlowTuple;
use smartnat_core::status::StatusReport;

/// External ports by address and protocol.
pub(super) struct Ports<'a>(BTreeMap<(IpAddr, u8), Vec<(PortRange, &'a ObjectKey)>>);

impl<'a> Ports<'a> {
    pub(super) fn of(report: &'a StatusReport) -> Self {
        let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, mapping) in &report.mappings {
            for port in &mapping.ports {
                let Some((protocol, range)) = parse(&port.port) else { continue };
                for address in mapping.configured_addresses.keys() {
                    let list = ports.entry((*address, protocol.number())).or_default();
                    list.push((range, key));
                }
            }
        }
        for list in ports.values_mut() {
            list.sort_by_key(|(range, _)| *range);
        }
        Self(ports)
    }

    /// The Mapping of a connection's first packet.
    pub(super) fn owner(&self, original: &FlowTuple) -> Option<&'a ObjectKey> {
        self.at(original.destination, original.protocol, original.destination_port())
    }

    /// The Mapping of an external endpoint. Ranges on one address never overlap (T19).
    pub(super) fn at(&self, address: IpAddr, protocol: u8, port: u16) -> Option<&'a ObjectKey> {
        let list = self.0.get(&(address, protocol))?;
        let after = list.partition_point(|(range, _)| range.first() <= port);
        let (range, key) = list.get(after.checked_sub(1)?)?;
        range.contains(port).then_some(*key)
    }
}

/// `tcp/8080` or `udp/5060-5080`, the form of a status.
fn parse(text: &str) -> Option<(Protocol, PortRange)> {
    let (protocol, ports) = text.split_once('/')?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range = PortRange::new(first.parse().ok()?, last.parse().ok()?)?;
    Some((protocol.parse().ok()?, range))
}
