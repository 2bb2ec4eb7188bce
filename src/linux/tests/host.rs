//! The host as the running kernel reports it.

mod common;

use common::{add_uplink, in_namespace, sh, wait_until};
use smartnat_core::model::{Family, HostState};
use smartnat_linux::{Routing, observe_host};

fn observe() -> HostState {
    observe_host(&mut Routing::open().expect("a socket")).expect("observed")
}

#[test]
fn links_addresses_and_routes_of_both_families_are_seen() {
    in_namespace(|| {
        add_uplink();
        sh("ip route add default via 192.0.2.1 metric 50
            ip route add 10.7.0.0/16 dev eth1 scope link
            ip -6 route add default via 2001:db8::1 metric 60
            ip route add 10.8.0.0/16 nexthop via 192.0.2.3 nexthop via 192.0.2.4
            ip route add 10.9.0.0/16 via 192.0.2.1 proto 83
            ip route add 10.10.0.0/16 via 192.0.2.1 table 7001
            ip route add blackhole 10.11.0.0/16");
        let host = observe();
        assert_eq!(host.families, Family::ALL);
        let uplink = host.links.get("eth1").expect("it was made");
        assert!(uplink.up);
        let addresses: Vec<_> = uplink.addresses.iter().filter(|a| !a.link_local).collect();
        let addresses: Vec<_> = addresses.iter().map(|a| a.address.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.2/24", "2001:db8::2/64"]);
        assert!(host.links["lo"].addresses.iter().all(|a| a.link_local));

        let has = |destination: &str, gateway: Option<&str>, metric: u32| {
            host.routes.iter().any(|r| {
                r.destination.to_string() == destination
                    && r.gateway.map(|g| g.to_string()).as_deref() == gateway
                    && r.metric == metric
                    && r.interface == "eth1"
            })
        };
        assert!(has("0.0.0.0/0", Some("192.0.2.1"), 50), "{:?}", host.routes);
        assert!(has("::/0", Some("2001:db8::1"), 60), "{:?}", host.routes);
        assert!(has("192.0.2.0/24", None, 0));
        assert!(has("2001:db8::/64", None, 256));
        assert!(has("10.7.0.0/16", None, 0));
        assert!(has("10.8.0.0/16", Some("192.0.2.3"), 0));
        assert!(has("10.8.0.0/16", Some("192.0.2.4"), 0));
        for absent in ["10.9.0.0/16", "10.10.0.0/16", "10.11.0.0/16"] {
            assert!(!host.routes.iter().any(|r| r.destination.to_string() == absent), "{absent}");
        }
    });
}

#[test]
fn a_link_without_carrier_or_administratively_down_is_not_up() {
    in_namespace(|| {
        add_uplink();
        let up = |name: &str| observe().links[name].up;
        assert!(up("eth1"));
        sh("ip link set far1 down");
        assert!(!up("eth1"), "no carrier");
        assert!(!up("far1"), "down");
        sh("ip link set far1 up");
        wait_until("the carrier is back", || up("eth1"));
    });
}

#[test]
fn an_address_counts_once_its_duplicate_detection_has_ended() {
    in_namespace(|| {
        add_uplink();
        sh("echo 1 > /proc/sys/net/ipv6/conf/eth1/accept_dad
            ip addr add 2001:db8::9/64 dev eth1");
        let seen = |address: &str| {
            let links = observe().links;
            links["eth1"].addresses.iter().any(|a| a.address.addr().to_string() == address)
        };
        let tentative = sh("ip -6 addr show dev eth1 tentative").contains("2001:db8::9");
        assert!(tentative && !seen("2001:db8::9"), "it is tentative");
        wait_until("the address is no longer tentative", || {
            !sh("ip -6 addr show dev eth1 tentative").contains("2001:db8::9")
        });
        assert!(seen("2001:db8::9"));
    });
}

#[test]
fn a_namespace_without_ipv6_addresses_is_read() {
    in_namespace(|| {
        sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
            echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
            ip link add eth1 type veth peer name far1
            ip link set eth1 up; ip link set far1 up; ip addr add 192.0.2.2/24 dev eth1");
        let host = observe();
        assert_eq!(host.links["eth1"].addresses.len(), 1);
        assert!(host.routes.iter().all(|r| Family::of(&r.destination.addr()) == Family::V4));
    });
}

#[test]
fn an_observation_is_of_the_namespace_that_the_thread_was_in() {
    in_namespace(|| {
        sh("ip link add eth1 type veth peer name far1");
        let mut routing = Routing::open().expect("a socket");
        let elsewhere = std::thread::spawn(move || observe_host(&mut routing));
        let host = elsewhere.join().expect("no panic").expect("observed");
        assert!(host.links.contains_key("eth1"));
    });
}

#[test]
fn an_observation_may_be_made_inside_an_asynchronous_runtime() {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let host = runtime.block_on(async { observe() });
        assert!(host.links.contains_key("lo"));
    });
}
