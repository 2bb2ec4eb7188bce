//! Networks that only the contract's tests need.

use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::Family;
use smartnat_sim::topology::{Host, Topology};

/// The address that every client of [`three_uplinks`] has.
pub(crate) const ANYCAST: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];

fn nets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a test's prefix")).collect()
}

/// The gateway's address on uplink `number` of [`three_uplinks`].
pub(crate) fn external(number: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("198.51.{number}.10"),
        Family::V6 => format!("2001:db8:51:{number}::10"),
    }
}

/// A gateway with uplinks `ext1` to `ext3`, behind each its own client; all clients have the same
/// address, so that nothing but the connection says where a reply belongs. Pods 1 and 2 on `eth0`.
pub(crate) fn three_uplinks() -> Topology {
    let mut topology = Topology::default();
    let unlimited = |host: Host| {
        host.with_sysctl("net.ipv4.icmp_ratelimit", "0").with_sysctl("net.ipv6.icmp.ratelimit", "0")
    };
    topology.add_host(unlimited(Host::new("gateway")));
    for number in 1..=3 {
        let (client, uplink) = (format!("client{number}"), format!("ext{number}"));
        // It asks for the gateway with its address on the link, as a router would.
        let arp = "net.ipv4.conf.all.arp_announce";
        topology.add_host(Host::new(&client).with_sysctl(arp, "2"));
        let own = [
            format!("198.51.{number}.1/24"),
            format!("2001:db8:51:{number}::1/64"),
            format!("{}/32", ANYCAST[0]),
            format!("{}/128", ANYCAST[1]),
        ];
        let of_gateway = [(Family::V4, 24), (Family::V6, 64)]
            .map(|(f, length)| format!("{}/{length}", external(number, f)));
        topology.attach(&uplink, &client, "eth0", &nets(&own));
        topology.attach(&uplink, "gateway", &uplink, &nets(&of_gateway));
    }
    let inside = ["10.244.1.1/24".to_owned(), "fd00:244:1::1/64".to_owned()];
    topology.attach("cluster", "gateway", "eth0", &nets(&inside));
    for number in 1..=2 {
        let name = format!("pod{number}");
        topology.add_host(Host::new(&name));
        let own = [format!("10.244.1.1{number}/24"), format!("fd00:244:1::1{number}/64")];
        topology.attach("cluster", &name, "eth0", &nets(&own));
        for (net, via) in [("0.0.0.0/0", "10.244.1.1"), ("::/0", "fd00:244:1::1")] {
            let gateway: IpAddr = via.parse().expect("a test's address");
            topology.route(&name, nets(&[net.to_owned()])[0], gateway);
        }
    }
    topology
}
