//! T9: draining endpoints get new connections only when no ready one is left; connections of one that
//! is listed but not ready live on (TCP), or while it serves (UDP).

use smartnat::lab::traffic::{BRIEF, PATIENT, open};
use smartnat_core::model::{Family, Protocol};
use smartnat_sim::scenario::{ServiceBuilder, mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{ask, at, both_flavours, echo_service, first_network, ip, pod, servers};

/// Pod 1 and 2 in both families, each by a step of the builder.
fn echo(
    one: fn(ServiceBuilder, &str) -> ServiceBuilder,
    two: fn(ServiceBuilder, &str) -> ServiceBuilder,
) -> Vec<smartnat_core::model::ClusterObject> {
    Family::ALL.into_iter().fold(echo_service(), |s, f| two(one(s, &pod(1, f)), &pod(2, f))).build()
}

both_flavours!(a_draining_pod_serves_only_when_no_ready_one_is_left, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [
        echo(ServiceBuilder::ready, ServiceBuilder::draining),
        vec![all.tcp(8080).udp(5353).build()],
    ];
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects.concat());
    let _servers = servers(&rig.lab);
    let expect = |rig: &Rig, server: &str| {
        for side in first_network() {
            for _ in 0..10 {
                let to = at(side.external, 8080);
                let outcome = ask(&rig.lab, Protocol::Tcp, side.client, side.source, to);
                assert_eq!(outcome.server(), Some(server), "{side:?}: {outcome}");
            }
        }
    };
    expect(&rig, "pod1");
    rig.sync(echo(ServiceBuilder::not_ready, ServiceBuilder::draining));
    expect(&rig, "pod2");
});

both_flavours!(connections_of_a_pod_that_is_not_ready_live_on_by_protocol, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [
        echo(ServiceBuilder::ready, ServiceBuilder::not_ready),
        vec![all.tcp(8080).udp(5353).build()],
    ];
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects.concat());
    let _servers = servers(&rig.lab);
    for side in first_network() {
        rig.sync(echo(ServiceBuilder::ready, ServiceBuilder::not_ready));
        let connect = |protocol, port| {
            let from = std::net::SocketAddr::new(ip(side.source), 0);
            open(&rig.lab, side.client, protocol, Some(from), at(side.external, port), PATIENT)
                .expect("the lab")
                .expect("a connection")
        };
        let mut tcp = connect(Protocol::Tcp, 8080);
        let mut udp = connect(Protocol::Udp, 5353);
        assert_eq!(tcp.ask("1", PATIENT).server(), Some("pod1"));
        assert_eq!(udp.ask("1", PATIENT).server(), Some("pod1"));

        // Still serving: both live on, although new connections go elsewhere.
        rig.sync(echo(ServiceBuilder::draining, ServiceBuilder::ready));
        assert_eq!(tcp.ask("2", PATIENT).server(), Some("pod1"));
        assert_eq!(udp.ask("2", PATIENT).server(), Some("pod1"));

        // Not serving: TCP lives on, UDP finds another pod.
        rig.sync(echo(ServiceBuilder::not_ready, ServiceBuilder::ready));
        assert_eq!(tcp.ask("3", PATIENT).server(), Some("pod1"));
        assert_eq!(udp.ask("3", PATIENT).server(), Some("pod2"));

        // Not listed: TCP ends too.
        rig.sync(Family::ALL.into_iter().fold(echo_service(), |s, f| s.ready(&pod(2, f))).build());
        assert!(!tcp.ask("4", BRIEF).is_answered());
    }
});

both_flavours!(pods_that_publish_not_ready_addresses_serve_before_they_are_ready, |flavour| {
    let all = first_network().iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let ends = |s: ServiceBuilder| Family::ALL.into_iter().fold(s, |s, f| s.not_ready(&pod(1, f)));
    let published = ends(echo_service().publish_not_ready()).build();
    let topology = standard(StandardOptions::default());
    let objects = [published, vec![all.tcp(8080).udp(5353).build()]].concat();
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    for side in first_network() {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
        }
    }
    rig.sync(ends(echo_service()).build());
    for side in first_network() {
        let outcome =
            ask(&rig.lab, Protocol::Tcp, side.client, side.source, at(side.external, 8080));
        assert_eq!(outcome, smartnat::lab::traffic::Outcome::Refused, "{side:?}");
    }
});
