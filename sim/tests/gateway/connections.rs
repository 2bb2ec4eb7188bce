//! Connections that nothing permits any more end, after the rules, and only those (T9, T10, T13).

use std::collections::BTreeSet;

use smartnat_core::gateway::{EventKind, Input, Output};
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{Backend, ClusterObject, Protocol};
use smartnat_core::names::quarantine_set;
use smartnat_core::objects::nft::{NftKey, fields};
use smartnat_core::objects::{Flow, FlowKey, FlowTuple, Layer4, SetElement};
use smartnat_core::ops::{Domain, NetworkOp, OpErrorClass};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::{OpKind, OpMatcher, XtFlavour};
use smartnat_sim::scenario::{mapping, service, without_mapping, without_service};

use crate::common::*;

fn marks() -> MarkLayout {
    MarkLayout::new(config().mark_mask)
}

/// A tuple with ports.
pub(crate) fn tuple(protocol: Protocol, from: (&str, u16), to: (&str, u16)) -> FlowTuple {
    FlowTuple {
        source: ip(from.0),
        destination: ip(to.0),
        protocol: protocol.number(),
        layer4: Layer4::Ports { source: from.1, destination: to.1 },
    }
}

/// A connection through the Mapping `echo`, as its first packet would open one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    protocol: Protocol,
    source: &'static str,
    external: (&'static str, u16),
    target: u16,
    masquerade: bool,
}

impl Client {
    /// Over TCP, from an allowed source.
    pub(crate) fn allowed() -> Self {
        Self {
            protocol: Protocol::Tcp,
            source: "192.0.2.5",
            external: (EXT1, 8080),
            target: 8080,
            masquerade: true,
        }
    }

    /// Over UDP, to the fourth port of the range.
    pub(crate) fn udp() -> Self {
        Self { protocol: Protocol::Udp, external: (EXT1, 5003), target: 6003, ..Self::allowed() }
    }

    /// The endpoint sees the client.
    pub(crate) fn unmasqueraded(self) -> Self {
        Self { masquerade: false, ..self }
    }

    fn from(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    /// Adds the conntrack entry of a connection to `endpoint`.
    pub(crate) fn connect(self, kernel: &mut SimKernel, endpoint: &str) -> FlowKey {
        let marks = marks();
        let flag = if self.masquerade { marks.masquerade } else { 0 };
        let seen_as = if self.masquerade { "10.0.0.2" } else { self.source };
        kernel.add_flow(
            tuple(self.protocol, (self.source, 40_000), self.external),
            tuple(self.protocol, (endpoint, self.target), (seen_as, 40_000)),
            marks.ours | marks.uplink_mark(1) | flag,
        )
    }
}

fn echo() -> smartnat_sim::scenario::ServiceBuilder {
    service("echo").port("http", Protocol::Tcp, 80, 8080).port("", Protocol::Udp, 5000, 6000)
}

fn echo_mapping() -> smartnat_sim::scenario::MappingBuilder {
    mapping("echo").created(1).address(EXT1)
}

fn with_ports(mapping: smartnat_sim::scenario::MappingBuilder) -> ClusterObject {
    mapping
        .port(Protocol::Tcp, 8080, None, Some("http"))
        .port(Protocol::Udp, 5000, Some(5010), None)
        .build()
}

/// The keys that survive `change`, of: TCP and UDP to 10.1.0.7, TCP and UDP to 10.1.0.8.
fn survivors(change: Vec<ClusterObject>) -> [bool; 4] {
    let mut driver = settled(XtFlavour::Nft);
    let kernel = &mut driver.kernel;
    let flows = [
        Client::allowed().connect(kernel, "10.1.0.7"),
        Client::udp().connect(kernel, "10.1.0.7"),
        Client::allowed().from("192.0.2.200").connect(kernel, "10.1.0.8"),
        Client::udp().from("192.0.2.200").connect(kernel, "10.1.0.8"),
    ];
    driver.cluster(change);
    assert_in_sync(&driver);
    let left: Vec<FlowKey> = driver.kernel.conntrack().iter().map(|f| f.key).collect();
    let ended = count(driver.events(), EventKind::ConnectionsEnded);
    assert_eq!(ended > 0, left.len() < flows.len(), "{:?}", driver.events());
    flows.map(|key| left.contains(&key))
}

#[test]
fn connections_end_that_the_change_no_longer_permits_and_only_those() {
    on_both_backends(|| {
        let cases: Vec<(&str, Vec<ClusterObject>, [bool; 4])> = vec![
            ("nothing", vec![], [true; 4]),
            (
                "an endpoint is added",
                echo().ready("10.1.0.7").ready("10.1.0.8").ready("10.1.0.9").build(),
                [true; 4],
            ),
            ("an endpoint goes", echo().ready("10.1.0.8").build(), [false, false, true, true]),
            ("scale to zero", echo().build(), [false; 4]),
            (
                "T9: an endpoint drains",
                echo().draining("10.1.0.7").ready("10.1.0.8").build(),
                [true; 4],
            ),
            (
                "T9: an endpoint does not serve",
                echo().not_ready("10.1.0.7").ready("10.1.0.8").build(),
                [true, false, true, true],
            ),
            ("the Service goes", without_service("echo"), [false; 4]),
            ("the Mapping goes", vec![without_mapping("echo")], [false; 4]),
            (
                "a source is withdrawn",
                vec![with_ports(echo_mapping().source("192.0.2.0/25"))],
                [true, true, false, false],
            ),
            ("everybody is allowed", vec![with_ports(echo_mapping())], [true; 4]),
            (
                "a port is withdrawn",
                vec![echo_mapping().port(Protocol::Udp, 5000, Some(5010), None).build()],
                [false, true, false, true],
            ),
            (
                "the range ends before the port",
                vec![
                    echo_mapping()
                        .port(Protocol::Tcp, 8080, None, Some("http"))
                        .port(Protocol::Udp, 5000, Some(5002), None)
                        .build(),
                ],
                [true, false, true, false],
            ),
            (
                "the range shifts",
                vec![
                    echo_mapping()
                        .port(Protocol::Tcp, 8080, None, Some("http"))
                        .port(Protocol::Udp, 5001, Some(5010), Some("5000"))
                        .build(),
                ],
                [true, false, true, false],
            ),
            (
                "the address is withdrawn",
                vec![with_ports(mapping("echo").created(1).address(EXT1_B))],
                [false; 4],
            ),
            ("masquerade changes", vec![with_ports(echo_mapping().masquerade(false))], [true; 4]),
            ("another Mapping goes", vec![without_mapping("sticky")], [true; 4]),
        ];
        for (what, change, expected) in cases {
            assert_eq!(survivors(change), expected, "{what}");
        }
    });
}

/// What happens in the order of T10: rules, deletion, second sweep.
#[test]
fn rules_come_first_then_the_entries_then_a_second_sweep() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
        let late = Client::allowed().from("192.0.2.77");
        let input = Input::Cluster(vec![without_mapping("echo")]);
        driver.gateway.handle_input(driver.kernel.now(), input);
        let mut order = Vec::new();
        while let Some(output) = driver.gateway.poll_output() {
            answer(&mut driver.gateway, &mut driver.kernel, &output, |_| {});
            match output {
                Output::Apply(t) if matches!(t.domain, Domain::Xtables(_) | Domain::Nftables) => {
                    order.push("rules");
                }
                Output::Apply(t) if t.domain == Domain::Flows => {
                    order.push("end");
                    if order.iter().filter(|o| **o == "end").count() == 1 {
                        // Its first packet had passed the nat table when the rules changed.
                        late.connect(&mut driver.kernel, "10.1.0.8");
                    }
                }
                Output::ListFlows(_) => order.push("list"),
                _ => {}
            }
        }
        order.dedup();
        assert_eq!(order, ["rules", "list", "end", "list", "end", "list"]);
        assert!(driver.kernel.conntrack().is_empty());
    });
}

/// T10: what was in flight ends also where the first sweep found nothing.
#[test]
fn a_connection_in_flight_ends_though_it_was_the_only_one() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let input = Input::Cluster(vec![without_mapping("echo")]);
        driver.gateway.handle_input(driver.kernel.now(), input);
        let mut listed = 0;
        while let Some(output) = driver.gateway.poll_output() {
            answer(&mut driver.gateway, &mut driver.kernel, &output, |_| {});
            if matches!(output, Output::ListFlows(_)) {
                listed += 1;
                if listed == 1 {
                    // Its first packet had passed the nat table when the rules changed.
                    Client::allowed().connect(&mut driver.kernel, "10.1.0.8");
                }
            }
        }
        assert!(driver.kernel.conntrack().is_empty());
    });
}

/// T10: connections are judged after a start too, since nobody saw what changed before.
#[test]
fn what_was_withdrawn_while_down_ends_at_the_start() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
        let kept = Client::allowed().from("192.0.2.200").connect(&mut driver.kernel, "10.1.0.8");
        let mut now = objects();
        now.retain(|o| !matches!(o, ClusterObject::EndpointSlice(s) if &*s.service_name == "echo"));
        now.extend(echo().ready("10.1.0.8").build());
        driver.restart(config(), now);
        assert_in_sync(&driver);
        let left: Vec<FlowKey> = driver.kernel.conntrack().iter().map(|f| f.key).collect();
        assert_eq!(left, [kept]);
    });
}

/// Packets from the endpoint to the client, and no others.
#[track_caller]
fn assert_held_back(kernel: &SimKernel) {
    let (endpoint, client) = (ip("10.1.0.8"), ip("192.0.2.6"));
    if let Some(table) = kernel.nft().ours() {
        let set = table.set(&"quarantine4".into()).expect("it is there");
        let held_back: Vec<&NftKey> = set.elements().map(|(key, _)| key).collect();
        let (from, to) = (fields::address(endpoint), fields::address(client));
        let key = fields::join([&from, &[6][..], &8080_u16.to_be_bytes()[..], &to]);
        assert_eq!(held_back, [&NftKey::exact(key)]);
        return;
    }
    let quarantine = quarantine_set(smartnat_core::model::Family::V4);
    let set = kernel.sets().get(&quarantine).expect("it is there");
    let held_back: Vec<SetElement> = set.elements.keys().copied().collect();
    let protocol = Protocol::Tcp;
    let expected = SetElement::IpPortIp { ip: endpoint, protocol, port: 8080, other: client };
    assert_eq!(held_back, [expected]);
}

/// T10: without masquerade what the endpoint still sends would be routed on as it is.
#[test]
fn packets_of_ended_connections_are_held_back_where_they_would_escape() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let seen = Client::allowed();
        seen.connect(&mut driver.kernel, "10.1.0.7");
        seen.from("192.0.2.6").unmasqueraded().connect(&mut driver.kernel, "10.1.0.8");
        driver.cluster(vec![without_mapping("echo")]);
        assert_held_back(&driver.kernel);
        assert!(driver.kernel.conntrack().is_empty());
    });
}

/// A full quarantine is no reason to let a connection live on.
#[test]
fn connections_end_though_their_packets_cannot_be_held_back() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        Client::allowed().unmasqueraded().connect(&mut driver.kernel, "10.1.0.7");
        let quarantine = match backend() {
            Backend::Nftables => "quarantine4".into(),
            _ => quarantine_set(smartnat_core::model::Family::V4).0,
        };
        driver.kernel.fail_every(OpMatcher::named(quarantine), OpErrorClass::Invalid);
        driver.cluster(vec![without_mapping("echo")]);
        assert!(driver.kernel.conntrack().is_empty());
        assert_in_sync(&driver);
        assert_eq!(count(driver.events(), EventKind::KernelError), 1, "{:?}", driver.events());
    });
}

/// Entries that the kernel does not delete are tried again, and status does not claim otherwise.
#[test]
fn connections_that_could_not_be_ended_are_tried_again() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
        driver.kernel.fail_every(OpMatcher::kind(OpKind::DeleteFlow), OpErrorClass::Transient);
        driver.cluster(vec![without_mapping("echo")]);
        assert!(!driver.status().expect("a status").in_sync);
        driver.kernel.clear_faults();
        driver.advance(60_000);
        assert!(driver.kernel.conntrack().is_empty());
        assert_in_sync(&driver);
    });
}

/// Connections are walked when something was withdrawn, and else not.
#[test]
fn connections_are_listed_only_when_something_is_withdrawn() {
    on_both_backends(|| {
        let lists = |change: Vec<ClusterObject>| {
            let mut driver = settled(XtFlavour::Nft);
            driver.gateway.handle_input(driver.kernel.now(), Input::Cluster(change));
            let outputs = run(&mut driver.gateway, &mut driver.kernel, |_| {});
            outputs.iter().filter(|o| matches!(o, Output::ListFlows(_))).count()
        };
        let more = echo().ready("10.1.0.7").ready("10.1.0.8").ready("10.1.0.9").ready("fd01::7");
        assert_eq!(lists(more.build()), 0);
        assert_eq!(lists(vec![mapping("more").address(EXT1_B).tcp(1).build()]), 0);
        // The second time for what was in flight (T10).
        assert_eq!(lists(vec![without_mapping("echo")]), 2);
    });
}

/// T13: a change of egress ends the connections that it affects.
#[test]
fn a_change_of_egress_ends_the_connections_of_its_pods() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let marks = marks();
        let egress = marks.ours | marks.egress | marks.uplink_mark(2);
        let open = |kernel: &mut SimKernel, destination: &str, seen_as: &str| {
            kernel.add_flow(
                tuple(Protocol::Tcp, ("10.1.0.20", 5555), (destination, 443)),
                tuple(Protocol::Tcp, (destination, 443), (seen_as, 5555)),
                egress,
            )
        };
        let outside = open(&mut driver.kernel, "192.0.2.9", EXT2);
        let inside = open(&mut driver.kernel, "10.9.0.1", "10.1.0.20");
        let by_others = open(&mut driver.kernel, "10.0.0.77", "10.0.0.2");
        let left = |driver: &smartnat_sim::Driver| -> BTreeSet<FlowKey> {
            driver.kernel.conntrack().iter().map(|f: &Flow| f.key).collect()
        };
        driver.cluster(vec![without_mapping("sticky")]);
        assert_eq!(left(&driver).len(), 3, "nothing of it changed");
        let without =
            mapping("exit").created(3).address(EXT2).address(EXT2_V6).tcp(25).masquerade(false);
        driver.cluster(vec![without.build()]);
        assert_in_sync(&driver);
        assert_eq!(left(&driver), [inside, by_others].into(), "{outside:?} alone ends");
    });
}

/// A change that arrives while connections are being ended is judged on its own.
#[test]
fn a_change_during_a_sweep_is_not_lost() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
        Client::allowed().from("192.0.2.200").connect(&mut driver.kernel, "10.1.0.8");
        let first = Input::Cluster(echo().ready("10.1.0.8").build());
        driver.gateway.handle_input(driver.kernel.now(), first);
        let mut second = Some(Input::Cluster(vec![without_mapping("echo")]));
        while let Some(output) = driver.gateway.poll_output() {
            if matches!(output, Output::ListFlows(_))
                && let Some(input) = second.take()
            {
                driver.gateway.handle_input(driver.kernel.now(), input);
            }
            answer(&mut driver.gateway, &mut driver.kernel, &output, |_| {});
        }
        assert!(second.is_none());
        assert!(driver.kernel.conntrack().is_empty());
        assert!(driver.gateway.status().expect("a status").in_sync);
        let flows_ended = driver.kernel.log().iter().filter(|r| r.domain == Domain::Flows).count();
        assert_eq!(flows_ended, 2);
    });
}

/// Foreign connections and those without our flag are never listed, let alone ended.
#[test]
fn connections_of_others_are_left_alone() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let foreign = driver.kernel.add_flow(
            tuple(Protocol::Tcp, ("192.0.2.5", 40_000), (EXT1, 8080)),
            tuple(Protocol::Tcp, ("10.1.0.99", 8080), ("10.0.0.2", 40_000)),
            0x1 | marks().uplink_mark(1),
        );
        driver.cluster(vec![without_mapping("echo")]);
        driver.clean_up();
        let left: Vec<FlowKey> = driver.kernel.conntrack().iter().map(|f| f.key).collect();
        assert_eq!(left, [foreign]);
        let deleted = driver.kernel.log().iter().filter(|r| r.domain == Domain::Flows).count();
        assert_eq!(deleted, 0, "{:?}", NetworkOp::DeleteFlow(foreign));
    });
}

/// A round that failed half-way may have let in what its successor does not want any more.
#[test]
fn what_a_failed_round_let_in_is_judged() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let more = echo().ready("10.1.0.7").ready("10.1.0.8").ready("10.1.0.9").ready("fd01::8");
        let nat_v6 = Domain::Xtables(smartnat_core::objects::XtTableId {
            family: smartnat_core::model::Family::V6,
            table: smartnat_core::objects::XtTable::Nat,
        });
        let refused = if backend() == Backend::Nftables { Domain::Nftables } else { nat_v6 };
        driver.kernel.fail_every(OpMatcher::domain(refused), OpErrorClass::Transient);
        driver.cluster(more.build());
        assert!(!driver.status().expect("a status").in_sync);
        Client::allowed().connect(&mut driver.kernel, "10.1.0.9");
        let kept = Client::allowed().from("192.0.2.200").connect(&mut driver.kernel, "10.1.0.8");
        driver.kernel.clear_faults();
        driver.cluster(echo().ready("10.1.0.7").ready("10.1.0.8").ready("fd01::7").build());
        assert_in_sync(&driver);
        let left: Vec<FlowKey> = driver.kernel.conntrack().iter().map(|f| f.key).collect();
        assert_eq!(left, [kept]);
    });
}
