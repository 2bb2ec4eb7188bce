//! Hosts joined by segments.

use std::net::{IpAddr, SocketAddr};

use smartnat_core::model::Protocol;
use smartnat_core::objects::SysctlKey;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::topology::{Host, Topology};
use smartnat_sim::walk::{Network, NetworkError, RequestOutcome};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// `left` and `right` with a router between them, both families.
fn topology() -> Topology {
    let net = |text: &str| text.parse().expect("a network");
    let mut topology = Topology::default();
    topology.add_host(Host::new("left"));
    topology.add_host(Host::new("right"));
    topology.add_host(Host::new("router").forwarding());
    for (segment, host, v4, v6) in [
        ("one", "left", "192.0.2.10/24", "2001:db8:2::10/64"),
        ("one", "router", "192.0.2.1/24", "2001:db8:2::1/64"),
        ("two", "right", "198.51.100.10/24", "2001:db8:51::10/64"),
        ("two", "router", "198.51.100.1/24", "2001:db8:51::1/64"),
    ] {
        topology.attach(segment, host, segment, &[net(v4), net(v6)]);
    }
    for (host, v4, v6) in
        [("left", "192.0.2.1", "2001:db8:2::1"), ("right", "198.51.100.1", "2001:db8:51::1")]
    {
        topology.route(host, net("0.0.0.0/0"), ip(v4));
        topology.route(host, net("::/0"), ip(v6));
    }
    topology
}

fn network() -> Network {
    let mut network = Network::build(&topology(), XtFlavour::Nft, 1).expect("it is built");
    let ports = [(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Sctp, 36)];
    network.serve("right", "server", &[], &ports).expect("a host");
    network
}

/// Source and destination in both families.
const PATHS: [(&str, &str); 2] =
    [("192.0.2.10", "198.51.100.10"), ("2001:db8:2::10", "2001:db8:51::10")];

#[test]
fn requests_are_answered_refused_or_unreachable() {
    let mut network = network();
    for (from, to) in PATHS {
        let elsewhere = to.replace("10", "99").replace("198.51.990", "198.51.100");
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Sctp, 36)] {
            let mut ask = |to, port| {
                let outcome = network.request("left", Some(ip(from)), protocol, at(to, port));
                outcome.expect("all is understood")
            };
            let outcome = ask(to, port);
            let seen = outcome.answer().map(|a| (a.server.as_str(), a.seen_peer.ip()));
            assert_eq!(seen, Some(("server", ip(from))), "{protocol}: {outcome}");
            assert_eq!(ask(to, port + 1), RequestOutcome::Refused, "{protocol}");
            // Nobody has the address: the router tells.
            assert_eq!(ask(&elsewhere, port), RequestOutcome::Unreachable, "{protocol}");
        }
        let ping = |network: &mut Network, to: &str| {
            network.ping("left", ip(from), ip(to)).expect("all is understood")
        };
        assert!(ping(&mut network, to).is_answered());
        assert_eq!(ping(&mut network, &elsewhere), RequestOutcome::Unreachable);
    }
}

#[test]
fn what_the_host_itself_cannot_do_is_told_at_once() {
    let mut network = network();
    let outcome = network.request("left", Some(ip("192.0.2.99")), Protocol::Tcp, at("::1", 80));
    assert_eq!(outcome, Ok(RequestOutcome::NoSuchAddress));
    let kernel = &mut network.host_mut("left").expect("a host").kernel;
    kernel.remove_host_route("0.0.0.0/0");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let outcome = network.request("left", Some(ip(PATHS[0].0)), protocol, at(PATHS[0].1, 80));
        assert_eq!(outcome, Ok(RequestOutcome::Unreachable), "{protocol}");
    }
}

#[test]
fn a_conversation_lasts_until_one_side_ends_it() {
    let mut network = network();
    for (from, to) in PATHS {
        let from = Some(SocketAddr::new(ip(from), 0));
        let opened = network.open("left", from, Protocol::Tcp, at(to, 80));
        let conversation = opened.expect("all is understood").expect("a connection");
        for _ in 0..3 {
            let outcome = network.ask(&conversation).expect("all is understood");
            assert_eq!(outcome.server(), Some("server"));
        }
        network.stop("right", "server").expect("a host");
        let outcome = network.ask(&conversation).expect("all is understood");
        assert_eq!(outcome, RequestOutcome::Closed, "the server is gone without a word");
        network.serve("right", "server", &[], &[(Protocol::Tcp, 80)]).expect("a host");
        let outcome = network.ask(&conversation).expect("all is understood");
        assert_eq!(outcome, RequestOutcome::Closed, "and stays so");
    }
}

/// Linux answers ARP for any of its addresses on any interface unless `arp_ignore` says otherwise.
#[test]
fn an_address_of_another_link_is_found_unless_arp_ignore_forbids_it() {
    let mut network = network();
    let router = &mut network.host_mut("router").expect("a host").kernel;
    let left_route = "198.51.100.0/24";
    router.write_sysctl(&SysctlKey::ArpIgnore("one".into()), "0").expect("a sysctl");
    let left = &mut network.host_mut("left").expect("a host").kernel;
    left.remove_host_route("0.0.0.0/0");
    left.add_host_route(left_route, None, "one");
    let ask = |network: &mut Network| {
        let ping = network.ping("left", ip("192.0.2.10"), ip("198.51.100.1"));
        ping.expect("all is understood").is_answered()
    };
    assert!(ask(&mut network));
    let router = &mut network.host_mut("router").expect("a host").kernel;
    router.write_sysctl(&SysctlKey::ArpIgnore("one".into()), "1").expect("a sysctl");
    assert!(!ask(&mut network));
}

#[test]
fn packets_that_go_round_in_circles_end_by_their_ttl() {
    let mut network = network();
    let router = &mut network.host_mut("router").expect("a host").kernel;
    router.add_host_route("203.0.113.0/24", Some("192.0.2.10"), "one");
    let left = &mut network.host_mut("left").expect("a host").kernel;
    let forwarding = SysctlKey::Forwarding(smartnat_core::model::Family::V4);
    left.write_sysctl(&forwarding, "1").expect("a sysctl");
    let outcome =
        network.request("right", Some(ip("198.51.100.10")), Protocol::Udp, at("203.0.113.1", 1));
    assert_eq!(outcome, Ok(RequestOutcome::Unreachable));
}

#[test]
fn what_is_not_modelled_is_no_network() {
    let mut odd = topology();
    odd.hosts[0] = Host::new("left").with_sysctl("net.ipv4.tcp_syncookies", "2");
    let refused = Network::build(&odd, XtFlavour::Nft, 1);
    assert!(matches!(refused, Err(NetworkError::Sysctl { .. })), "{refused:?}");
}
