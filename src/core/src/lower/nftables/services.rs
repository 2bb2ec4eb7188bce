//! What Mappings put into the table: elements of their own, and what they share with equal ones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::assemble::Key;
use super::names::{NOBODY_HOME, of_family};
use super::sets::{self, element};
use super::spread::{Ports, Shape};
use crate::dataplane::{MappingPlane, PortPlane};
use crate::model::{Family, ObjectKey, PortRange, Protocol, ServiceEndpoint};
use crate::names;
use crate::objects::nft::{NftElement, NftKey, NftName, NftRule, NftValue, NftVerdict, fields};

/// Something in the table that several Mappings may need.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Shared {
    /// The chain that spreads over so many endpoints.
    Spread(Shape),
    /// The chain and the set of a list of sources.
    Sources(Family, Vec<IpNet>),
    /// Elements of the map of a shift.
    Shift(Shift, PortRange),
}

/// How far the ports of a range are from those of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Shift(pub(super) i32);

/// What one Mapping needs in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// Elements that are its own.
    pub(crate) elements: Vec<(NftName, NftKey, NftElement)>,
    /// What it shares.
    pub(crate) shared: BTreeSet<Shared>,
}

/// An external endpoint, or the first of a range of them.
#[derive(Clone, Copy)]
struct External {
    address: IpAddr,
    protocol: Protocol,
    port: u16,
}

/// The key of an external endpoint; of a range: by its first port.
pub(super) fn external_endpoint(key: Key, range: bool) -> Key {
    let (from, family) = (key.count(), key.family());
    let key = if range && from == 0 { key.skip() } else { key };
    let key = key.destination().protocol().destination_port();
    if range { key.replaced_by(&of_family(sets::RANGES, family), from) } else { key }
}

impl Shift {
    fn of(ports: PortRange, endpoint: ServiceEndpoint) -> Self {
        Self(i32::from(endpoint.port) - i32::from(ports.first()))
    }

    /// The map of external ports to ports of endpoints.
    pub(super) fn map(self) -> NftName {
        let direction = if self.0 < 0 { "down" } else { "up" };
        format!("shift-{direction}-{}", self.0.unsigned_abs()).into()
    }

    /// The element of one port; a port beyond the last is no endpoint's.
    pub(super) fn element(self, port: u16) -> Option<(NftKey, NftElement)> {
        let target = u16::try_from(i32::from(port) + self.0).ok()?;
        let bytes = |port: u16| fields::join([&port.to_be_bytes()]);
        Some((NftKey::exact(bytes(port)), element(NftValue::Bytes(bytes(target)))))
    }
}

impl Pieces {
    /// Of a Mapping in one family; nothing without an address of it.
    pub(crate) fn of(family: Family, key: &ObjectKey, mapping: &MappingPlane) -> Self {
        let mut pieces = Self::default();
        let comment = comment(key);
        for address in mapping.addresses.iter().filter(|a| Family::of(a) == family) {
            for port in &mapping.ports {
                pieces.add_port(*address, &comment, mapping, port);
            }
        }
        pieces
    }

    fn add_port(
        &mut self,
        address: IpAddr,
        comment: &str,
        mapping: &MappingPlane,
        port: &PortPlane,
    ) {
        let family = Family::of(&address);
        let endpoints = port.endpoints.get(&family).map_or(&[][..], |e| &e.active);
        let external = External { address, protocol: port.protocol, port: port.ports.first() };
        let whole = Part { external, ports: port.ports, mapping, port, endpoints, comment };
        if port.ports.is_single() || whole.shifts().len() <= 1 {
            self.add_part(&whole, endpoints);
            return;
        }
        // Endpoints that are shifted unequally: each port by itself.
        for offset in 0..=port.ports.last() - port.ports.first() {
            let number = port.ports.first() + offset;
            let Some(ports) = PortRange::single(number) else { continue };
            let moved: Vec<ServiceEndpoint> = endpoints
                .iter()
                .map(|e| ServiceEndpoint { port: e.port.saturating_add(offset), ..*e })
                .collect();
            let external = External { port: number, ..external };
            self.add_part(&Part { external, ports, ..whole }, &moved);
        }
    }

    fn add_part(&mut self, part: &Part<'_>, endpoints: &[ServiceEndpoint]) {
        let family = part.family();
        let ranged = !part.ports.is_single();
        if ranged {
            self.add(sets::RANGES, part.external.interval(part.ports), part.external.base());
        }
        let final_verdict = if endpoints.is_empty() {
            NftVerdict::Goto(NOBODY_HOME.into())
        } else {
            let shape = part.shape(endpoints);
            let chain = shape.chain();
            if let Ports::Shifted(shift) = shape.ports {
                self.shared.insert(Shared::Shift(shift, part.ports));
            }
            self.add_endpoints(part, endpoints);
            self.shared.insert(Shared::Spread(shape));
            NftVerdict::Goto(chain)
        };
        let networks = part.mapping.sources.of(family);
        let verdict = if networks.is_empty() {
            NftVerdict::Drop
        } else if part.mapping.sources.is_everyone(family) {
            final_verdict
        } else {
            self.shared.insert(Shared::Sources(family, networks.to_vec()));
            self.add_verdict(sets::RESTRICTED, part, final_verdict);
            NftVerdict::Goto(sources_chain(family, networks))
        };
        self.add_verdict(sets::SERVICES, part, verdict);
    }

    fn add_verdict(&mut self, map: &str, part: &Part<'_>, verdict: NftVerdict) {
        let element =
            NftElement { value: NftValue::Verdict(verdict), comment: Some(part.comment.into()) };
        let map = of_family(map, part.family()).into();
        self.elements.push((map, NftKey::exact(part.external.key()), element));
    }

    fn add_endpoints(&mut self, part: &Part<'_>, endpoints: &[ServiceEndpoint]) {
        let ranged = !part.ports.is_single();
        let (map, members) = if ranged {
            (sets::RANGE_ENDPOINTS, sets::RANGE_MEMBERS)
        } else {
            (sets::ENDPOINTS, sets::MEMBERS)
        };
        for (position, endpoint) in (0_u32..).zip(endpoints) {
            let key = part.external.positioned(position);
            let address = fields::address(endpoint.address);
            let value = if ranged {
                fields::join([&address])
            } else {
                fields::join([&address, &endpoint.port.to_be_bytes()])
            };
            if part.port.affinity_seconds.is_some() {
                let mut member = part.external.key().into_vec();
                member.extend_from_slice(&value);
                self.add(members, (part.family(), NftKey::exact(member)), NftValue::Nothing);
            }
            self.add(map, (part.family(), key), NftValue::Bytes(value));
        }
    }

    fn add(&mut self, map: &str, (family, key): (Family, NftKey), value: NftValue) {
        self.elements.push((of_family(map, family).into(), key, element(value)));
    }
}

/// A port of a Mapping on one address, or one of a range's.
#[derive(Clone, Copy)]
struct Part<'a> {
    external: External,
    ports: PortRange,
    mapping: &'a MappingPlane,
    port: &'a PortPlane,
    endpoints: &'a [ServiceEndpoint],
    comment: &'a str,
}

impl Part<'_> {
    fn family(&self) -> Family {
        Family::of(&self.external.address)
    }

    fn shifts(&self) -> BTreeSet<Shift> {
        self.endpoints.iter().map(|e| Shift::of(self.ports, *e)).collect()
    }

    fn shape(&self, endpoints: &[ServiceEndpoint]) -> Shape {
        let ports = match endpoints.first().map(|e| Shift::of(self.ports, *e)) {
            _ if self.ports.is_single() => Ports::Single,
            Some(shift) if shift != Shift(0) => Ports::Shifted(shift),
            _ => Ports::Kept,
        };
        Shape {
            family: self.family(),
            endpoints: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
            masquerade: self.mapping.masquerade,
            ports,
            affinity_seconds: self.port.affinity_seconds,
        }
    }
}

impl External {
    fn key(&self) -> Box<[u8]> {
        self.with_port(self.port)
    }

    fn with_port(&self, port: u16) -> Box<[u8]> {
        let address = fields::address(self.address);
        fields::join([&address, &[self.protocol.number()], &port.to_be_bytes()])
    }

    fn positioned(&self, position: u32) -> NftKey {
        let mut bytes = self.key().into_vec();
        bytes.extend_from_slice(&position.to_ne_bytes());
        NftKey::exact(bytes)
    }

    fn interval(&self, ports: PortRange) -> (Family, NftKey) {
        let key = NftKey::interval(self.with_port(ports.first()), self.with_port(ports.last()));
        (Family::of(&self.address), key)
    }

    fn base(&self) -> NftValue {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&self.key());
        NftValue::Bytes(bytes.into())
    }
}

/// Names the Mapping; what a comment can't hold is replaced, and a long name is cut.
fn comment(key: &ObjectKey) -> String {
    let plain = |c: char| (' '..='~').contains(&c) && !matches!(c, '"' | '\\');
    let text = key.to_string();
    let shown = text.chars().map(|c| if plain(c) { c } else { '?' });
    shown.take(NftRule::MAX_COMMENT).collect()
}

/// The chain that first packets to Mappings with a list of sources come to.
pub(super) fn sources_chain(family: Family, networks: &[IpNet]) -> NftName {
    format!("{}-{}", of_family("from", family), names::sources_digest(networks)).into()
}

/// The set of a list of sources.
pub(super) fn sources_set(family: Family, networks: &[IpNet]) -> NftName {
    format!("{}-{}", of_family("sources", family), names::sources_digest(networks)).into()
}
