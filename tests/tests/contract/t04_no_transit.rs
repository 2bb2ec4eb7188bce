//! T4: no transit between uplinks and cluster side, whatever routes the sender adds; nothing leaves an
//! uplink with a foreign source; if we switched forwarding on, nothing else is forwarded.

use smartnat::lab::traffic::{Outcome, Server};
use smartnat_core::model::Protocol;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{ask, ask_briefly, at, both_flavours, servers};

/// The neighbour on the first uplink's link adds routes to whatever it wants to reach.
const SNEAKY_ROUTES: [[&str; 6]; 4] = [
    ["ip", "route", "add", "10.244.1.0/24", "via", "198.51.100.10"],
    ["ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.10"],
    ["ip", "route", "add", "fd00:244:1::/64", "via", "2001:db8:51::10"],
    ["ip", "route", "add", "2001:db8:113::/64", "via", "2001:db8:51::10"],
];

const NEIGHBOUR: [&str; 2] = ["198.51.100.77", "2001:db8:51::77"];
const POD: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const OTHER_ROUTER: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];

both_flavours!(nobody_routes_into_the_cluster_or_across, |flavour| {
    for forwarding in [false, true] {
        let topology = standard(StandardOptions::default());
        let lab = smartnat::lab::Lab::build(&topology).expect("the lab is built");
        for route in SNEAKY_ROUTES {
            lab.command("neighbour", &route).expect("a route");
        }
        if forwarding {
            lab.set_sysctl("gateway", "net.ipv4.ip_forward", "1").expect("a sysctl");
            lab.set_sysctl("gateway", "net.ipv6.conf.all.forwarding", "1").expect("a sysctl");
        }
        let _servers = servers(&lab);
        let _router = Server::start(&lab, "router2", &[8080], &[5353]).expect("a server");
        if forwarding {
            // The way is open before us, so that it is we who close it.
            let outcome = ask(&lab, Protocol::Tcp, "neighbour", NEIGHBOUR[0], at(POD[0], 8080));
            assert_eq!(outcome.server(), Some("pod1"), "{outcome}");
        }
        let (rig, first) = Rig::start_in(lab, RigOptions::new(flavour), Vec::new());
        assert!(first.status.in_sync, "{:?}", first.events);
        for family in 0..2 {
            for target in [POD[family], OTHER_ROUTER[family]] {
                for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                    let outcome = ask_briefly(
                        &rig.lab,
                        protocol,
                        "neighbour",
                        NEIGHBOUR[family],
                        at(target, port),
                    );
                    assert_eq!(outcome, Outcome::TimedOut, "{target} {protocol}");
                }
            }
        }
    }
});

both_flavours!(a_pod_cannot_leave_an_uplink_with_its_own_address, |flavour| {
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    let seen = Server::start(&rig.lab, "neighbour", &[8080], &[5353]).expect("a server");
    for route in [
        ["ip", "route", "add", "10.244.1.0/24", "via", "198.51.100.10"],
        ["ip", "route", "add", "fd00:244:1::/64", "via", "2001:db8:51::10"],
    ] {
        rig.lab.command("neighbour", &route).expect("a route");
    }
    for family in 0..2 {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let to = at(NEIGHBOUR[family], port);
            let outcome = ask_briefly(&rig.lab, protocol, "pod1", POD[family], to);
            assert_eq!(outcome, Outcome::TimedOut, "{to} {protocol}");
        }
    }
    assert_eq!(seen.requests(), 0);
});

both_flavours!(where_we_switched_forwarding_on_nothing_else_is_forwarded, |flavour| {
    let topology = standard(StandardOptions { office: true });
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    assert!(first.status.in_sync, "{:?}", first.events);
    // Straight through the gateway's one cluster interface: from a pod to what the office routes.
    let _office = Server::start(&rig.lab, "office", &[8080], &[5353]).expect("a server");
    for (from, to) in [("10.244.1.11", "172.31.0.1"), ("fd00:244:1::11", "fd00:31::1")] {
        let outcome = ask_briefly(&rig.lab, Protocol::Udp, "pod1", from, at(to, 5353));
        assert_eq!(outcome, Outcome::TimedOut, "{to}");
    }
});
