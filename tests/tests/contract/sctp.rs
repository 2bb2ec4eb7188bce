//! SCTP, as T1, T2, T5, T6, T7, T10 and T13 promise it.

use smartnat::lab::traffic::{BRIEF, PATIENT};
use smartnat::lab::{Direction, Lab, Sniffer, Transport};
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_sim::scenario::{MappingBuilder, mapping, service, without_mapping};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::sctp::{Chunk, SctpEnd, associate};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, Side, at, both_flavours, first_network, ip, pod};

/// The pod's port; ports 3000 to 3002 lead to the pod's from here on.
const TARGET: u16 = 2905;

fn signalling(ready: bool) -> Vec<ClusterObject> {
    let s = service("echo").port("sig", Protocol::Sctp, 2905, TARGET);
    Family::ALL.iter().fold(s, |s, f| s.endpoint(&pod(1, *f), ready, ready, false)).build()
}

fn exposed() -> MappingBuilder {
    SIDES
        .iter()
        .fold(mapping("echo"), |m, s| m.address(s.external))
        .port(Protocol::Sctp, 2905, None, None)
        .port(Protocol::Sctp, 3000, Some(3002), Some("sig"))
}

fn end(lab: &Lab, host: &str, address: &str, port: u16) -> SctpEnd {
    SctpEnd::open(lab, host, at(address, port)).expect("a raw socket")
}

fn family(side: Side) -> Family {
    Family::of(&ip(side.external))
}

both_flavours!(an_association_is_translated_both_ways, |flavour| {
    for masquerade in [true, false] {
        let objects = [signalling(true), vec![exposed().masquerade(masquerade).build()]].concat();
        let topology = standard(StandardOptions::default());
        let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects);
        assert!(first.status.in_sync, "{:?}", first.events);
        for side in SIDES {
            let gateway = if family(side) == Family::V4 {
                addresses::GATEWAY_V4
            } else {
                addresses::GATEWAY_V6
            };
            for (port, target) in [(2905, TARGET), (3000, TARGET), (3002, TARGET + 2)] {
                let client = end(&rig.lab, side.client, side.source, 40_000 + port);
                let server = end(&rig.lab, "pod1", &pod(1, family(side)), target);
                let to = at(side.external, port);
                let (seen, answer) =
                    associate(&client, &server, to, PATIENT).unwrap_or_else(|| {
                        panic!("{side:?} {port}: a packet of the handshake is lost")
                    });
                let expected = if masquerade { gateway } else { side.source };
                assert_eq!(seen.from.ip(), ip(expected), "{side:?} {port}");
                assert_eq!(answer.from, to, "{side:?}");
            }
        }
    }
});

both_flavours!(nobody_home_is_told_and_a_refused_source_is_not, |flavour| {
    let m = first_network().iter().fold(exposed(), |m, s| m.source(s.source));
    let objects = [signalling(false), vec![m.build()]].concat();
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    for side in first_network() {
        let heard = Sniffer::start(&rig.lab, side.client, "eth0").expect("a sniffer");
        let to = at(side.external, 2905);
        end(&rig.lab, side.client, side.source, 41_000).send(to, 0, Chunk::Init(7)).expect("sent");
        let unreachable = if family(side) == Family::V4 {
            Transport::Icmp { kind: 3, code: 3 }
        } else {
            Transport::Icmp { kind: 1, code: 4 }
        };
        let told =
            heard.wait_for(PATIENT, |p| p.transport == unreachable).expect("port unreachable");
        assert_eq!((told.source, told.destination), (ip(side.external), ip(side.source)));
    }
    for ready in [false, true] {
        rig.sync(signalling(ready));
        for side in first_network() {
            let heard = Sniffer::start(&rig.lab, side.client, "eth0").expect("a sniffer");
            let server = end(&rig.lab, "pod1", &pod(1, family(side)), TARGET);
            let client = end(&rig.lab, side.client, side.refused, 42_000);
            client.send(at(side.external, 2905), 0, Chunk::Init(7)).expect("sent");
            assert_eq!(server.receive(BRIEF), None, "{side:?}");
            let own = ip(side.refused);
            let heard = heard
                .packets()
                .into_iter()
                .find(|p| p.destination == own && p.direction == Direction::In);
            assert_eq!(heard, None, "{side:?}");
        }
    }
});

both_flavours!(a_withdrawn_association_ends_and_another_goes_on, |flavour| {
    let stays = first_network()
        .iter()
        .fold(mapping("stays").service("echo"), |m, s| m.address(s.external))
        .port(Protocol::Sctp, 5000, None, Some("sig"));
    for masquerade in [true, false] {
        let goes = || exposed().masquerade(masquerade).build();
        let objects = [signalling(true), vec![goes(), stays.clone().build()]].concat();
        let topology = standard(StandardOptions::default());
        let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
        for side in first_network() {
            rig.sync(vec![goes()]);
            let server = end(&rig.lab, "pod1", &pod(1, family(side)), TARGET);
            let [gone, kept] = [2905, 5000].map(|port| {
                let client = end(&rig.lab, side.client, side.source, 43_000 + port);
                associate(&client, &server, at(side.external, port), PATIENT)
                    .expect("an association");
                client
            });
            rig.sync(vec![without_mapping("echo")]);
            gone.send(at(side.external, 2905), 0x0202_0202, Chunk::Heartbeat).expect("sent");
            assert_eq!(server.receive(BRIEF), None, "{side:?}");
            kept.send(at(side.external, 5000), 0x0202_0202, Chunk::Heartbeat).expect("sent");
            assert_eq!(
                server.receive(PATIENT).map(|p| p.chunk),
                Some(Chunk::Heartbeat),
                "{side:?}"
            );
        }
    }
});

both_flavours!(a_pod_with_egress_opens_an_association_from_its_external_address, |flavour| {
    let objects = [signalling(true), vec![exposed().egress(true).build()]].concat();
    let topology = standard(StandardOptions { office: true });
    let (rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    for side in first_network() {
        let own = end(&rig.lab, "pod1", &pod(1, family(side)), 44_000);
        let far = end(&rig.lab, side.client, side.source, TARGET);
        let (seen, answer) =
            associate(&own, &far, at(side.source, TARGET), PATIENT).expect("an association");
        assert_eq!(seen.from.ip(), ip(side.external));
        assert_eq!(answer.from, at(side.source, TARGET));
    }
});
