//! T9: draining endpoints get new connections only when no ready one is left; connections of one that
//! is listed but not ready live on (TCP), or while it serves (UDP).

use smartnat::lab::traffic::Outcome;
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_sim::scenario::ServiceBuilder;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::{Arm, config};
use smartnat_tests::on_both_arms;

use super::common::{USUAL, at, echo_service, first_network, on_first_network, pod, serve_in_pods};

/// Pod 1 and 2 in both families, each by a step of the builder.
fn echo(
    one: fn(ServiceBuilder, &str) -> ServiceBuilder,
    two: fn(ServiceBuilder, &str) -> ServiceBuilder,
) -> Vec<ClusterObject> {
    Family::ALL.into_iter().fold(echo_service(), |s, f| two(one(s, &pod(1, f)), &pod(2, f))).build()
}

fn exposed() -> ClusterObject {
    on_first_network("echo").tcp(8080).udp(5353).build()
}

fn assert_served_by(arm: &mut impl Arm, server: &str) {
    for side in first_network() {
        for _ in 0..10 {
            let to = at(side.external, 8080);
            let outcome = arm.ask((Protocol::Tcp, side.client, side.source, to));
            assert_eq!(outcome.server(), Some(server), "{side:?}: {outcome}");
        }
    }
}

on_both_arms!(a_draining_pod_serves_only_when_no_ready_one_is_left, |arms| {
    let objects = [echo(ServiceBuilder::ready, ServiceBuilder::draining), vec![exposed()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    assert_served_by(&mut arm, "pod1");
    arm.sync(echo(ServiceBuilder::not_ready, ServiceBuilder::draining));
    assert_served_by(&mut arm, "pod2");
});

on_both_arms!(connections_of_a_pod_that_is_not_ready_live_on_by_protocol, |arms| {
    let objects =
        [echo(ServiceBuilder::ready, ServiceBuilder::not_ready), vec![exposed()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    for side in first_network() {
        arm.sync(echo(ServiceBuilder::ready, ServiceBuilder::not_ready));
        let [mut tcp, mut udp] = USUAL.map(|(protocol, port)| {
            arm.converse(protocol, side.client, at(side.source, 0), at(side.external, port))
        });
        assert_eq!(arm.ask_on(&mut tcp).server(), Some("pod1"));
        assert_eq!(arm.ask_on(&mut udp).server(), Some("pod1"));

        // Still serving: both live on, although new connections go elsewhere.
        arm.sync(echo(ServiceBuilder::draining, ServiceBuilder::ready));
        assert_eq!(arm.ask_on(&mut tcp).server(), Some("pod1"));
        assert_eq!(arm.ask_on(&mut udp).server(), Some("pod1"));

        // Not serving: TCP lives on, UDP finds another pod.
        arm.sync(echo(ServiceBuilder::not_ready, ServiceBuilder::ready));
        assert_eq!(arm.ask_on(&mut tcp).server(), Some("pod1"));
        assert_eq!(arm.ask_on(&mut udp).server(), Some("pod2"));

        // Not listed: TCP ends too.
        arm.sync(Family::ALL.into_iter().fold(echo_service(), |s, f| s.ready(&pod(2, f))).build());
        assert!(!arm.ask_on_briefly(&mut tcp).is_answered());
    }
});

on_both_arms!(pods_that_publish_not_ready_addresses_serve_before_they_are_ready, |arms| {
    let ends = |s: ServiceBuilder| Family::ALL.into_iter().fold(s, |s, f| s.not_ready(&pod(1, f)));
    let published = ends(echo_service().publish_not_ready()).build();
    let objects = [published, vec![exposed()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    serve_in_pods(&mut arm);
    for side in first_network() {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
        }
    }
    arm.sync(ends(echo_service()).build());
    for side in first_network() {
        let to = at(side.external, 8080);
        let outcome = arm.ask((Protocol::Tcp, side.client, side.source, to));
        assert_eq!(outcome, Outcome::Refused, "{side:?}");
    }
});
