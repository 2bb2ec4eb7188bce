//! From a topology to the `ip` commands and sysctls of each namespace.

use std::collections::BTreeMap;

use smartnat_core::model::Family;
use smartnat_sim::topology::{Attachment, Segment, StaticRoute, Topology};

/// The namespace that holds the bridges.
pub(super) const SWITCH: &str = "switch";

/// What every host starts with, whatever the machine's own settings are: namespaces inherit some.
const FRESH_HOST: [(&str, &str); 13] = [
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv6.conf.all.forwarding", "0"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.arp_ignore", "0"),
    ("net.ipv4.conf.default.arp_ignore", "0"),
    ("net.ipv4.conf.all.arp_announce", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

/// The steps of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Before any interface exists.
    pub(super) sysctls_before: Vec<(String, String)>,
    /// `ip` commands that create interfaces, here and at the far end.
    pub(super) links: Vec<String>,
    /// `ip` commands for addresses, link state and routes, once all interfaces exist.
    pub(super) configuration: Vec<String>,
    /// After that.
    pub(super) sysctls_after: Vec<(String, String)>,
}

/// The steps of all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// By host, the switch among them where one is needed.
    pub(super) hosts: BTreeMap<String, Steps>,
}

impl Plan {
    /// The plan for `topology`; `namespace` names the namespace of a host.
    pub(super) fn of(topology: &Topology, namespace: &dyn Fn(&str) -> String) -> Self {
        let mut plan = Self::default();
        for host in &topology.hosts {
            let steps = plan.host(&host.name);
            steps.sysctls_after =
                host.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        }
        for (number, segment) in topology.segments.iter().enumerate() {
            plan.connect(number, segment, namespace);
        }
        for attachment in topology.segments.iter().flat_map(|s| &s.attachments) {
            plan.host(&attachment.host).configuration.extend(interface_commands(attachment));
        }
        for route in &topology.routes {
            plan.host(&route.host).configuration.push(route_command(route));
        }
        plan
    }

    fn host(&mut self, name: &str) -> &mut Steps {
        self.hosts.entry(name.into()).or_insert_with(|| Steps {
            sysctls_before: FRESH_HOST.iter().map(|&(k, v)| (k.into(), v.into())).collect(),
            links: Vec::new(),
            configuration: vec!["link set lo up".into()],
            sysctls_after: Vec::new(),
        })
    }

    fn connect(&mut self, number: usize, segment: &Segment, namespace: &dyn Fn(&str) -> String) {
        if let [one, other] = segment.attachments.as_slice() {
            let command = format!(
                "link add {} {} type veth peer name {} {} netns {}",
                one.interface,
                identity(number, 0),
                other.interface,
                identity(number, 1),
                namespace(&other.host),
            );
            self.host(&one.host).links.push(command);
            return;
        }
        let bridge = format!("br{number}");
        let switch = self.host(SWITCH);
        switch.links.push(format!(
            "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ));
        switch.configuration.push(format!("link set {bridge} up"));
        for (place, attachment) in segment.attachments.iter().enumerate() {
            let port = format!("p{number}-{place}");
            switch.links.push(format!(
                "link add {port} type veth peer name {} {} netns {}",
                attachment.interface,
                identity(number, place),
                namespace(&attachment.host),
            ));
            switch.configuration.push(format!("link set {port} master {bridge} up"));
        }
    }
}

/// A hardware address that is the same in every run (locally administered), and an index.
///
/// The two ends of a cable get different indexes: with equal ones, which are likely in two fresh
/// namespaces, the kernel delays the news that the link is up by as much as a second.
fn identity(segment: usize, place: usize) -> String {
    let index = 1000 + segment * 100 + place;
    format!("index {index} address 02:00:00:00:{:02x}:{:02x}", segment & 0xff, (place + 1) & 0xff)
}

fn interface_commands(attachment: &Attachment) -> Vec<String> {
    let interface = &attachment.interface;
    let mut commands = vec![format!("link set {interface} up")];
    for address in &attachment.addresses {
        let no_detection = if Family::of(&address.addr()) == Family::V6 { " nodad" } else { "" };
        commands.push(format!("address add {address} dev {interface}{no_detection}"));
    }
    commands
}

fn route_command(route: &StaticRoute) -> String {
    let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let dev = route.interface.as_ref().map(|name| format!(" dev {name}")).unwrap_or_default();
    format!("route add {}{via}{dev}", route.destination)
}

#[cfg(test)]
mod tests {
    use smartnat_sim::topology::Host;

    use super::*;

    fn commands(hosts: &[&str]) -> (Plan, Topology) {
        let mut topology = Topology::default();
        for (number, host) in hosts.iter().enumerate() {
            topology.add_host(Host::new(host).with_sysctl("net.ipv4.ip_forward", "1"));
            let addresses = [format!("10.0.0.{number}/24"), format!("fd00::{number}/64")];
            topology.attach("wire", host, "eth0", &addresses.map(|a| a.parse().unwrap()));
        }
        topology.route("a", "0.0.0.0/0".parse().unwrap(), "10.0.0.9".parse().unwrap());
        (Plan::of(&topology, &|host| format!("ns-{host}")), topology)
    }

    #[test]
    fn two_hosts_are_cabled_directly() {
        let (plan, _) = commands(&["a", "b"]);
        assert_eq!(plan.hosts.keys().collect::<Vec<_>>(), ["a", "b"]);
        let a = &plan.hosts["a"];
        assert_eq!(
            a.links,
            ["link add eth0 index 1000 address 02:00:00:00:00:01 type veth \
             peer name eth0 index 1001 address 02:00:00:00:00:02 netns ns-b"]
        );
        assert_eq!(
            a.configuration,
            [
                "link set lo up",
                "link set eth0 up",
                "address add 10.0.0.0/24 dev eth0",
                "address add fd00::0/64 dev eth0 nodad",
                "route add 0.0.0.0/0 via 10.0.0.9",
            ]
            .map(|line| line.replace("fd00::0", "fd00::"))
        );
        assert_eq!(a.sysctls_after, [("net.ipv4.ip_forward".into(), "1".into())]);
        assert_eq!(plan.hosts["b"].links, [""; 0]);
    }

    #[test]
    fn three_hosts_share_a_switch() {
        let (plan, topology) = commands(&["a", "b", "c"]);
        let switch = &plan.hosts[SWITCH];
        assert_eq!(switch.links.len(), 1 + topology.hosts.len());
        assert!(switch.links[0].starts_with("link add br0 type bridge"));
        assert!(switch.configuration.contains(&"link set p0-2 master br0 up".into()));
    }
}
