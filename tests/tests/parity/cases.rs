//! Disagreements that were found, each as a story of its own.

use smartnat_core::model::{ClusterObject, GatewayConfig, Protocol};
use smartnat_sim::scenario::{mapping, service};
use smartnat_sim::walk::{Packet, Payload, SctpChunk};
use smartnat_tests::Ruleset;

use crate::scene::{Comparison, Scene, ip};
use crate::told;

/// UDP port 5000 of one address of each family, exposed on `ext2` without masquerade.
fn exposed() -> (GatewayConfig, Vec<ClusterObject>) {
    let config = GatewayConfig {
        uplink_pattern: "ext[0-9]".into(),
        masquerade: false,
        ..GatewayConfig::default()
    };
    let pods =
        service("s").port("", Protocol::Udp, 5000, 6000).ready("fd00::11").ready("10.0.0.11");
    let mapping = mapping("m").service("s").address("2001:db8:2::10").address("198.51.100.10");
    (config, [pods.build(), vec![mapping.udp(5000).build()]].concat())
}

/// A story on each backend.
fn on_both_backends(story: impl Fn(&mut Scene)) {
    if !smartnat::lab::available() {
        return;
    }
    for ruleset in [Ruleset::IptablesNft, Ruleset::Nftables] {
        println!("with {ruleset:?}");
        story(&mut Scene::build(ruleset));
    }
}

#[track_caller]
fn assert_left(found: &Comparison, expected: &str) {
    assert!(found.agree, "Linux: {}\nsimulated:\n{}", told(&found.linux), found.trace);
    assert_eq!(told(&found.linux).trim(), expected);
}

/// T11: an `ICMPv6` error has an address of the interface that its cause came in by; ICMP one of the
/// interface by which the cause would have gone on.
#[test]
fn an_error_about_a_reply_speaks_from_where_its_family_says() {
    on_both_backends(|scene| {
        let (config, objects) = exposed();
        scene.begin(&config, &objects, &[]);
        for (client, external, pod, speaker) in [
            ("2001:db8:c::5", "2001:db8:2::10", "fd00::11", "fd00::2"),
            ("192.0.2.5", "198.51.100.10", "10.0.0.11", "198.51.100.10"),
        ] {
            let (client, external, pod) =
                ((ip(client), 777), (ip(external), 5000), (ip(pod), 6000));
            let found = scene.exchange("ext2", &Packet::opening(Protocol::Udp, client, external));
            assert!(found.agree && found.linux.len() == 1, "{}", told(&found.linux));
            let late = Packet { ttl: 1, ..Packet::opening(Protocol::Udp, pod, client) };
            let quoted = late.to_string().replace("udp ", "");
            let pod = pod.0;
            assert_left(
                &scene.exchange("eth0", &late),
                &format!(
                    "leaves by eth0 to {pod}: icmp {speaker} -> {pod} time exceeded about {quoted} ttl 64"
                ),
            );
        }
    });
}

/// T5: an SCTP association begins with INIT; any other chunk from nowhere is no connection, is not
/// translated, and meets the host, which does not speak SCTP.
#[test]
fn an_association_begins_with_init_alone() {
    on_both_backends(|scene| {
        let config =
            GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
        let pods = service("s").port("", Protocol::Sctp, 80, 3868).ready("10.0.0.12");
        let mapping = mapping("m").service("s").address("198.51.100.10");
        let mapping = mapping.port(Protocol::Sctp, 80, None, None).build();
        scene.begin(&config, &[pods.build(), vec![mapping]].concat(), &[]);
        for (port, chunk) in (7000..).zip([
            SctpChunk::CookieEcho,
            SctpChunk::CookieAck,
            SctpChunk::InitAck,
            SctpChunk::Abort,
            SctpChunk::Data,
        ]) {
            let payload = Payload::Sctp { source: port, destination: 80, chunk };
            let packet = Packet::new(ip("10.0.0.11"), ip("198.51.100.10"), payload);
            let about = format!("10.0.0.11:{port} -> 198.51.100.10:80");
            assert_left(
                &scene.exchange("eth0", &packet),
                &format!(
                    "leaves by eth0 to 10.0.0.11: icmp 198.51.100.10 -> 10.0.0.11 protocol unreachable about {about} ttl 64"
                ),
            );
        }
        let init =
            Packet::opening(Protocol::Sctp, (ip("10.0.0.11"), 6999), (ip("198.51.100.10"), 80));
        assert_left(
            &scene.exchange("eth0", &init),
            "leaves by eth0 to 10.0.0.12: sctp 10.0.0.2:6999 -> 10.0.0.12:3868 Init ttl 63",
        );
    });
}
