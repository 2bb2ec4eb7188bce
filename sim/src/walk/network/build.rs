//! A network from its description.

use std::collections::{BTreeMap, VecDeque};

use smartnat_core::model::Family;
use smartnat_core::objects::SysctlKey;
use thiserror::Error;

use super::Network;
use crate::SimKernel;
use crate::kernel::XtFlavour;
use crate::topology::{Host, StaticRoute, Topology, TopologyError};
use crate::walk::{Detail, SimHost};

/// First port of clients, as `net.ipv4.ip_local_port_range` has it.
const FIRST_PORT: u16 = 32_768;
/// Settings without influence: no rate is limited here, nobody asks for a neighbour, and nobody
/// is told of a shorter way.
const WITHOUT_INFLUENCE: [&str; 6] = [
    "net.ipv4.icmp_ratelimit",
    "net.ipv6.icmp.ratelimit",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv4.conf.eth0.send_redirects",
    "net.ipv6.conf.eth0.accept_redirects",
];

/// Why a network cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// The description is wrong.
    #[error(transparent)]
    Topology(TopologyError),
    /// A setting that is not modelled.
    #[error("sysctl {key} of host {host} is not modelled")]
    Sysctl {
        /// The host.
        host: String,
        /// The setting.
        key: String,
    },
    /// A route whose next hop is on no subnet of its host.
    #[error("the route of {host} to {destination} has no interface")]
    Route {
        /// The host.
        host: String,
        /// The destination.
        destination: ipnet::IpNet,
    },
}

impl Network {
    /// Builds hosts and segments. Where rules leave it to chance, the seed decides.
    pub fn build(topology: &Topology, flavour: XtFlavour, seed: u64) -> Result<Self, NetworkError> {
        if let Some(problem) = topology.problems().into_iter().next() {
            return Err(NetworkError::Topology(problem));
        }
        let mut hosts = BTreeMap::new();
        for (host, number) in topology.hosts.iter().zip(1..) {
            let kernel = kernel(topology, host, flavour)?;
            let mut built = SimHost::new(kernel, seed.wrapping_add(number));
            built.detail = Detail::Outcome;
            hosts.insert(host.name.clone(), built);
        }
        let segments = topology
            .segments
            .iter()
            .map(|s| s.attachments.iter().map(|a| (a.host.clone(), a.interface.clone())).collect());
        Ok(Self {
            hosts,
            segments: segments.collect(),
            queue: VecDeque::new(),
            carried: VecDeque::new(),
            carried_ever: 0,
            traces: None,
            deliveries: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_port: FIRST_PORT,
            last_data: 0,
        })
    }
}

fn kernel(topology: &Topology, host: &Host, flavour: XtFlavour) -> Result<SimKernel, NetworkError> {
    let mut kernel = SimKernel::new(flavour);
    for attachment in topology.interfaces(&host.name) {
        kernel.add_link(&attachment.interface);
        for address in &attachment.addresses {
            kernel.add_address(&attachment.interface, &address.to_string());
        }
    }
    for (key, value) in &host.sysctls {
        set_sysctl(&mut kernel, &host.name, key, value)?;
    }
    for route in topology.routes.iter().filter(|r| r.host == host.name) {
        add_route(&mut kernel, route)?;
    }
    Ok(kernel)
}

fn set_sysctl(
    kernel: &mut SimKernel,
    host: &str,
    name: &str,
    value: &str,
) -> Result<(), NetworkError> {
    if WITHOUT_INFLUENCE.contains(&name) {
        return Ok(());
    }
    let error = || NetworkError::Sysctl { host: host.to_owned(), key: name.to_owned() };
    let key = match name {
        "net.ipv4.ip_forward" => SysctlKey::Forwarding(Family::V4),
        "net.ipv6.conf.all.forwarding" => SysctlKey::Forwarding(Family::V6),
        _ => return Err(error()),
    };
    kernel.write_sysctl(&key, value).map_err(|_| error())
}

fn add_route(kernel: &mut SimKernel, route: &StaticRoute) -> Result<(), NetworkError> {
    let on_link = || {
        let gateway = route.gateway?;
        let mut connected = kernel.links().connected();
        connected.find(|(_, net)| net.contains(&gateway)).map(|(name, _)| name.to_owned())
    };
    let Some(interface) = route.interface.clone().or_else(on_link) else {
        let (host, destination) = (route.host.clone(), route.destination);
        return Err(NetworkError::Route { host, destination });
    };
    let gateway = route.gateway.map(|g| g.to_string());
    kernel.add_host_route(&route.destination.to_string(), gateway.as_deref(), &interface);
    Ok(())
}
