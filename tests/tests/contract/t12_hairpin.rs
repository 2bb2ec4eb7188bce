//! T12: a pod, or the gateway host, that connects to an external endpoint is served like a client.

use smartnat::lab::traffic::Outcome;
use smartnat_core::model::Protocol;
use smartnat_sim::topology::{StandardOptions, addresses, standard};
use smartnat_tests::arm::config;
use smartnat_tests::on_both_arms;

use super::common::{at, echo_on, first_network, ip, on_first_network, serve_in_pods};

on_both_arms!(pods_and_the_host_are_clients_and_always_masqueraded, |arms| {
    for egress in [false, true] {
        let open = on_first_network("open")
            .service("echo")
            .port(Protocol::Tcp, 1000, None, Some("http"))
            .port(Protocol::Udp, 1000, None, Some("dns"))
            .masquerade(false)
            .egress(egress);
        let closed = first_network()
            .iter()
            .fold(on_first_network("closed").service("echo"), |m, s| m.source(s.source))
            .port(Protocol::Tcp, 2000, None, Some("http"))
            .port(Protocol::Udp, 2000, None, Some("dns"));
        let empty = on_first_network("empty").tcp(3000).udp(3000);
        let objects = [echo_on(&[1]), vec![open.build(), closed.build(), empty.build()]].concat();
        let topology = standard(StandardOptions { office: true });
        let mut arm = arms.start(&topology, config(), objects);
        serve_in_pods(&mut arm);
        for side in first_network() {
            let v4 = side.external.contains('.');
            let (pod, pod1, gateway) = if v4 {
                ("10.244.1.12", "10.244.1.11", addresses::GATEWAY_V4)
            } else {
                ("fd00:244:1::12", "fd00:244:1::11", addresses::GATEWAY_V6)
            };
            // Another pod, the serving pod itself, the host from both its sides.
            let clients =
                [("pod2", pod), ("pod1", pod1), ("gateway", gateway), ("gateway", side.external)];
            let refused = clients.iter().flat_map(|(client, from)| {
                [Protocol::Tcp, Protocol::Udp].map(|p| (p, *client, *from, at(side.external, 2000)))
            });
            let refused: Vec<_> = refused.collect();
            for (request, outcome) in refused.iter().zip(arm.ask_all_briefly(&refused)) {
                assert!(!outcome.is_answered(), "{request:?}: {outcome}");
            }
            for (client, from) in clients {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let served = arm.ask((protocol, client, from, at(side.external, 1000)));
                    let seen = served.answer().map(|a| a.seen_peer.ip());
                    assert_eq!(seen, Some(ip(gateway)), "{client} {from} {protocol}: {served}");
                    let nobody = arm.ask((protocol, client, from, at(side.external, 3000)));
                    // A datagram of the host itself is refused in the system call already.
                    let told = nobody == Outcome::Refused || matches!(nobody, Outcome::Failed(_));
                    assert!(told, "{client} {from} {protocol}: {nobody}");
                }
            }
        }
    }
});
