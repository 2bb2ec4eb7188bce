//! T8: new connections spread evenly; a client with affinity stays.

use std::collections::BTreeMap;

use smartnat::lab::traffic::{PATIENT, Server};
use smartnat::lab::{Lab, wait_until};
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    Side, ask, at, both_flavours, echo_on, echo_service, first_network, ip, pod, servers,
};

/// Enough that an even spread over three stays within the bounds below except once in 10^9 runs.
const CONNECTIONS: usize = 150;

both_flavours!(connections_spread_over_all_ready_pods, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [echo_on(&[1, 2, 3]), vec![all.tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..CONNECTIONS {
            let to = at(side.external, 8080);
            let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
            *served.entry(outcome.server().expect("an answer").to_owned()).or_default() += 1;
        }
        assert_eq!(served.len(), 3, "{side:?}: {served:?}");
        assert!(served.values().all(|n| (17..=83).contains(n)), "{side:?}: {served:?}");
    }
});

both_flavours!(a_client_with_affinity_stays_with_its_pod, |flavour| {
    let service = (1..=3).fold(echo_service().affinity(600), |s, n| {
        s.ready(&pod(n, Family::V4)).ready(&pod(n, Family::V6))
    });
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [service.build(), vec![all.tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        let to = at(side.external, 8080);
        let serve = || {
            let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
            outcome.server().expect("an answer").to_owned()
        };
        let first = serve();
        for _ in 0..20 {
            assert_eq!(serve(), first, "{side:?}");
        }
    }
});

/// More endpoints than the lab has pods: addresses of pod 1, each with a server of its own name.
fn endpoint(number: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("10.244.1.{}", 100 + number),
        Family::V6 => format!("fd00:244:1::{}", 100 + number),
    }
}

fn many_endpoints(lab: &Lab, count: usize) -> Vec<Server> {
    (0..count)
        .map(|number| {
            let own = Family::ALL.map(|f| endpoint(number, f));
            for (address, length) in own.iter().zip(["24", "64"]) {
                let prefix = format!("{address}/{length}");
                let words = ["ip", "address", "add", &prefix, "dev", "eth0", "nodad"];
                lab.command("pod1", &words).expect("an address");
            }
            let addresses = own.each_ref().map(|a| ip(a));
            Server::start_on(lab, "pod1", &number.to_string(), &addresses, &[], &[5353])
                .expect("a server")
        })
        .collect()
}

both_flavours!(the_spread_is_even_at_every_number_of_endpoints, |flavour| {
    /// Connections for each endpoint; six standard deviations are 46.
    const EACH: usize = 60;
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), vec![all.udp(5353).build()]);
    let _servers = many_endpoints(&rig.lab, 7);
    for count in [1, 2, 4, 7] {
        let ends = (0..count).flat_map(|n| Family::ALL.map(|f| endpoint(n, f)));
        rig.sync(ends.fold(echo_service(), |s, a| s.ready(&a)).build());
        for side in first_network() {
            let mut served: BTreeMap<String, usize> = BTreeMap::new();
            for _ in 0..EACH * count {
                let to = at(side.external, 5353);
                let outcome = ask(&rig.lab, Protocol::Udp, side.client, side.source, to);
                *served.entry(outcome.server().expect("an answer").to_owned()).or_default() += 1;
            }
            let even = served.values().all(|n| (EACH - 46..=EACH + 46).contains(n));
            assert!(served.len() == count && even, "{side:?} {count}: {served:?}");
        }
    }
});

fn with_affinity(seconds: u32, pods: &[usize]) -> Vec<ClusterObject> {
    let ends = pods.iter().flat_map(|n| Family::ALL.map(|f| pod(*n, f)));
    ends.fold(echo_service().affinity(seconds), |s, a| s.ready(&a)).build()
}

/// Which pod serves a client now.
fn served_by(rig: &Rig, side: Side, protocol: Protocol) -> usize {
    let port = if protocol == Protocol::Tcp { 8080 } else { 5353 };
    let outcome = ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
    let server = outcome.server().unwrap_or_else(|| panic!("{side:?} {protocol}: {outcome}"));
    server.trim_start_matches("pod").parse().expect("a pod's number")
}

both_flavours!(affinity_moves_when_its_pod_goes_and_stays_there, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [with_affinity(600, &[1, 2, 3]), vec![all.tcp(8080).udp(5353).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            rig.sync(with_affinity(600, &[1, 2, 3]));
            let first = served_by(&rig, side, protocol);
            let others: Vec<usize> = (1..=3).filter(|n| *n != first).collect();
            rig.sync(with_affinity(600, &others));
            let second = served_by(&rig, side, protocol);
            assert!(others.contains(&second), "{side:?} {protocol}");
            // The first comes back, but the client stays where it went.
            let back = rig.sync(with_affinity(600, &[1, 2, 3]));
            assert!(back.status.in_sync, "{:?}", back.events);
            for _ in 0..15 {
                assert_eq!(served_by(&rig, side, protocol), second, "{side:?} {protocol}");
            }
        }
    }
});

/// Seconds for which the kernel still holds a client to an endpoint, rounded down.
fn held(lab: &Lab, client: &str) -> Option<u32> {
    let sets = lab.command("gateway", &["ipset", "save"]).expect("ipset");
    let of_client =
        |l: &&str| l.starts_with("add smartnat-f") && l.contains(&format!(" {client} "));
    let entry: Vec<&str> = sets.lines().filter(of_client).collect();
    assert!(entry.len() <= 1, "one endpoint a client: {entry:?}");
    entry.first()?.rsplit(' ').next()?.parse().ok()
}

both_flavours!(affinity_lasts_for_its_time_since_the_last_connection, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [with_affinity(3, &[1, 2, 3]), vec![all.tcp(8080).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let wait = |side: Side, wanted: fn(Option<u32>) -> bool| {
        wait_until(PATIENT, || wanted(held(&rig.lab, side.source)).then_some(())).expect("in time");
    };
    let first = first_network().map(|side| served_by(&rig, side, Protocol::Tcp));
    for (side, pod) in first_network().into_iter().zip(first) {
        wait(side, |left| left == Some(1));
        assert_eq!(served_by(&rig, side, Protocol::Tcp), pod, "{side:?}");
        assert!(held(&rig.lab, side.source) > Some(1), "{side:?}: its time starts anew");
    }
    for side in first_network() {
        wait(side, |left| left.is_none());
        served_by(&rig, side, Protocol::Tcp);
        assert!(held(&rig.lab, side.source).is_some(), "{side:?} is held anew");
    }
});
