//! What Mappings put into the table: elements of their own, and what they share with equal ones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::assemble::Key;
use super::names::{NOBODY_HOME, NOBODY_MAY, RESTRICTED_TARGETS, TARGETS, of_family, target};
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

impl Shared {
    /// The elements that lead to its chain, by the chain's name.
    pub(super) fn targets(&self) -> Vec<(NftName, NftKey, NftElement)> {
        let (chain, maps) = match self {
            Self::Spread(shape) => (shape.chain(), &[TARGETS, RESTRICTED_TARGETS][..]),
            Self::Sources(family, networks) => (sources_chain(*family, networks), &[TARGETS][..]),
            Self::Shift(..) => return Vec::new(),
        };
        let key = NftKey::exact(target(chain.as_str()));
        let goto = element(NftValue::Verdict(NftVerdict::Goto(chain)));
        maps.iter().map(|map| ((*map).into(), key.clone(), goto.clone())).collect()
    }
}

/// The key of an external endpoint; of a range: by its first port.
pub(super) fn external_endpoint(key: Key, range: bool) -> Key {
    let (from, family) = (key.count(), key.family());
    let key = if range && key.end().0 == 0 { key.skip(1) } else { key };
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
        let allowed: NftName = if endpoints.is_empty() {
            NOBODY_HOME.into()
        } else {
            let shape = part.shape(endpoints);
            let chain = shape.chain();
            if let Ports::Shifted(shift) = shape.ports {
                self.shared.insert(Shared::Shift(shift, part.ports));
            }
            self.add_endpoints(part, endpoints);
            self.shared.insert(Shared::Spread(shape));
            chain
        };
        let networks = part.mapping.sources.of(family);
        let first = if networks.is_empty() {
            NOBODY_MAY.into()
        } else if part.mapping.sources.is_everyone(family) {
            allowed
        } else {
            self.shared.insert(Shared::Sources(family, networks.to_vec()));
            self.add_target(sets::RESTRICTED, part, &allowed);
            sources_chain(family, networks)
        };
        self.add_target(sets::SERVICES, part, &first);
    }

    fn add_target(&mut self, map: &str, part: &Part<'_>, chain: &NftName) {
        let value = sets::after_padding(&target(chain.as_str()));
        let element = NftElement { value, comment: Some(part.comment.into()) };
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
        let mut numbers = BTreeSet::new();
        for (position, endpoint) in (0_u32..).zip(endpoints) {
            let address = fields::address(endpoint.address);
            let value = if ranged {
                fields::join([&address])
            } else {
                fields::join([&address, &endpoint.port.to_be_bytes()])
            };
            let key = |number| (part.family(), part.external.numbered(number));
            if part.port.affinity_seconds.is_none() {
                self.add(map, key(position), NftValue::Bytes(value));
                continue;
            }
            let number = number_of(&value, &mut numbers);
            let bytes = NftValue::Bytes(number.to_ne_bytes().into());
            self.add(sets::POSITIONS, key(position), bytes);
            self.add(members, key(number), NftValue::Bytes(value));
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

    fn numbered(&self, number: u32) -> NftKey {
        let mut bytes = number.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&self.key());
        NftKey::exact(bytes)
    }

    fn interval(&self, ports: PortRange) -> (Family, NftKey) {
        let key = NftKey::interval(self.with_port(ports.first()), self.with_port(ports.last()));
        (Family::of(&self.address), key)
    }

    fn base(&self) -> NftValue {
        sets::after_padding(&self.key())
    }
}

/// The number that stands for an endpoint among those of an external endpoint: it has to be the same
/// when others come and go, or clients would be held to another one.
fn number_of(endpoint: &[u8], taken: &mut BTreeSet<u32>) -> u32 {
    let mut number = names::digest_number(endpoint);
    while !taken.insert(number) {
        number = number.wrapping_add(1);
    }
    number
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
