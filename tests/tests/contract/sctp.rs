//! SCTP, as T1, T2, T5, T6, T7, T10 and T13 promise it.

use smartnat::lab::{Direction, Packet, Transport};
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_sim::scenario::{MappingBuilder, service, without_mapping};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{SIDES, Side, at, first_network, ip, on_all_sides, on_first_network, pod};

/// The pod's port; ports 3000 to 3002 lead to the pod's from here on.
const TARGET: u16 = 2905;

fn signalling(ready: bool) -> Vec<ClusterObject> {
    let s = service("echo").port("sig", Protocol::Sctp, 2905, TARGET);
    Family::ALL.iter().fold(s, |s, f| s.endpoint(&pod(1, *f), ready, ready, false)).build()
}

fn exposed() -> MappingBuilder {
    on_all_sides("echo").port(Protocol::Sctp, 2905, None, None).port(
        Protocol::Sctp,
        3000,
        Some(3002),
        Some("sig"),
    )
}

fn family(side: Side) -> Family {
    Family::of(&ip(side.external))
}

/// The address of pod 1 in the family of a side.
fn own(side: Side) -> String {
    pod(1, family(side))
}

// T1, T5, T7
on_both_arms!(an_association_is_translated_both_ways, |arms| {
    for masquerade in [true, false] {
        let objects = [signalling(true), vec![exposed().masquerade(masquerade).build()]].concat();
        let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
        for side in SIDES {
            let gateway = if family(side) == Family::V4 {
                addresses::GATEWAY_V4
            } else {
                addresses::GATEWAY_V6
            };
            for (port, target) in [(2905, TARGET), (3000, TARGET), (3002, TARGET + 2)] {
                let client = (side.client, at(side.source, 40_000 + port));
                let server = ("pod1", at(&own(side), target));
                let opened = arm.associate(client, at(side.external, port), server);
                let (seen, _association) = opened.unwrap_or_else(|| panic!("{side:?} {port}"));
                let expected = if masquerade { gateway } else { side.source };
                assert_eq!(seen.ip(), ip(expected), "{side:?} {port}");
            }
        }
    }
});

// T2, T6
on_both_arms!(nobody_home_is_told_and_a_refused_source_is_not, |arms| {
    let m = first_network().iter().fold(exposed(), |m, s| m.source(s.source));
    let objects = [signalling(false), vec![m.build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
    for side in first_network() {
        let heard = arm.watch(side.client, "eth0");
        arm.send_init(side.client, at(side.source, 41_000), at(side.external, 2905));
        let unreachable = if family(side) == Family::V4 {
            Transport::Icmp { kind: 3, code: 3 }
        } else {
            Transport::Icmp { kind: 1, code: 4 }
        };
        let told = arm.seen(&heard, |p| p.transport == unreachable).expect("port unreachable");
        assert_eq!((told.source, told.destination), (ip(side.external), ip(side.source)));
    }
    for ready in [false, true] {
        arm.sync(signalling(ready));
        for side in first_network() {
            let (heard, inside) = (arm.watch(side.client, "eth0"), arm.watch("pod1", "eth0"));
            arm.send_init(side.client, at(side.refused, 42_000), at(side.external, 2905));
            let sctp = Transport::Other(Protocol::Sctp.number());
            assert_eq!(arm.seen_briefly(&inside, |p| p.transport == sctp), None, "{side:?}");
            let answers =
                |p: &Packet| p.destination == ip(side.refused) && p.direction == Direction::In;
            assert_eq!(arm.packets(&heard).into_iter().find(answers), None, "{side:?}");
        }
    }
});

// T10
on_both_arms!(a_withdrawn_association_ends_and_another_goes_on, |arms| {
    let stays = on_first_network("stays").service("echo");
    let stays = stays.port(Protocol::Sctp, 5000, None, Some("sig")).build();
    for masquerade in [true, false] {
        let goes = || exposed().masquerade(masquerade).build();
        let objects = [signalling(true), vec![goes(), stays.clone()]].concat();
        let mut arm = arms.start(&standard(StandardOptions::default()), config(), objects);
        for side in first_network() {
            arm.sync(vec![goes()]);
            let [mut gone, mut kept] = [2905, 5000].map(|port| {
                let client = (side.client, at(side.source, 43_000 + port));
                let server = ("pod1", at(&own(side), TARGET));
                arm.associate(client, at(side.external, port), server).expect("an association").1
            });
            arm.sync(vec![without_mapping("echo")]);
            assert!(!arm.lives_briefly(&mut gone), "{side:?}");
            assert!(arm.lives(&mut kept), "{side:?}");
        }
    }
});

// T13
on_both_arms!(a_pod_with_egress_opens_an_association_from_its_external_address, |arms| {
    let objects = [signalling(true), vec![exposed().egress(true).build()]].concat();
    let mut arm = arms.start(&standard(StandardOptions { office: true }), config(), objects);
    for side in first_network() {
        let (client, to) = (("pod1", at(&own(side), 44_000)), at(side.source, TARGET));
        let (seen, _association) =
            arm.associate(client, to, (side.client, to)).expect("an association");
        assert_eq!(seen.ip(), ip(side.external));
    }
});
