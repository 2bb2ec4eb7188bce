//! T4: no transit between uplinks and cluster side, whatever routes the sender adds; nothing leaves an
//! uplink with a foreign source; if we switched forwarding on, nothing else is forwarded.

use smartnat::lab::traffic::{BRIEF, Outcome, Server};
use smartnat::lab::{Direction, Sniffer};
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    ask, ask_all_briefly, ask_briefly, assert_silence, at, both_flavours, conversation, echo_on,
    first_network, ip, servers,
};

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
        let requests: Vec<_> = [POD, OTHER_ROUTER]
            .into_iter()
            .flat_map(|targets| NEIGHBOUR.into_iter().zip(targets))
            .flat_map(|(from, to)| {
                [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)]
                    .map(|(protocol, port)| (protocol, "neighbour", from, at(to, port)))
            })
            .collect();
        assert_silence(&rig.lab, &requests);
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
    let requests: Vec<_> = POD
        .into_iter()
        .zip(NEIGHBOUR)
        .flat_map(|(from, to)| {
            [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)]
                .map(|(protocol, port)| (protocol, "pod1", from, at(to, port)))
        })
        .collect();
    assert_silence(&rig.lab, &requests);
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

both_flavours!(the_host_cannot_leave_an_uplink_with_its_inside_address, |flavour| {
    let topology = standard(StandardOptions::default());
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    let seen = Sniffer::start(&rig.lab, "neighbour", "eth0").expect("a sniffer");
    let inside = [addresses::GATEWAY_V4, addresses::GATEWAY_V6];
    let requests: Vec<_> = inside
        .into_iter()
        .zip(NEIGHBOUR)
        .flat_map(|(from, to)| {
            [Protocol::Tcp, Protocol::Udp].map(|p| (p, "gateway", from, at(to, 5353)))
        })
        .collect();
    for outcome in ask_all_briefly(&rig.lab, &requests) {
        assert!(!outcome.is_answered(), "{outcome}");
    }
    let escaped = seen.packets().into_iter().find(|p| inside.map(ip).contains(&p.source));
    assert_eq!(escaped, None);
});

both_flavours!(a_segment_without_syn_opens_nothing_in_either_direction, |flavour| {
    let m = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects =
        [echo_on(&[1]), vec![m.tcp(8080).egress(true).masquerade(false).build()]].concat();
    let topology = standard(StandardOptions { office: true });
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let _far = Server::start(&rig.lab, "client1", &[9999], &[]).expect("a server");
    for (family, side) in first_network().into_iter().enumerate() {
        let tcp = Protocol::Tcp;
        let mut inward =
            conversation(&rig.lab, tcp, side.client, at(side.source, 0), at(side.external, 8080));
        let mut outward =
            conversation(&rig.lab, tcp, "pod1", at(POD[family], 0), at(side.source, 9999));
        // The gateway knows of neither any more.
        for of in ["ipv4", "ipv6"] {
            rig.lab
                .command("gateway", &["conntrack", "-F", "-f", of])
                .expect("connections are forgotten");
        }
        let (inside, outside) = ["eth0", "ext1"]
            .map(|i| Sniffer::start(&rig.lab, "gateway", i).expect("a sniffer"))
            .into();
        std::thread::scope(|scope| {
            for conversation in [&mut inward, &mut outward] {
                scope.spawn(|| assert_eq!(conversation.ask("again", BRIEF), Outcome::TimedOut));
            }
        });
        let passed = |sniffer: &Sniffer, from: &str| {
            let of_sender =
                |p: &&smartnat::lab::Packet| p.direction == Direction::Out && p.source == ip(from);
            sniffer.packets().iter().find(of_sender).copied()
        };
        assert_eq!(passed(&inside, side.source), None, "{side:?}");
        assert_eq!(passed(&outside, POD[family]), None, "{side:?}");
        assert_eq!(passed(&outside, side.external), None, "{side:?}");
    }
});
