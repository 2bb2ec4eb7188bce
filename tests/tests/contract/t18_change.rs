//! T18: during any change, connections that it does not concern keep their verdict.

use std::time::Duration;

use smartnat::lab::traffic::{Outcome, PATIENT, Stream, StreamKind};
use smartnat::lab::{Lab, wait_until};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{MappingBuilder, mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{
    SIDES, ask, ask_briefly, at, both_flavours, echo_on, first_network, ip, servers,
};

/// Beside the Mapping with traffic: others that come, change and go on the same addresses.
fn changes() -> Vec<Vec<ClusterObject>> {
    let other = |name: &str, port: u16| {
        SIDES.iter().fold(mapping(name).service("echo"), |m, s| m.address(s.external)).port(
            Protocol::Tcp,
            port,
            None,
            Some("http"),
        )
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

/// All kinds of traffic through the first uplink.
fn streams(rig: &Rig) -> Vec<Stream> {
    let kinds = [
        (StreamKind::Established, 8080),
        (StreamKind::NewConnections, 8080),
        (StreamKind::Datagrams, 5353),
        (StreamKind::NewFlows, 5353),
    ];
    let start = |side: &super::common::Side| {
        kinds.map(|(kind, port)| {
            let (from, to) = (Some(ip(side.source)), at(side.external, port));
            let pause = Duration::from_millis(1);
            Stream::start(&rig.lab, side.client, kind, from, to, pause).expect("a stream")
        })
    };
    first_network().iter().flat_map(start).collect()
}

fn assert_no_loss(streams: Vec<Stream>) {
    for stream in streams {
        assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}");
    }
}

both_flavours!(traffic_that_a_change_does_not_concern_goes_on, |flavour| {
    let all = SIDES
        .iter()
        .fold(mapping("a").service("echo"), |m, s| m.address(s.external).source(s.source))
        .tcp(8080)
        .udp(5353);
    let objects = [echo_on(&[1]), vec![all.build()]].concat();
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let streams = streams(&rig);
    for change in changes() {
        let step = rig.sync(change);
        assert!(step.status.in_sync, "{:?}", step.events);
        for stream in &streams {
            assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        }
    }
    assert_no_loss(streams);
});

fn wait_for_link(lab: &Lab, interface: &str, up: bool) {
    let words = ["ip", "-oneline", "link", "show", interface];
    let as_wanted = || lab.command("gateway", &words).expect("ip").contains("state UP") == up;
    wait_until(PATIENT, || as_wanted().then_some(())).expect("the link follows");
}

both_flavours!(
    an_uplink_that_goes_and_comes_is_served_again_and_the_other_all_the_time,
    |flavour| {
        let all = SIDES
            .iter()
            .fold(mapping("a").service("echo"), |m, s| m.address(s.external).source(s.source));
        let objects = [echo_on(&[1]), vec![all.tcp(8080).udp(5353).egress(true).build()]].concat();
        let topology = standard(StandardOptions::default());
        let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
        let _servers = servers(&rig.lab);
        let streams = streams(&rig);
        // The cable first, then the interface, which takes its IPv6 addresses with it.
        for (host, interface) in [("router2", "outer"), ("gateway", "ext2")] {
            let set = |rig: &Rig, state| {
                rig.lab.command(host, &["ip", "link", "set", interface, state]).expect("a link");
            };
            set(&rig, "down");
            wait_for_link(&rig.lab, "ext2", false);
            let down = rig.host_changed();
            assert!(down.status.in_sync, "{:?}", down.events);
            set(&rig, "up");
            let lost = if host == "gateway" {
                ("gateway", "ext2", "10/64")
            } else {
                ("router2", "outer", "1/64")
            };
            let address = format!("2001:db8:113::{}", lost.2);
            rig.lab
                .command(lost.0, &["ip", "address", "replace", &address, "dev", lost.1, "nodad"])
                .expect("an address");
            if host == "router2" {
                rig.lab
                    .command(host, &["ip", "route", "replace", "2001:db8:113::/64", "dev", "outer"])
                    .expect("a route");
            }
            wait_for_link(&rig.lab, "ext2", true);
            let up = rig.host_changed();
            assert!(up.status.in_sync, "{:?}", up.events);
            for side in SIDES {
                for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                    let outcome =
                        ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
                    assert_eq!(
                        outcome.server(),
                        Some("pod1"),
                        "{host} {side:?} {protocol}: {outcome}"
                    );
                }
            }
        }
        assert_no_loss(streams);
    }
);

both_flavours!(an_address_that_comes_is_served_and_one_that_goes_disturbs_nobody, |flavour| {
    let later = ["198.51.100.99", "2001:db8:51::99"];
    let all = SIDES.iter().map(|s| s.external).chain(later);
    let m = all.fold(mapping("a").service("echo"), MappingBuilder::address).tcp(8080).udp(5353);
    let topology = standard(StandardOptions::default());
    let (mut rig, first) =
        Rig::start(&topology, RigOptions::new(flavour), [echo_on(&[1]), vec![m.build()]].concat());
    let key = smartnat_core::model::ObjectKey::new("default", "a");
    let waits = |status: &smartnat_core::status::StatusReport| {
        status.mappings[&key].remarks.iter().any(|r| r.contains(later[0]))
    };
    assert!(waits(&first.status), "{:?}", first.status.mappings);
    let _servers = servers(&rig.lab);
    let streams = streams(&rig);
    let change = |rig: &Rig, word| {
        for (address, length) in later.into_iter().zip(["24", "64"]) {
            let prefix = format!("{address}/{length}");
            rig.lab
                .command("gateway", &["ip", "address", word, &prefix, "dev", "ext1", "nodad"])
                .expect("an address");
        }
    };
    change(&rig, "add");
    let come = rig.host_changed();
    assert!(come.status.in_sync && !waits(&come.status), "{:?}", come.status.mappings);
    for (side, address) in first_network().into_iter().zip(later) {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome = ask(&rig.lab, protocol, side.client, side.source, at(address, port));
            assert_eq!(outcome.server(), Some("pod1"), "{address} {protocol}: {outcome}");
        }
    }
    change(&rig, "del");
    let gone = rig.host_changed();
    assert!(gone.status.in_sync && waits(&gone.status), "{:?}", gone.status.mappings);
    for (side, address) in first_network().into_iter().zip(later) {
        let outcome =
            ask_briefly(&rig.lab, Protocol::Tcp, side.client, side.source, at(address, 8080));
        assert!(
            matches!(outcome, Outcome::TimedOut | Outcome::Unreachable),
            "{address}: {outcome}"
        );
    }
    assert_no_loss(streams);
});

both_flavours!(a_change_of_the_mapping_that_still_allows_a_client_costs_it_nothing, |flavour| {
    let m = || {
        SIDES
            .iter()
            .fold(mapping("a").service("echo"), |m, s| m.address(s.external))
            .tcp(8080)
            .udp(5353)
    };
    let from = |sources: &[&str]| sources.iter().fold(m(), |m, s| m.source(s));
    let own = ["192.0.2.10", "2001:db8:2::10"];
    let objects = [echo_on(&[1]), vec![m().build()]].concat();
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let streams = streams(&rig);
    for change in [
        from(&own),
        from(&["192.0.2.0/24", "2001:db8:2::/64", "203.0.113.0/25"]),
        from(&["192.0.0.0/16", "2001:db8::/32"]).egress(true),
        from(&own).egress(true).masquerade(false),
        from(&own).port(Protocol::Tcp, 9000, Some(9010), Some("http")),
        from(&own).address("198.51.100.11").address("2001:db8:51::11"),
        m(),
    ] {
        let step = rig.sync(vec![change.build()]);
        assert!(step.status.in_sync, "{:?}", step.events);
        for stream in &streams {
            assert!(stream.wait_for_more(5, PATIENT), "{:?}", stream.report());
        }
    }
    assert_no_loss(streams);
});
