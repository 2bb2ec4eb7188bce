//! T8: new connections spread evenly; a client with affinity stays.

use std::collections::BTreeMap;

use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::{Arm, config};
use smartnat_tests::on_both_arms;

use super::common::{
    Side, at, echo_on, echo_service, first_network, ip, on_first_network, pod, serve_in_pods,
};

/// Enough that an even spread over three stays within the bounds below except once in 10^9 runs.
const CONNECTIONS: usize = 150;

/// Who served how many of new connections or datagrams of a client.
fn spread(
    arm: &mut impl Arm,
    side: Side,
    protocol: Protocol,
    count: usize,
) -> BTreeMap<String, usize> {
    let port = if protocol == Protocol::Tcp { 8080 } else { 5353 };
    let mut served = BTreeMap::new();
    for _ in 0..count {
        let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
        *served.entry(outcome.server().expect("an answer").to_owned()).or_default() += 1;
    }
    served
}

on_both_arms!(connections_spread_over_all_ready_pods, |arms| {
    let objects = [echo_on(&[1, 2, 3]), vec![on_first_network("echo").tcp(8080).build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    for side in first_network() {
        let served = spread(&mut arm, side, Protocol::Tcp, CONNECTIONS);
        assert_eq!(served.len(), 3, "{side:?}: {served:?}");
        assert!(served.values().all(|n| (17..=83).contains(n)), "{side:?}: {served:?}");
    }
});

on_both_arms!(a_client_with_affinity_stays_with_its_pod, |arms| {
    let mapped = on_first_network("echo").tcp(8080).build();
    let objects = [with_affinity(600, &[1, 2, 3]), vec![mapped]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    for side in first_network() {
        let first = served_by(&mut arm, side, Protocol::Tcp);
        for _ in 0..20 {
            assert_eq!(served_by(&mut arm, side, Protocol::Tcp), first, "{side:?}");
        }
    }
});

/// More endpoints than there are pods: addresses of pod 1, each with a server of its own name.
fn endpoint(number: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("10.244.1.{}", 100 + number),
        Family::V6 => format!("fd00:244:1::{}", 100 + number),
    }
}

fn serve_many_endpoints(arm: &mut impl Arm, count: usize) {
    for number in 0..count {
        let own = Family::ALL.map(|f| endpoint(number, f));
        for (address, length) in own.iter().zip(["24", "64"]) {
            arm.add_address("pod1", "eth0", &format!("{address}/{length}"));
        }
        let addresses = own.each_ref().map(|a| ip(a));
        arm.serve("pod1", &number.to_string(), &addresses, &[(Protocol::Udp, 5353)]);
    }
}

on_both_arms!(the_spread_is_even_at_every_number_of_endpoints, |arms| {
    /// Connections for each endpoint; six standard deviations are 46.
    const EACH: usize = 60;
    let mapped = vec![on_first_network("echo").udp(5353).build()];
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), mapped);
    serve_many_endpoints(&mut arm, 7);
    for count in [1, 2, 4, 7] {
        let ends = (0..count).flat_map(|n| Family::ALL.map(|f| endpoint(n, f)));
        arm.sync(ends.fold(echo_service(), |s, a| s.ready(&a)).build());
        for side in first_network() {
            let served = spread(&mut arm, side, Protocol::Udp, EACH * count);
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
fn served_by(arm: &mut impl Arm, side: Side, protocol: Protocol) -> usize {
    let names = spread(arm, side, protocol, 1);
    let name = names.into_keys().next().expect("an answer");
    name.trim_start_matches("pod").parse().expect("a pod's number")
}

on_both_arms!(affinity_moves_when_its_pod_goes_and_stays_there, |arms| {
    let mapped = on_first_network("echo").tcp(8080).udp(5353).build();
    let objects = [with_affinity(600, &[1, 2, 3]), vec![mapped]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    for side in first_network() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            arm.sync(with_affinity(600, &[1, 2, 3]));
            let first = served_by(&mut arm, side, protocol);
            let others: Vec<usize> = (1..=3).filter(|n| *n != first).collect();
            arm.sync(with_affinity(600, &others));
            let second = served_by(&mut arm, side, protocol);
            assert!(others.contains(&second), "{side:?} {protocol}");
            // The first comes back, but the client stays where it went.
            let back = arm.sync(with_affinity(600, &[1, 2, 3]));
            assert!(back.status.in_sync, "{:?}", back.events);
            for _ in 0..15 {
                assert_eq!(served_by(&mut arm, side, protocol), second, "{side:?} {protocol}");
            }
        }
    }
});

/// Lets time pass until the kernel holds a client as long as is wanted.
fn await_held(arm: &mut impl Arm, side: Side, wanted: fn(Option<u32>) -> bool) {
    let held = arm.wait_until(|arm| wanted(arm.held(side.source)).then_some(()));
    held.unwrap_or_else(|| panic!("{side:?}: not in time"));
}

on_both_arms!(affinity_lasts_for_its_time_since_the_last_connection, |arms| {
    let mapped = on_first_network("echo").tcp(8080).build();
    let objects = [with_affinity(3, &[1, 2, 3]), vec![mapped]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    let first = first_network().map(|side| served_by(&mut arm, side, Protocol::Tcp));
    for (side, pod) in first_network().into_iter().zip(first) {
        await_held(&mut arm, side, |left| left == Some(1));
        assert_eq!(served_by(&mut arm, side, Protocol::Tcp), pod, "{side:?}");
        assert!(arm.held(side.source) > Some(1), "{side:?}: its time starts anew");
    }
    for side in first_network() {
        await_held(&mut arm, side, |left| left.is_none());
        served_by(&mut arm, side, Protocol::Tcp);
        assert!(arm.held(side.source).is_some(), "{side:?} is held anew");
    }
});
