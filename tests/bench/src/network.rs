//! The network of every measurement: client – gateway – server, each in a namespace of its own.
//!
//! The server has every address of [`cluster::POD_NETWORK`], so that all endpoints answer. The client
//! is the uplink's gateway and has many addresses behind it.

use std::net::{Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use smartnat::lab::Lab;
use smartnat_core::model::{Backend, GatewayConfig, UplinkGateway};
use smartnat_sim::topology::{Host, Topology};

use crate::cluster;
use crate::error::BenchError;

/// The host that asks.
pub(crate) const CLIENT: &str = "client";
/// The host in the middle.
pub(crate) const GATEWAY: &str = "gateway";
/// The host that has all endpoints.
pub(crate) const SERVER: &str = "server";

/// The gateway's external interface.
const UPLINK: &str = "ext1";
const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GATEWAY_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const GATEWAY_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 2);

/// Addresses that the client connects from.
const SOURCES: u8 = 16;
/// First source port; none is privileged.
const FIRST_SOURCE_PORT: u16 = 1024;

/// Seconds for which the gateway remembers a reset connection, so that few are remembered at a time.
const FORGET_SECONDS: &str = "1";

/// Source addresses and ports, none of them twice: a connection of the same addresses and ports as a
/// remembered one would get the old translation without a look at the rules.
#[derive(Debug, Default)]
pub(crate) struct Sources(u32);

/// Source ports of one address.
const PORTS: u32 = u16::MAX as u32 - FIRST_SOURCE_PORT as u32;

impl Iterator for Sources {
    type Item = SocketAddr;

    /// The port first, then the address: behind a masquerading gateway only the port tells two
    /// connections apart, and a search for a free one is not what is to be measured.
    fn next(&mut self) -> Option<SocketAddr> {
        let address = u8::try_from(self.0 / PORTS).ok().filter(|n| *n < SOURCES)?;
        let port = FIRST_SOURCE_PORT + u16::try_from(self.0 % PORTS).ok()?;
        self.0 += 1;
        Some(SocketAddr::new(source(address).into(), port))
    }
}

fn source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 1 + number)
}

/// Settings of a gateway in this network.
pub(crate) fn config(backend: Backend) -> GatewayConfig {
    let next_hop = UplinkGateway { ipv4: Some(CLIENT_ADDRESS.into()), ipv6: None };
    GatewayConfig {
        uplink_pattern: UPLINK.into(),
        gateways: [(UPLINK.to_owned(), next_hop)].into(),
        backend,
        ..GatewayConfig::default()
    }
}

fn net(address: Ipv4Addr, length: u8) -> IpNet {
    Ipv4Net::new(address, length).expect("a prefix length of IPv4").into()
}

fn network(text: &str) -> IpNet {
    text.parse().expect("a constant of this program")
}

/// The network with external addresses for `size` Mappings; `forwarding` has the host forward by itself.
fn topology(size: u32, forwarding: bool) -> Topology {
    let mut topology = Topology::default();
    // It asks for the gateway with its address on the link, as a router would.
    topology.add_host(Host::new(CLIENT).with_sysctl("net.ipv4.conf.all.arp_announce", "2"));
    let gateway = Host::new(GATEWAY);
    topology.add_host(if forwarding { gateway.forwarding() } else { gateway });
    topology.add_host(Host::new(SERVER));

    let own = std::iter::once(net(CLIENT_ADDRESS, 24));
    let client: Vec<IpNet> = own.chain((0..SOURCES).map(|n| net(source(n), 32))).collect();
    let own = std::iter::once(net(GATEWAY_OUTSIDE, 24));
    let outside: Vec<IpNet> = own.chain(cluster::externals(size).map(|a| net(a, 32))).collect();
    topology.attach("uplink", CLIENT, "eth0", &client);
    topology.attach("uplink", GATEWAY, UPLINK, &outside);
    topology.attach("cluster", GATEWAY, "eth0", &[net(GATEWAY_INSIDE, 24)]);
    topology.attach("cluster", SERVER, "eth0", &[net(SERVER_ADDRESS, 24)]);

    topology.route(CLIENT, network(cluster::EXTERNAL_NETWORK), GATEWAY_OUTSIDE.into());
    topology.route(CLIENT, network(cluster::POD_NETWORK), GATEWAY_OUTSIDE.into());
    topology.route(GATEWAY, net(source(0), 24).trunc(), CLIENT_ADDRESS.into());
    topology.route(GATEWAY, network(cluster::POD_NETWORK), SERVER_ADDRESS.into());
    topology.route(SERVER, net(Ipv4Addr::UNSPECIFIED, 0), GATEWAY_INSIDE.into());
    topology
}

/// Builds it.
pub(crate) fn build(size: u32, forwarding: bool) -> Result<Lab, BenchError> {
    let lab = Lab::build(&topology(size, forwarding))?;
    lab.command(SERVER, &["ip", "route", "add", "local", cluster::POD_NETWORK, "dev", "lo"])?;
    Ok(lab)
}

/// Has the gateway forget reset connections soon; for when it knows connections.
pub(crate) fn forget_soon(lab: &Lab) -> Result<(), BenchError> {
    Ok(lab.set_sysctl(GATEWAY, "net.netfilter.nf_conntrack_tcp_timeout_close", FORGET_SECONDS)?)
}

/// Has the gateway forget all connections, so that each round begins alike.
pub(crate) fn forget_connections(lab: &Lab) -> Result<(), BenchError> {
    lab.command(GATEWAY, &["conntrack", "-F"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_source_comes_twice_and_ports_change_first() {
        let all: Vec<SocketAddr> = Sources::default().collect();
        assert_eq!(all.len(), usize::from(SOURCES) * PORTS as usize);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let ports: BTreeSet<u16> = all[..PORTS as usize].iter().map(SocketAddr::port).collect();
        assert_eq!(ports.len(), PORTS as usize);
    }

    #[test]
    fn the_network_is_well_formed_at_every_size() {
        for size in [1, 100, cluster::MAX_MAPPINGS] {
            assert_eq!(topology(size, true).problems(), []);
        }
    }
}
