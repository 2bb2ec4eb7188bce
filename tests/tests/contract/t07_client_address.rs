//! T7: with masquerade pods see the gateway's cluster-side address, without it the client.

use smartnat_core::model::{Family, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, at, both_flavours, echo_on, ip, servers};
use super::snapshot::Programs;

both_flavours!(masquerade_per_gateway_and_per_mapping, |flavour| {
    for of_gateway in [true, false] {
        let exposed = |name: &str, port: u16| {
            let m = SIDES.iter().fold(mapping(name).service("echo"), |m, s| m.address(s.external));
            m.port(Protocol::Tcp, port, None, Some("http")).port(
                Protocol::Udp,
                port,
                None,
                Some("dns"),
            )
        };
        let objects = [
            echo_on(&[1]),
            vec![
                exposed("default", 1000).build(),
                exposed("on", 1001).masquerade(true).build(),
                exposed("off", 1002).masquerade(false).build(),
            ],
        ]
        .concat();
        let mut options = RigOptions::new(flavour);
        options.config.masquerade = of_gateway;
        let topology = standard(StandardOptions::default());
        let (rig, first) = Rig::start(&topology, options, objects);
        assert!(first.status.in_sync, "{:?}", first.events);
        let _servers = servers(&rig.lab);
        for side in SIDES {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for (port, masquerade) in [(1000, of_gateway), (1001, true), (1002, false)] {
                    let to = at(side.external, port);
                    let outcome = ask(&rig.lab, protocol, side.client, side.source, to);
                    let gateway = match Family::of(&to.ip()) {
                        Family::V4 => addresses::GATEWAY_V4,
                        Family::V6 => addresses::GATEWAY_V6,
                    };
                    let expected = if masquerade { gateway } else { side.source };
                    let seen = outcome.answer().map(|a| a.seen_peer.ip());
                    assert_eq!(seen, Some(ip(expected)), "{side:?} {protocol}/{port}: {outcome}");
                }
            }
        }
    }
});

both_flavours!(a_foreign_masquerade_does_not_hide_the_client, |flavour| {
    let lab =
        smartnat::lab::Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let programs = Programs::of(flavour);
    for iptables in [programs.v4, programs.v6] {
        let theirs = [iptables, "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"];
        lab.command("gateway", &theirs).expect("a foreign rule");
    }
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).udp(5353).masquerade(false).build()]].concat();
    let (rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            let seen = outcome.answer().map(|a| a.seen_peer.ip());
            assert_eq!(seen, Some(ip(side.source)), "{side:?} {protocol}: {outcome}");
        }
    }
});
