//! T1: a new connection from an allowed client is translated to one endpoint; replies carry the
//! external address and port.

use smartnat::lab::Lab;
use smartnat::lab::traffic::PATIENT;
use smartnat_core::model::{ClusterObject, Protocol, UplinkGateway};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::Ruleset;
use smartnat_tests::arm::config;
use smartnat_tests::{Rig, RigOptions, on_both_arms};

use super::common::{
    SIDES, USUAL, ask, at, conversation, echo_on, ip, on_all_sides, serve_in_pods, servers,
};
use super::rulesets::all_rulesets;

fn objects() -> Vec<ClusterObject> {
    [echo_on(&[1]), vec![on_all_sides("echo").tcp(8080).udp(5353).build()]].concat()
}

on_both_arms!(a_client_reaches_the_pod_by_tcp_and_udp, |arms| {
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects());
    serve_in_pods(&mut arm);
    for side in SIDES {
        for (protocol, port) in USUAL {
            let to = at(side.external, port);
            let outcome = arm.ask((protocol, side.client, side.source, to));
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
        }
    }
});

// On Linux alone: the simulated network knows no sizes of packets and no fragments.
all_rulesets!(a_datagram_in_fragments_arrives_and_so_does_its_answer, |ruleset| {
    let topology = standard(StandardOptions::default());
    let (rig, _) = Rig::start(&topology, RigOptions::new(ruleset), objects());
    let _servers = servers(&rig.lab);
    for side in SIDES {
        let (from, to) = (at(side.source, 0), at(side.external, 5353));
        let mut opened = conversation(&rig.lab, Protocol::Udp, side.client, from, to);
        let outcome = opened.ask(&"x".repeat(4000), PATIENT);
        assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
    }
});

// On Linux alone: a simulated kernel has its families from the beginning.
all_rulesets!(a_host_without_ipv6_serves_ipv4, |ruleset| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    lab.set_sysctl("gateway", "net.ipv6.conf.all.disable_ipv6", "1").expect("a sysctl");
    let (mut rig, first) = Rig::start_in(lab, RigOptions::new(ruleset), objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    for side in SIDES.iter().filter(|s| s.external.contains('.')) {
        let to = at(side.external, 8080);
        let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
        assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
    }
    let again = rig.restart(objects());
    assert_eq!((again.operations, again.transactions), (0, vec![]));
});

// On Linux alone, with the next one: the simulated network finds neighbours without ARP.
/// An uplink that has single addresses and a configured router.
fn subnetless(lab: &Lab, ruleset: Ruleset) -> RigOptions {
    for words in [
        "ip address flush dev ext1 scope global",
        "ip address add 198.51.100.10/32 dev ext1",
        "ip address add 2001:db8:51::10/128 dev ext1 nodad",
    ] {
        lab.command("gateway", &words.split(' ').collect::<Vec<_>>()).expect("an address");
    }
    let mut options = RigOptions::new(ruleset);
    let router = UplinkGateway { ipv4: Some(ip("198.51.100.1")), ipv6: Some(ip("2001:db8:51::1")) };
    options.config.gateways.insert("ext1".into(), router);
    options
}

all_rulesets!(an_address_without_a_subnet_is_served_by_a_configured_gateway, |ruleset| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let options = subnetless(&lab, ruleset);
    lab.command("gateway", &["ip", "route", "add", "198.51.100.1", "dev", "ext1"])
        .expect("a route");
    let (rig, first) = Rig::start_in(lab, options, objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    assert_eq!(first.status.degraded, [""; 0]);
    let _servers = servers(&rig.lab);
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let to = at(side.external, port);
            let outcome = ask(&rig.lab, protocol, side.client, side.source, to);
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
        }
    }
});

all_rulesets!(a_router_whose_arp_the_kernel_will_not_answer_is_told, |ruleset| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let options = subnetless(&lab, ruleset);
    let (_rig, first) = Rig::start_in(lab, options, objects());
    let told = |d: &String| d.contains("ext1") && d.contains("ip route add 198.51.100.1 dev ext1");
    assert!(first.status.degraded.iter().any(told), "{:?}", first.status.degraded);
});
