//! T18: during any change, connections that it does not concern keep their verdict.

use std::time::Duration;

use smartnat::lab::traffic::{Outcome, StreamKind};
use smartnat_core::model::{ClusterObject, ObjectKey, Protocol};
use smartnat_core::status::StatusReport;
use smartnat_sim::scenario::{MappingBuilder, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::{Arm, config};
use smartnat_tests::on_both_arms;

use super::common::{SIDES, USUAL, at, echo_on, first_network, ip, on_all_sides, serve_in_pods};

/// Beside the Mapping with traffic: others that come, change and go on the same addresses.
fn changes() -> Vec<Vec<ClusterObject>> {
    let other = |name: &str, port: u16| {
        on_all_sides(name).service("echo").port(Protocol::Tcp, port, None, Some("http"))
    };
    vec![
        vec![other("b", 2000).build(), other("c", 3000).egress(true).build()],
        vec![other("b", 2001).source("192.0.2.0/24").build()],
        echo_on(&[1, 2, 3]),
        vec![other("c", 3000).masquerade(false).build()],
        echo_on(&[1, 3]),
        vec![without_mapping("b"), other("c", 3000).egress(true).build()],
        echo_on(&[1]),
        vec![without_mapping("c")],
    ]
}

/// The Mapping with traffic, for everybody.
fn exposed() -> MappingBuilder {
    on_all_sides("a").service("echo").tcp(8080).udp(5353)
}

/// The same for the clients' usual addresses.
fn exposed_to_clients() -> MappingBuilder {
    SIDES.iter().fold(exposed(), |m, side| m.source(side.source))
}

/// All kinds of traffic through the first uplink.
fn start_streams(arm: &mut impl Arm) {
    for side in first_network() {
        for (kind, port) in [
            (StreamKind::Established, 8080),
            (StreamKind::NewConnections, 8080),
            (StreamKind::Datagrams, 5353),
            (StreamKind::NewFlows, 5353),
        ] {
            let (from, to) = (ip(side.source), at(side.external, port));
            arm.stream(kind, side.client, from, to, Duration::from_millis(1));
        }
    }
}

#[track_caller]
fn assert_no_loss(arm: &mut impl Arm) {
    arm.await_streams(5);
    for report in arm.stop_streams() {
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
}

#[track_caller]
fn assert_all_served(arm: &mut impl Arm, why: &str) {
    for side in SIDES {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert_eq!(outcome.server(), Some("pod1"), "{why} {side:?} {protocol}: {outcome}");
        }
    }
}

on_both_arms!(traffic_that_a_change_does_not_concern_goes_on, |arms| {
    let objects = [echo_on(&[1]), vec![exposed_to_clients().build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    start_streams(&mut arm);
    for change in changes() {
        let step = arm.sync(change);
        assert!(step.status.in_sync, "{:?}", step.events);
        arm.await_streams(5);
    }
    assert_no_loss(&mut arm);
});

on_both_arms!(an_uplink_that_goes_and_comes_is_served_again_and_the_other_all_the_time, |arms| {
    let objects = [echo_on(&[1]), vec![exposed_to_clients().egress(true).build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    start_streams(&mut arm);
    // The cable first, then the interface. A link that is set down loses its IPv6 addresses.
    for (host, interface, lost) in
        [("router2", "outer", "2001:db8:113::1/64"), ("gateway", "ext2", "2001:db8:113::10/64")]
    {
        arm.set_link(host, interface, false);
        let down = arm.host_changed();
        assert!(down.status.in_sync, "{:?}", down.events);
        arm.set_link(host, interface, true);
        arm.add_address(host, interface, lost);
        let up = arm.host_changed();
        assert!(up.status.in_sync, "{:?}", up.events);
        assert_all_served(&mut arm, host);
    }
    assert_no_loss(&mut arm);
});

/// Addresses of the first uplink that it does not have in the beginning.
const LATER: [&str; 2] = ["198.51.100.99", "2001:db8:51::99"];

/// Whether the Mapping waits for them.
fn waits(status: &StatusReport) -> bool {
    let mapping = &status.mappings[&ObjectKey::new("default", "a")];
    mapping.remarks.iter().any(|remark| remark.contains(LATER[0]))
}

on_both_arms!(an_address_that_comes_is_served_and_one_that_goes_disturbs_nobody, |arms| {
    let m = LATER.into_iter().fold(exposed(), MappingBuilder::address).build();
    let mut arm = arms.build(&standard(StandardOptions::default()));
    let first = arm.start(config(), [echo_on(&[1]), vec![m]].concat());
    assert!(waits(&first.status), "{:?}", first.status.mappings);
    serve_in_pods(&mut arm);
    start_streams(&mut arm);
    let prefixes = [format!("{}/24", LATER[0]), format!("{}/64", LATER[1])];
    for prefix in &prefixes {
        arm.add_address("gateway", "ext1", prefix);
    }
    let come = arm.host_changed();
    assert!(come.status.in_sync && !waits(&come.status), "{:?}", come.status.mappings);
    for (side, address) in first_network().into_iter().zip(LATER) {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(address, port)));
            assert_eq!(outcome.server(), Some("pod1"), "{address} {protocol}: {outcome}");
        }
    }
    for prefix in &prefixes {
        arm.delete_address("gateway", "ext1", prefix);
    }
    let gone = arm.host_changed();
    assert!(gone.status.in_sync && waits(&gone.status), "{:?}", gone.status.mappings);
    for (side, address) in first_network().into_iter().zip(LATER) {
        let to = at(address, 8080);
        let outcome = arm.ask_briefly((Protocol::Tcp, side.client, side.source, to));
        let silent = matches!(outcome, Outcome::TimedOut | Outcome::Unreachable);
        assert!(silent, "{address}: {outcome}");
    }
    assert_no_loss(&mut arm);
});

on_both_arms!(a_change_of_the_mapping_that_still_allows_a_client_costs_it_nothing, |arms| {
    let from = |sources: &[&str]| sources.iter().fold(exposed(), |m, s| m.source(s));
    let own = ["192.0.2.10", "2001:db8:2::10"];
    let objects = [echo_on(&[1]), vec![exposed().build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    start_streams(&mut arm);
    for change in [
        from(&own),
        from(&["192.0.2.0/24", "2001:db8:2::/64", "203.0.113.0/25"]),
        from(&["192.0.0.0/16", "2001:db8::/32"]).egress(true),
        from(&own).egress(true).masquerade(false),
        from(&own).port(Protocol::Tcp, 9000, Some(9010), Some("http")),
        from(&own).address("198.51.100.11").address("2001:db8:51::11"),
        exposed(),
    ] {
        let step = arm.sync(vec![change.build()]);
        assert!(step.status.in_sync, "{:?}", step.events);
        arm.await_streams(5);
    }
    assert_no_loss(&mut arm);
});
