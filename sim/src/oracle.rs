//! What must happen to the first packet of a connection, computed from the Snapshot and the
//! traffic contract alone: naive, slow, and sharing no code with compilation and lowering.

mod mappings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smartnat_core::model::{
    Family, GatewayConfig, HostState, ObjectKey, Protocol, ServiceEndpoint, Snapshot,
};

use mappings::{Exposed, exposed};

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

/// What must happen to `probe` on the host of `snapshot`. `forwarding_was_off`: it was we who
/// switched forwarding on for this family.
pub fn expect(snapshot: &Snapshot, probe: &Probe, forwarding_was_off: bool) -> Expectation {
    let Snapshot { cluster, host, config } = snapshot;
    let exposed = exposed(cluster, host, config);
    if let Some(found) = inbound(&exposed, host, config, probe) {
        return found;
    }
    let uplink_in = match &probe.origin {
        Origin::Interface(name) => is_uplink(name, host, config).then_some(name.as_str()),
        Origin::Local => None,
    };
    if is_own_address(host, probe.destination) {
        return to_host(config, host, uplink_in, probe);
    }
    through(&exposed, snapshot, uplink_in, probe, forwarding_was_off)
}

/// T1, T2, T5, T6, T12.
fn inbound(
    exposed: &[Exposed],
    host: &HostState,
    config: &GatewayConfig,
    probe: &Probe,
) -> Option<Expectation> {
    let ProbeKind::Transport { protocol, port } = probe.kind else { return None };
    let (mapping, found) = exposed.iter().find_map(|mapping| {
        let here = mapping.local.contains(&probe.destination);
        let port = mapping.ports.iter().find(|p| p.protocol == protocol && p.has(port))?;
        here.then_some((mapping, port))
    })?;
    let key = mapping.key.clone();
    if !mapping.allows(probe.source) {
        return Some(Expectation::Refused { mapping: key });
    }
    let endpoints = found.endpoints_for(port, Family::of(&probe.destination));
    if endpoints.is_empty() {
        return Some(Expectation::NobodyHome { mapping: key });
    }
    let reply_uplink = match &probe.origin {
        Origin::Interface(name) if is_uplink(name, host, config) => Some(name.clone()),
        _ => None,
    };
    Some(Expectation::Translated {
        mapping: key,
        endpoints,
        masqueraded: mapping.masquerade || reply_uplink.is_none(),
        reply_uplink,
    })
}

/// T3.
fn to_host(
    config: &GatewayConfig,
    host: &HostState,
    uplink: Option<&str>,
    probe: &Probe,
) -> Expectation {
    let guarded = uplink.is_some_and(|name| config.guard && is_dedicated(name, host, config));
    if guarded && probe.kind != ProbeKind::Echo { Expectation::Dropped } else { Expectation::Host }
}

/// T4, T13.
fn through(
    exposed: &[Exposed],
    snapshot: &Snapshot,
    uplink_in: Option<&str>,
    probe: &Probe,
    forwarding_was_off: bool,
) -> Expectation {
    let Snapshot { host, config, .. } = snapshot;
    if probe.origin == Origin::Local {
        return Expectation::Unconcerned;
    }
    if uplink_in.is_some_and(|name| is_dedicated(name, host, config)) {
        return Expectation::Dropped;
    }
    let leaves_by = host.route_to(probe.destination).map(|r| r.interface.clone());
    let inside = host.route_to(probe.destination).is_some_and(|r| {
        r.destination.prefix_len() != 0 && !only_uplinks_lead_to(host, config, probe.destination)
    });
    if uplink_in.is_none()
        && !inside
        && let Some((address, uplink)) = egress_of(exposed, snapshot, probe.source)
    {
        return Expectation::Egress { address, uplink };
    }
    match leaves_by {
        Some(name) if is_uplink(&name, host, config) && is_dedicated(&name, host, config) => {
            Expectation::Dropped
        }
        _ if forwarding_was_off => Expectation::Dropped,
        _ => Expectation::Unconcerned,
    }
}

/// The oldest Mapping with egress that lists the pod, and its first local address of the family.
fn egress_of(exposed: &[Exposed], snapshot: &Snapshot, pod: IpAddr) -> Option<(IpAddr, String)> {
    let family = Family::of(&pod);
    let mut by_age: Vec<&Exposed> = exposed.iter().filter(|m| m.egress).collect();
    by_age.sort_by_key(|m| (m.created.is_none(), m.created, m.key.clone()));
    by_age.into_iter().find_map(|mapping| {
        let address = mapping.local.iter().find(|a| Family::of(a) == family)?;
        let lists = mapping.ports.iter().any(|p| p.listed.iter().any(|e| e.address == pod));
        let uplink = holder(&snapshot.host, &snapshot.config, *address)?;
        lists.then_some((*address, uplink))
    })
}

fn holder(host: &HostState, config: &GatewayConfig, address: IpAddr) -> Option<String> {
    host.links
        .iter()
        .filter(|(name, _)| is_uplink(name, host, config))
        .find(|(_, link)| {
            link.addresses.iter().any(|a| !a.link_local && a.address.addr() == address)
        })
        .map(|(name, _)| name.clone())
}

/// Section 5: by pattern or by name; the default route's interface by name only.
fn is_uplink(name: &str, host: &HostState, config: &GatewayConfig) -> bool {
    let named = config.uplink_names.iter().any(|n| n == name);
    let by_pattern = !config.uplink_pattern.is_empty()
        && regex_lite::Regex::new(&format!("^(?:{})$", config.uplink_pattern))
            .is_ok_and(|r| r.is_match(name));
    let known = host.links.contains_key(name) && name != "lo";
    known && (named || (by_pattern && administrative(host, config) != Some(name)))
}

fn is_dedicated(name: &str, host: &HostState, config: &GatewayConfig) -> bool {
    administrative(host, config) != Some(name) || config.guard_default_interface
}

fn administrative<'a>(host: &'a HostState, config: &'a GatewayConfig) -> Option<&'a str> {
    config
        .default_interface
        .as_deref()
        .or_else(|| Family::ALL.into_iter().find_map(|f| host.default_interface(f)))
}

fn is_own_address(host: &HostState, address: IpAddr) -> bool {
    address.is_loopback()
        || host.links.values().flat_map(|l| &l.addresses).any(|a| a.address.addr() == address)
}

/// A subnet on an uplink's link that no other kind of interface shares.
fn only_uplinks_lead_to(host: &HostState, config: &GatewayConfig, address: IpAddr) -> bool {
    let on_link = |uplinks: bool| {
        host.links
            .iter()
            .filter(|(name, _)| {
                (is_uplink(name, host, config) && is_dedicated(name, host, config)) == uplinks
            })
            .flat_map(|(_, link)| &link.addresses)
            .any(|a| !a.link_local && a.address.contains(&address))
    };
    on_link(true) && !on_link(false)
}
