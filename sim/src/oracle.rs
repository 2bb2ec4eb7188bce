//! What must happen to the first packet of a connection, computed from the Snapshot and the
//! traffic contract alone: naive, slow, and sharing no code with compilation and lowering.

mod claims;
mod mappings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smartnat_core::model::{
    Family, GatewayConfig, HostState, ObjectKey, Protocol, ServiceEndpoint, Snapshot,
};

pub use claims::owning_mappings;
use mappings::{Exposed, ExposedPort, exposed};

/// Where a packet comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// It arrives on this interface.
    Interface(String),
    /// A process of the host sends it.
    Local,
}

/// The first packet of a would-be connection, valid in itself (TCP: a SYN).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    /// Where it comes from.
    pub origin: Origin,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What it carries.
    pub kind: ProbeKind,
}

/// What a probe carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// The first packet of a transport connection.
    Transport {
        /// Its protocol.
        protocol: Protocol,
        /// Its destination port.
        port: u16,
    },
    /// An ICMP or `ICMPv6` echo request.
    Echo,
}

/// What the contract says must happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expectation {
    /// T1: it goes to one of these endpoints.
    Translated {
        /// The Mapping that says so.
        mapping: ObjectKey,
        /// Any of them (T8); the port is that of the endpoint for the asked port (T5).
        endpoints: BTreeSet<ServiceEndpoint>,
        /// T7, T12: the endpoint sees an address of the gateway instead of the client's.
        masqueraded: bool,
        /// T11: the uplink by which replies leave; absent: it did not come from one.
        reply_uplink: Option<String>,
    },
    /// T2: silence, and no socket of the host sees it.
    Refused {
        /// The Mapping whose sources do not have it.
        mapping: ObjectKey,
    },
    /// T6: a reset or port unreachable.
    NobodyHome {
        /// The Mapping whose port waits.
        mapping: ObjectKey,
    },
    /// T3, T4: silence.
    Dropped,
    /// It reaches the host itself: a socket, or its ICMP.
    Host,
    /// T13: it leaves by this uplink from this address.
    Egress {
        /// The external address.
        address: IpAddr,
        /// The uplink that holds it.
        uplink: String,
    },
    /// The contract says nothing about it: the host routes it as it would without us.
    Unconcerned,
}

/// A connection that a Mapping let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Established {
    /// Who opened it.
    pub client: IpAddr,
    /// The external address that it was opened to.
    pub external: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The external port.
    pub port: u16,
    /// Where its packets go.
    pub endpoint: ServiceEndpoint,
}

/// What must happen to `probe` on the host of `snapshot`. `forwarding_was_off`: it was we who
/// switched forwarding on for this family.
pub fn expect(snapshot: &Snapshot, probe: &Probe, forwarding_was_off: bool) -> Expectation {
    let off = forwarding_was_off.then_some(Family::of(&probe.source));
    Oracle::new(snapshot.clone(), off.into_iter().collect()).expect(probe)
}

/// A snapshot, read once for many questions.
#[derive(Clone, Debug)]
pub struct Oracle {
    host: HostState,
    config: GatewayConfig,
    /// Families in which it was we who switched forwarding on.
    closed: BTreeSet<Family>,
    /// Uplinks; whether transit and guard concern them.
    uplinks: BTreeMap<String, bool>,
    exposed: Vec<Exposed>,
}

impl Oracle {
    /// `closed`: families in which it was we who switched forwarding on.
    pub fn new(snapshot: Snapshot, closed: BTreeSet<Family>) -> Self {
        let Snapshot { cluster, host, config } = snapshot;
        let uplinks = uplinks(&host, &config);
        let exposed = exposed(&cluster, &config, |a| holder(&host, &uplinks, a).is_some());
        Self { host, config, closed, uplinks, exposed }
    }

    /// What must happen to `probe`.
    pub fn expect(&self, probe: &Probe) -> Expectation {
        if let Some(found) = self.inbound(probe) {
            return found;
        }
        if self.is_own_address(probe.destination) {
            return self.to_host(probe);
        }
        self.through(probe)
    }

    /// Whether a connection that stands may go on (T9, T10).
    pub fn permits(&self, connection: &Established) -> bool {
        let Established { client, external, protocol, port, endpoint } = *connection;
        self.owner(external, protocol, port)
            .is_some_and(|(mapping, found)| mapping.allows(client) && found.keeps(port, endpoint))
    }

    /// The Mappings whose traffic is the same in both snapshots.
    pub fn unchanged(&self, other: &Self) -> BTreeSet<ObjectKey> {
        self.exposed.iter().filter(|m| other.exposed.contains(m)).map(|m| m.key.clone()).collect()
    }

    /// The uplinks.
    pub fn uplinks(&self) -> impl Iterator<Item = &str> {
        self.uplinks.keys().map(String::as_str)
    }

    fn owner(
        &self,
        address: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Option<(&Exposed, &ExposedPort)> {
        self.exposed.iter().find_map(|mapping| {
            let here = mapping.local.contains(&address);
            let port = mapping.ports.iter().find(|p| p.protocol == protocol && p.has(port))?;
            here.then_some((mapping, port))
        })
    }

    fn uplink_in<'p>(&self, probe: &'p Probe) -> Option<&'p str> {
        match &probe.origin {
            Origin::Interface(name) => self.uplinks.contains_key(name).then_some(name.as_str()),
            Origin::Local => None,
        }
    }

    /// T1, T2, T5, T6, T12.
    fn inbound(&self, probe: &Probe) -> Option<Expectation> {
        let ProbeKind::Transport { protocol, port } = probe.kind else { return None };
        let (mapping, found) = self.owner(probe.destination, protocol, port)?;
        let key = mapping.key.clone();
        // The host neither answers nor keeps silent for a link that is down: it has no such address.
        let answers = self.is_own_address(probe.destination);
        let without = |found| if answers { found } else { Expectation::Unconcerned };
        if !mapping.allows(probe.source) {
            return Some(without(Expectation::Refused { mapping: key }));
        }
        let endpoints = found.endpoints_for(port, Family::of(&probe.destination));
        if endpoints.is_empty() {
            return Some(without(Expectation::NobodyHome { mapping: key }));
        }
        let reply_uplink = self.uplink_in(probe).map(str::to_owned);
        Some(Expectation::Translated {
            mapping: key,
            endpoints,
            masqueraded: mapping.masquerade || reply_uplink.is_none(),
            reply_uplink,
        })
    }

    /// T3.
    fn to_host(&self, probe: &Probe) -> Expectation {
        let guarded = self.config.guard && self.uplink_in(probe).is_some_and(|n| self.uplinks[n]);
        let echo = probe.kind == ProbeKind::Echo;
        // What the host answers to a pod finds no way back while the pod's own uplink is down.
        let from_uplink = self.uplink_in(probe).is_some();
        let stranded = self.egress_of(probe.source).is_some_and(|(_, u)| !self.host.links[&u].up);
        match () {
            () if guarded && !echo => Expectation::Dropped,
            () if !from_uplink && stranded => Expectation::Unconcerned,
            () => Expectation::Host,
        }
    }

    /// T4, T13.
    fn through(&self, probe: &Probe) -> Expectation {
        if probe.origin == Origin::Local {
            return Expectation::Unconcerned;
        }
        let uplink_in = self.uplink_in(probe);
        if uplink_in.is_some_and(|name| self.uplinks[name]) {
            return Expectation::Dropped;
        }
        let route = self.host.route_to(probe.destination);
        let inside = route.is_some_and(|r| {
            r.destination.prefix_len() != 0 && !self.only_uplinks_lead_to(probe.destination)
        });
        if uplink_in.is_none()
            && !inside
            && let Some((address, uplink)) = self.egress_of(probe.source)
        {
            let up = self.host.links.get(&uplink).is_some_and(|link| link.up);
            return if up { Expectation::Egress { address, uplink } } else { Expectation::Dropped };
        }
        match route {
            Some(route) if self.uplinks.get(&route.interface) == Some(&true) => {
                Expectation::Dropped
            }
            _ if self.closed.contains(&Family::of(&probe.source)) => Expectation::Dropped,
            _ => Expectation::Unconcerned,
        }
    }

    /// The oldest Mapping with egress that lists the pod, and its first local address of the family.
    fn egress_of(&self, pod: IpAddr) -> Option<(IpAddr, String)> {
        let family = Family::of(&pod);
        let mut by_age: Vec<&Exposed> = self.exposed.iter().filter(|m| m.egress).collect();
        by_age.sort_by_key(|m| (m.created.is_none(), m.created, m.key.clone()));
        by_age.into_iter().find_map(|mapping| {
            let address = mapping.local.iter().find(|a| Family::of(a) == family)?;
            let lists = mapping.ports.iter().any(|p| p.lists(pod));
            let uplink = holder(&self.host, &self.uplinks, *address)?;
            lists.then_some((*address, uplink))
        })
    }

    /// A link that is down takes nothing in.
    fn is_own_address(&self, address: IpAddr) -> bool {
        let up = self.host.links.values().filter(|link| link.up);
        address.is_loopback() || up.flat_map(|l| &l.addresses).any(|a| a.address.addr() == address)
    }

    /// A subnet on an uplink's link that no other kind of interface shares.
    fn only_uplinks_lead_to(&self, address: IpAddr) -> bool {
        let on_link = |uplinks: bool| {
            self.host
                .links
                .iter()
                .filter(|(name, _)| (self.uplinks.get(*name) == Some(&true)) == uplinks)
                .flat_map(|(_, link)| &link.addresses)
                .any(|a| !a.link_local && a.address.contains(&address))
        };
        on_link(true) && !on_link(false)
    }
}

/// The uplink that holds an address.
fn holder(host: &HostState, uplinks: &BTreeMap<String, bool>, address: IpAddr) -> Option<String> {
    host.links
        .iter()
        .filter(|(name, _)| uplinks.contains_key(*name))
        .find(|(_, link)| {
            link.addresses.iter().any(|a| !a.link_local && a.address.addr() == address)
        })
        .map(|(name, _)| name.clone())
}

/// Section 5: by pattern or by name; the default route's interface by name only.
fn uplinks(host: &HostState, config: &GatewayConfig) -> BTreeMap<String, bool> {
    let pattern = regex_lite::Regex::new(&format!("^(?:{})$", config.uplink_pattern));
    let by_pattern = |name: &str| {
        !config.uplink_pattern.is_empty() && pattern.as_ref().is_ok_and(|p| p.is_match(name))
    };
    let administrative = config
        .default_interface
        .as_deref()
        .or_else(|| Family::ALL.into_iter().find_map(|f| host.default_interface(f)));
    let is_uplink = |name: &str| {
        let named = config.uplink_names.iter().any(|n| n == name);
        name != "lo" && (named || (by_pattern(name) && administrative != Some(name)))
    };
    host.links
        .keys()
        .filter(|name| is_uplink(name))
        .map(|name| {
            let dedicated = administrative != Some(name) || config.guard_default_interface;
            (name.clone(), dedicated)
        })
        .collect()
}
