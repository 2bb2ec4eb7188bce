//! Throw-away networks as pure descriptions: hosts, segments, routes.
//!
//! The same description is built from network namespaces on Linux and from
//! simulated hosts, so that a scenario written once runs on both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use smartnat_core::model::Family;
use thiserror::Error;

mod standard;
#[cfg(test)]
mod tests;

pub use standard::{StandardOptions, addresses, shared_subnet, single, standard};

/// Longest name of an interface that Linux takes.
const INTERFACE_NAME_MAX: usize = 15;

/// A network: hosts that are attached to segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Machines.
    pub hosts: Vec<Host>,
    /// Links and switches between them.
    pub segments: Vec<Segment>,
    /// Routes beside those that follow from addresses.
    pub routes: Vec<StaticRoute>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name, unique in the topology.
    pub name: String,
    /// Sysctls that differ from a fresh host's, by dotted name; set once its interfaces exist.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

/// One layer-2 network; a cable where two hosts are attached, a switch where more are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its name, unique in the topology.
    pub name: String,
    /// Who is attached.
    pub attachments: Vec<Attachment>,
}

/// An interface of a host on a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Name of the host.
    pub host: String,
    /// Name of the interface on that host.
    pub interface: String,
    /// Addresses with the prefix length of their subnet, host bits kept.
    pub addresses: Vec<IpNet>,
}

/// A route of a host's main table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRoute {
    /// Name of the host.
    pub host: String,
    /// Destination; a default route has prefix length 0.
    pub destination: IpNet,
    /// Next hop, absent for a destination on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Output interface; the one with the next hop's subnet if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What is wrong with a topology.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// Two hosts or two segments of one name.
    #[error("{kind} {name} is described twice")]
    Duplicate {
        /// `host` or `segment`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// An attachment or a route of a host that is not described.
    #[error("{place} names host {host}, which is not described")]
    UnknownHost {
        /// The segment or route that names it.
        place: String,
        /// The host.
        host: String,
    },
    /// A name that the kernel or the file system would not take.
    #[error("{name:?} is no usable {kind} name: lower-case letters, digits and '-', at most {max}")]
    BadName {
        /// What it should name.
        kind: &'static str,
        /// The name.
        name: String,
        /// Most characters that it may have.
        max: usize,
    },
    /// Two interfaces of one name on one host.
    #[error("host {host} has two interfaces {interface}")]
    DuplicateInterface {
        /// The host.
        host: String,
        /// The interface.
        interface: String,
    },
    /// Fewer than two attachments.
    #[error("segment {0} connects fewer than two interfaces")]
    LonelySegment(String),
    /// A route that mixes families, or says neither next hop nor interface.
    #[error("the route of {host} to {destination} {problem}")]
    BadRoute {
        /// The host.
        host: String,
        /// The destination.
        destination: IpNet,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Host {
    /// A host without special settings.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), sysctls: BTreeMap::new() }
    }

    /// The same host with one more sysctl.
    #[must_use]
    pub fn with_sysctl(mut self, key: &str, value: &str) -> Self {
        self.sysctls.insert(key.into(), value.into());
        self
    }

    /// The same host, forwarding both families.
    #[must_use]
    pub fn forwarding(self) -> Self {
        self.with_sysctl("net.ipv4.ip_forward", "1")
            .with_sysctl("net.ipv6.conf.all.forwarding", "1")
    }
}

impl Topology {
    /// Adds a host.
    pub fn add_host(&mut self, host: Host) {
        self.hosts.push(host);
    }

    /// Attaches `interface` of `host` to `segment`, which is made on first mention.
    pub fn attach(&mut self, segment: &str, host: &str, interface: &str, addresses: &[IpNet]) {
        let attachment = Attachment {
            host: host.into(),
            interface: interface.into(),
            addresses: addresses.to_vec(),
        };
        match self.segments.iter_mut().find(|s| s.name == segment) {
            Some(found) => found.attachments.push(attachment),
            None => {
                self.segments.push(Segment { name: segment.into(), attachments: vec![attachment] });
            }
        }
    }

    /// Adds a route of `host` by a next hop.
    pub fn route(&mut self, host: &str, destination: IpNet, gateway: IpAddr) {
        self.routes.push(StaticRoute {
            host: host.into(),
            destination,
            gateway: Some(gateway),
            interface: None,
        });
    }

    /// The interfaces of `host`, in the order of the segments.
    pub fn interfaces<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Attachment> {
        self.segments.iter().flat_map(|s| &s.attachments).filter(move |a| a.host == host)
    }

    /// The addresses of `host`, in the order of the segments.
    pub fn addresses<'a>(&'a self, host: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.interfaces(host).flat_map(|a| &a.addresses).map(IpNet::addr)
    }

    /// Everything that is wrong with it.
    pub fn problems(&self) -> Vec<TopologyError> {
        let mut found = Vec::new();
        let hosts = self.check_names(&mut found);
        self.check_segments(&hosts, &mut found);
        for route in &self.routes {
            if !hosts.contains(route.host.as_str()) {
                found.push(TopologyError::UnknownHost {
                    place: format!("the route to {}", route.destination),
                    host: route.host.clone(),
                });
            }
            if let Some(problem) = route.problem() {
                found.push(TopologyError::BadRoute {
                    host: route.host.clone(),
                    destination: route.destination,
                    problem,
                });
            }
        }
        found
    }

    fn check_names(&self, found: &mut Vec<TopologyError>) -> BTreeSet<&str> {
        let mut hosts = BTreeSet::new();
        for host in &self.hosts {
            check_name("host", &host.name, 32, found);
            if !hosts.insert(host.name.as_str()) {
                found.push(TopologyError::Duplicate { kind: "host", name: host.name.clone() });
            }
        }
        let mut segments = BTreeSet::new();
        for segment in &self.segments {
            check_name("segment", &segment.name, 32, found);
            if !segments.insert(segment.name.as_str()) {
                found
                    .push(TopologyError::Duplicate { kind: "segment", name: segment.name.clone() });
            }
        }
        hosts
    }

    fn check_segments(&self, hosts: &BTreeSet<&str>, found: &mut Vec<TopologyError>) {
        let mut interfaces = BTreeSet::new();
        for segment in &self.segments {
            if segment.attachments.len() < 2 {
                found.push(TopologyError::LonelySegment(segment.name.clone()));
            }
            for attachment in &segment.attachments {
                check_name("interface", &attachment.interface, INTERFACE_NAME_MAX, found);
                if !hosts.contains(attachment.host.as_str()) {
                    found.push(TopologyError::UnknownHost {
                        place: format!("segment {}", segment.name),
                        host: attachment.host.clone(),
                    });
                }
                if !interfaces.insert((&attachment.host, &attachment.interface)) {
                    found.push(TopologyError::DuplicateInterface {
                        host: attachment.host.clone(),
                        interface: attachment.interface.clone(),
                    });
                }
            }
        }
    }
}

impl StaticRoute {
    fn problem(&self) -> Option<&'static str> {
        let family = Family::of(&self.destination.addr());
        match (&self.gateway, &self.interface) {
            (None, None) => Some("names neither a next hop nor an interface"),
            (Some(gateway), _) if Family::of(gateway) != family => {
                Some("has a next hop of the other family")
            }
            _ => None,
        }
    }
}

fn check_name(kind: &'static str, name: &str, max: usize, found: &mut Vec<TopologyError>) {
    let fits = (1..=max).contains(&name.len());
    let clean = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !(fits && clean) || name.starts_with('-') {
        found.push(TopologyError::BadName { kind, name: name.into(), max });
    }
}
