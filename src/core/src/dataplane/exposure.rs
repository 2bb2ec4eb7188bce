//! What is exposed on which external endpoint: found without a look at all Mappings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Before, Dataplane, MappingPlane};
use crate::model::{ObjectKey, PortRange, Protocol};

/// A port or range of a Mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Exposed {
    /// External ports.
    pub(crate) ports: PortRange,
    /// The Mapping.
    pub(crate) mapping: ObjectKey,
    /// Position among the Mapping's ports.
    pub(crate) position: usize,
}

/// All that is exposed. Ranges are disjoint in a dataplane without violations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Exposure {
    /// By address, protocol and first port.
    #[serde(with = "crate::objects::pairs")]
    ports: BTreeMap<(IpAddr, Protocol, u16), Exposed>,
}

impl Exposure {
    /// Indexes a dataplane.
    pub(crate) fn new(dataplane: &Dataplane) -> Self {
        let mappings = dataplane.mappings.iter();
        Self { ports: mappings.flat_map(|(key, plane)| endpoints(key, plane)).collect() }
    }

    /// Follows a change that was made.
    pub(crate) fn change(&mut self, before: &Before, dataplane: &Dataplane) {
        for (key, plane) in &before.mappings {
            for (at, _) in plane.iter().flat_map(|plane| endpoints(key, plane)) {
                self.ports.remove(&at);
            }
        }
        for key in before.mappings.keys() {
            if let Some(plane) = dataplane.mappings.get(key) {
                self.add(key, plane);
            }
        }
    }

    fn add(&mut self, key: &ObjectKey, plane: &MappingPlane) {
        self.ports.extend(endpoints(key, plane));
    }

    /// Who has this port.
    pub(crate) fn find(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<&Exposed> {
        let upto = (address, protocol, 0)..=(address, protocol, port);
        let (_, found) = self.ports.range(upto).next_back()?;
        found.ports.contains(port).then_some(found)
    }

    /// Who has any of these ports.
    pub(crate) fn overlapping(
        &self,
        address: IpAddr,
        protocol: Protocol,
        ports: PortRange,
    ) -> impl Iterator<Item = &Exposed> {
        let at = |port| (address, protocol, port);
        let before = self.ports.range(at(0)..at(ports.first())).next_back();
        let inside = self.ports.range(at(ports.first())..=at(ports.last()));
        let all = before.into_iter().chain(inside).map(|(_, exposed)| exposed);
        all.filter(move |exposed| exposed.ports.overlaps(ports))
    }
}

fn endpoints(
    key: &ObjectKey,
    plane: &MappingPlane,
) -> impl Iterator<Item = ((IpAddr, Protocol, u16), Exposed)> {
    plane.addresses.iter().flat_map(move |address| {
        plane.ports.iter().enumerate().map(move |(position, port)| {
            let exposed = Exposed { ports: port.ports, mapping: key.clone(), position };
            ((*address, port.protocol, port.ports.first()), exposed)
        })
    })
}
