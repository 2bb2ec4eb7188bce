//! The topologies that tests and the demo share.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Host, Topology};

/// Addresses of the standard topologies; documentation and benchmark ranges (RFC 5737, 2544, 3849).
pub mod addresses {
    /// The client behind the first external network's router, IPv4.
    pub const CLIENT1_V4: &str = "192.0.2.10";
    /// The client behind the first external network's router, IPv6.
    pub const CLIENT1_V6: &str = "2001:db8:2::10";
    /// The same machine's address in a range that no sample allows (198.19.0.0/16).
    pub const CLIENT1_REFUSED_V4: &str = "198.19.1.10";
    /// The same machine's address in a range that no sample allows (`2001:db8:bad::/48`).
    pub const CLIENT1_REFUSED_V6: &str = "2001:db8:bad:1::10";
    /// The client behind the second external network's router, IPv4.
    pub const CLIENT2_V4: &str = "198.18.2.10";
    /// The client behind the second external network's router, IPv6.
    pub const CLIENT2_V6: &str = "2001:db8:18::10";
    /// The same machine's address in a range that no sample allows (198.19.0.0/16).
    pub const CLIENT2_REFUSED_V4: &str = "198.19.2.10";
    /// The same machine's address in a range that no sample allows (`2001:db8:bad::/48`).
    pub const CLIENT2_REFUSED_V6: &str = "2001:db8:bad:2::10";
    /// The client on the first uplink's own link, IPv4.
    pub const NEIGHBOUR_V4: &str = "198.51.100.77";
    /// The client on the first uplink's own link, IPv6.
    pub const NEIGHBOUR_V6: &str = "2001:db8:51::77";
    /// External addresses on the first uplink, IPv4.
    pub const EXT1_V4: [&str; 2] = ["198.51.100.10", "198.51.100.11"];
    /// External addresses on the first uplink, IPv6.
    pub const EXT1_V6: [&str; 2] = ["2001:db8:51::10", "2001:db8:51::11"];
    /// External addresses on the second uplink, IPv4.
    pub const EXT2_V4: [&str; 2] = ["203.0.113.10", "203.0.113.11"];
    /// External addresses on the second uplink, IPv6.
    pub const EXT2_V6: [&str; 2] = ["2001:db8:113::10", "2001:db8:113::11"];
    /// The gateway's address on the cluster side, IPv4.
    pub const GATEWAY_V4: &str = "10.244.1.1";
    /// The gateway's address on the cluster side, IPv6.
    pub const GATEWAY_V6: &str = "fd00:244:1::1";
    /// The pods `pod1` to `pod3`, IPv4.
    pub const PODS_V4: [&str; 3] = ["10.244.1.11", "10.244.1.12", "10.244.1.13"];
    /// The pods `pod1` to `pod3`, IPv6.
    pub const PODS_V6: [&str; 3] = ["fd00:244:1::11", "fd00:244:1::12", "fd00:244:1::13"];
    /// A destination behind the gateway's default route, with an office; IPv4.
    pub const OFFICE_V4: &str = "172.31.0.1";
    /// A destination behind the gateway's default route, with an office; IPv6.
    pub const OFFICE_V6: &str = "fd00:31::1";
}

/// Variations of [`standard`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandardOptions {
    /// A machine `office` on the cluster side, to which the gateway's default route leads.
    pub office: bool,
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a constant of this file")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|t| net(t)).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a constant of this file")
}

/// A gateway whose kernel answers every refusal, however many a test provokes at once.
fn gateway() -> Host {
    Host::new("gateway")
        .with_sysctl("net.ipv4.icmp_ratelimit", "0")
        .with_sysctl("net.ipv6.icmp.ratelimit", "0")
}

fn default_routes(topology: &mut Topology, host: &str, v4: &str, v6: &str) {
    topology.route(host, net("0.0.0.0/0"), ip(v4));
    topology.route(host, net("::/0"), ip(v6));
}

/// Pods on a switch with the gateway's `eth0`; their default route leads to the gateway, so
/// that replies to preserved client addresses come back.
fn add_cluster_side(topology: &mut Topology, pods: usize) {
    topology.attach("cluster", "gateway", "eth0", &nets(&["10.244.1.1/24", "fd00:244:1::1/64"]));
    for number in 1..=pods {
        let name = format!("pod{number}");
        topology.add_host(Host::new(&name));
        let own = [format!("10.244.1.1{number}/24"), format!("fd00:244:1::1{number}/64")];
        topology.attach("cluster", &name, "eth0", &own.map(|a| net(&a)));
        default_routes(topology, &name, addresses::GATEWAY_V4, addresses::GATEWAY_V6);
    }
}

/// A client behind a router whose other side is the gateway's interface `uplink`.
fn add_external_network(topology: &mut Topology, number: usize) {
    let (uplink, client, router) =
        (format!("ext{number}"), format!("client{number}"), format!("router{number}"));
    let (own, first_hop): (Vec<IpNet>, Vec<IpNet>) = if number == 1 {
        let own = ["192.0.2.10/24", "2001:db8:2::10/64", "198.19.1.10/24", "2001:db8:bad:1::10/64"];
        let hop = ["192.0.2.1/24", "2001:db8:2::1/64", "198.19.1.1/24", "2001:db8:bad:1::1/64"];
        (nets(&own), nets(&hop))
    } else {
        let own =
            ["198.18.2.10/24", "2001:db8:18::10/64", "198.19.2.10/24", "2001:db8:bad:2::10/64"];
        let hop = ["198.18.2.1/24", "2001:db8:18::1/64", "198.19.2.1/24", "2001:db8:bad:2::1/64"];
        (nets(&own), nets(&hop))
    };
    let (v4, v6) =
        if number == 1 { ("198.51.100", "2001:db8:51:") } else { ("203.0.113", "2001:db8:113:") };
    topology.add_host(Host::new(&client));
    topology.add_host(Host::new(&router).forwarding());
    topology.attach(&format!("far{number}"), &client, "eth0", &own);
    topology.attach(&format!("far{number}"), &router, "inner", &first_hop);
    let gateway_side = [".10/24", ".11/24"].map(|end| net(&format!("{v4}{end}")));
    let gateway_side6 = [":10/64", ":11/64"].map(|end| net(&format!("{v6}{end}")));
    topology.attach(
        &uplink,
        &router,
        "outer",
        &[net(&format!("{v4}.1/24")), net(&format!("{v6}:1/64"))],
    );
    topology.attach(&uplink, "gateway", &uplink, &[gateway_side, gateway_side6].concat());
    default_routes(
        topology,
        &client,
        &first_hop[0].addr().to_string(),
        &first_hop[1].addr().to_string(),
    );
}

/// Two clients in two external networks, each behind a router, one more client on the first
/// uplink's link, a gateway with two uplinks (`ext1`, `ext2`), three pods on its `eth0`.
///
/// The gateway has no default route, unless an office is wanted.
pub fn standard(options: StandardOptions) -> Topology {
    let mut topology = Topology::default();
    topology.add_host(gateway());
    add_external_network(&mut topology, 1);
    add_external_network(&mut topology, 2);
    topology.add_host(Host::new("neighbour"));
    topology.attach(
        "ext1",
        "neighbour",
        "eth0",
        &nets(&["198.51.100.77/24", "2001:db8:51::77/64"]),
    );
    default_routes(&mut topology, "neighbour", "198.51.100.1", "2001:db8:51::1");
    add_cluster_side(&mut topology, 3);
    if options.office {
        topology.add_host(Host::new("office"));
        let own = ["10.244.1.254/24", "fd00:244:1::fe/64", "172.31.0.1/32", "fd00:31::1/128"];
        topology.attach("cluster", "office", "eth0", &nets(&own));
        default_routes(&mut topology, "gateway", "10.244.1.254", "fd00:244:1::fe");
    }
    topology
}

/// One uplink (`ext1`), one pod; the client is on the uplink's link and its router at once.
///
/// The client has the addresses of `client1` and of the first uplink's router.
pub fn single() -> Topology {
    let mut topology = Topology::default();
    topology.add_host(gateway());
    // It asks for the gateway with its address on the link, as a router would.
    topology.add_host(Host::new("client1").with_sysctl("net.ipv4.conf.all.arp_announce", "2"));
    let client = [
        "198.51.100.1/24",
        "2001:db8:51::1/64",
        "192.0.2.10/32",
        "2001:db8:2::10/128",
        "198.19.1.10/32",
        "2001:db8:bad:1::10/128",
    ];
    let external =
        ["198.51.100.10/24", "198.51.100.11/24", "2001:db8:51::10/64", "2001:db8:51::11/64"];
    topology.attach("ext1", "client1", "eth0", &nets(&client));
    topology.attach("ext1", "gateway", "ext1", &nets(&external));
    add_cluster_side(&mut topology, 1);
    topology
}

/// A gateway with three interfaces in one subnet, as in a cloud: `eth0` with the default
/// route and the way to the pods, `ext1` and `ext2` as uplinks.
///
/// Subnet 10.10.0.0/24 and `2001:db8:10::/64`: router .1, `eth0` .10, `ext1` .11, `ext2` .12,
/// node .20 with the pods behind it, neighbour .77. `client1` is behind the router. The node's
/// default route leads to the gateway, so that client addresses can be preserved.
pub fn shared_subnet() -> Topology {
    let mut topology = Topology::default();
    let pair = |end: &str| nets(&[&format!("10.10.0.{end}/24"), &format!("2001:db8:10::{end}/64")]);
    topology.add_host(gateway());
    topology.add_host(Host::new("router").forwarding());
    topology.add_host(Host::new("client1"));
    topology.add_host(Host::new("neighbour"));
    topology.add_host(Host::new("node").forwarding());
    topology.attach("shared", "router", "outer", &pair("1"));
    topology.attach("shared", "gateway", "eth0", &pair("10"));
    topology.attach("shared", "gateway", "ext1", &pair("11"));
    topology.attach("shared", "gateway", "ext2", &pair("12"));
    topology.attach("shared", "node", "eth0", &pair("20"));
    topology.attach("shared", "neighbour", "eth0", &pair("77"));
    let client = ["192.0.2.10/24", "2001:db8:2::10/64", "198.19.1.10/24", "2001:db8:bad:1::10/64"];
    let hop = ["192.0.2.1/24", "2001:db8:2::1/64", "198.19.1.1/24", "2001:db8:bad:1::1/64"];
    topology.attach("far1", "client1", "eth0", &nets(&client));
    topology.attach("far1", "router", "inner", &nets(&hop));
    topology.attach("cluster", "node", "pods", &nets(&["10.244.1.1/24", "fd00:244:1::1/64"]));
    for number in 1..=2 {
        let name = format!("pod{number}");
        topology.add_host(Host::new(&name));
        let own = [format!("10.244.1.1{number}/24"), format!("fd00:244:1::1{number}/64")];
        topology.attach("cluster", &name, "eth0", &own.map(|a| net(&a)));
        default_routes(&mut topology, &name, addresses::GATEWAY_V4, addresses::GATEWAY_V6);
    }
    default_routes(&mut topology, "client1", "192.0.2.1", "2001:db8:2::1");
    default_routes(&mut topology, "neighbour", "10.10.0.1", "2001:db8:10::1");
    default_routes(&mut topology, "node", "10.10.0.10", "2001:db8:10::10");
    default_routes(&mut topology, "gateway", "10.10.0.1", "2001:db8:10::1");
    topology.route("gateway", net("10.244.1.0/24"), ip("10.10.0.20"));
    topology.route("gateway", net("fd00:244:1::/64"), ip("2001:db8:10::20"));
    topology
}
