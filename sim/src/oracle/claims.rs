//! Who owns what (T19): Mappings read from their own words, then one after the other by age.
//! Naive on purpose, and without a word from the core's admission.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::{
    ClusterState, GatewayConfig, Mapping, MappingPort, ObjectKey, PortReference, Protocol,
    Timestamp,
};

/// What a valid Mapping asks for.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) key: ObjectKey,
    pub(super) created: Option<Timestamp>,
    pub(super) deleting: bool,
    /// In the order of the specification.
    pub(super) addresses: Vec<IpAddr>,
    /// Neither merged nor sorted.
    pub(super) sources: Vec<IpNet>,
    pub(super) service: ObjectKey,
    pub(super) ports: Vec<ClaimedPort>,
    pub(super) masquerade: bool,
    pub(super) egress: bool,
}

/// A port or a range of a Mapping.
#[derive(Clone, Debug)]
pub(super) struct ClaimedPort {
    pub(super) protocol: Protocol,
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) service_port: PortReference,
}

/// The Mappings that own all they ask for, in the order in which they got it.
pub(super) fn owners(cluster: &ClusterState, config: &GatewayConfig) -> Vec<Claim> {
    let mut claims: Vec<Claim> =
        cluster.mappings.values().filter_map(|m| claim(m, cluster, config)).collect();
    // Those without a creation time come last.
    claims.sort_by_key(|c| (Reverse(c.created.is_some()), c.created, c.key.clone()));
    let mut owning: Vec<Claim> = Vec::new();
    for claim in claims {
        if !owning.iter().any(|older| older.meets(&claim)) {
            owning.push(claim);
        }
    }
    owning
}

/// The keys of the Mappings that own all they ask for (T19).
pub fn owning_mappings(cluster: &ClusterState, config: &GatewayConfig) -> BTreeSet<ObjectKey> {
    owners(cluster, config).into_iter().map(|claim| claim.key).collect()
}

impl Claim {
    /// Whether both want one external endpoint.
    fn meets(&self, other: &Self) -> bool {
        self.addresses.iter().any(|address| other.addresses.contains(address))
            && self.ports.iter().any(|port| other.ports.iter().any(|p| p.meets(port)))
    }
}

impl ClaimedPort {
    fn meets(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }
}

/// `None`: it is wrong in itself (section 4).
fn claim(mapping: &Mapping, cluster: &ClusterState, config: &GatewayConfig) -> Option<Claim> {
    let spec = &mapping.spec;
    let service = ObjectKey::new(mapping.key.namespace.clone(), spec.service_name.clone());
    let mode = spec.mode.as_deref().unwrap_or("service");
    let external_name = cluster.services.get(&service).is_some_and(|s| s.external_name);
    if !is_label(&spec.service_name) || external_name || !["", "service"].contains(&mode) {
        return None;
    }
    let addresses: Vec<IpAddr> =
        spec.addresses.iter().map(|text| external(text)).collect::<Option<_>>()?;
    let distinct: BTreeSet<&IpAddr> = addresses.iter().collect();
    if addresses.is_empty() || distinct.len() < addresses.len() {
        return None;
    }
    let ports: Vec<ClaimedPort> = spec.ports.iter().map(port).collect::<Option<_>>()?;
    let overlap =
        ports.iter().enumerate().any(|(i, p)| ports[..i].iter().any(|earlier| earlier.meets(p)));
    if ports.is_empty() || ports.len() > config.max_ports || overlap {
        return None;
    }
    let everyone = ["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let written = &spec.allowed_sources;
    let written = if written.is_empty() { &everyone[..] } else { written };
    Some(Claim {
        key: mapping.key.clone(),
        created: mapping.created,
        deleting: mapping.deleting,
        addresses,
        sources: written.iter().map(|text| source(text)).collect::<Option<_>>()?,
        service,
        ports,
        masquerade: spec.masquerade.unwrap_or(config.masquerade),
        egress: spec.egress.unwrap_or(config.egress),
    })
}

/// An address that traffic from outside can be sent to.
fn external(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    let nowhere = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    (!special && !nowhere).then_some(address)
}

/// A CIDR or a bare address.
fn source(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    let mapped = matches!(net, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
    (!(mapped && net.prefix_len() >= 96)).then(|| net.trunc())
}

fn port(entry: &MappingPort) -> Option<ClaimedPort> {
    let number = |value: i64| u16::try_from(value).ok().filter(|n| *n != 0);
    let first = number(entry.port?)?;
    let last = entry.end_port.map_or(Some(first), number)?;
    let protocol = entry.protocol.as_deref().filter(|text| !text.is_empty()).unwrap_or("tcp");
    let service_port =
        entry.service_port.clone().unwrap_or_else(|| PortReference::Number(first.into()));
    let target_fits = match &service_port {
        PortReference::Number(n) => number(*n)?.checked_add(last.checked_sub(first)?).is_some(),
        PortReference::Name(name) => is_label(name) && !name.bytes().all(|b| b.is_ascii_digit()),
    };
    (first <= last && target_fits).then_some(ClaimedPort {
        protocol: protocol.parse().ok()?,
        first,
        last,
        service_port,
    })
}

/// RFC 1123.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| inner(c) || c == '-')
        && text.starts_with(inner)
        && text.ends_with(inner)
}
