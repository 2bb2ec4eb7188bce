//! T7: with masquerade pods see the gateway's cluster-side address, without it the client.

use smartnat_core::model::{Family, GatewayConfig, Protocol};
use smartnat_core::objects::{XtTable, XtTableId};
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::{Foreign, config};
use smartnat_tests::on_both_arms;

use super::common::{SIDES, USUAL, at, echo_on, ip, on_all_sides, serve_in_pods};

on_both_arms!(masquerade_per_gateway_and_per_mapping, |arms| {
    for of_gateway in [true, false] {
        let exposed = |name: &str, port: u16| {
            let m = on_all_sides(name).service("echo");
            let m = m.port(Protocol::Tcp, port, None, Some("http"));
            m.port(Protocol::Udp, port, None, Some("dns"))
        };
        let mappings = vec![
            exposed("default", 1000).build(),
            exposed("on", 1001).masquerade(true).build(),
            exposed("off", 1002).masquerade(false).build(),
        ];
        let config = GatewayConfig { masquerade: of_gateway, ..config() };
        let objects = [echo_on(&[1]), mappings].concat();
        let mut arm = arms.start(&standard(StandardOptions::default()), config, objects);
        serve_in_pods(&mut arm);
        for side in SIDES {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for (port, masquerade) in [(1000, of_gateway), (1001, true), (1002, false)] {
                    let to = at(side.external, port);
                    let outcome = arm.ask((protocol, side.client, side.source, to));
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

on_both_arms!(a_foreign_masquerade_does_not_hide_the_client, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    for family in Family::ALL {
        let table = XtTableId { family, table: XtTable::Nat };
        arm.put(&Foreign::Rule { table, chain: "POSTROUTING", rule: "-o eth0 -j MASQUERADE" });
    }
    let all = on_all_sides("echo").tcp(8080).udp(5353).masquerade(false).build();
    let first = arm.start(config(), [echo_on(&[1]), vec![all]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    serve_in_pods(&mut arm);
    for side in SIDES {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            let seen = outcome.answer().map(|a| a.seen_peer.ip());
            assert_eq!(seen, Some(ip(side.source)), "{side:?} {protocol}: {outcome}");
        }
    }
});
