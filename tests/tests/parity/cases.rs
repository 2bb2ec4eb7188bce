//! Disagreements that were found, each as a story of its own.

use smartnat_core::model::{ClusterObject, GatewayConfig, IptablesFlavour, Protocol};
use smartnat_sim::scenario::{mapping, service};
use smartnat_sim::walk::Packet;

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

#[track_caller]
fn assert_left(found: &Comparison, expected: &str) {
    assert!(found.agree, "Linux: {}\nsimulated:\n{}", told(&found.linux), found.trace);
    assert_eq!(told(&found.linux).trim(), expected);
}

/// T11: an `ICMPv6` error has an address of the interface that its cause came in by; ICMP one of the
/// interface by which the cause would have gone on.
#[test]
fn an_error_about_a_reply_speaks_from_where_its_family_says() {
    if !smartnat::lab::available() {
        return;
    }
    let mut scene = Scene::build(IptablesFlavour::Nft);
    let (config, objects) = exposed();
    scene.begin(&config, &objects, &[]);
    for (client, external, pod, speaker) in [
        ("2001:db8:c::5", "2001:db8:2::10", "fd00::11", "fd00::2"),
        ("192.0.2.5", "198.51.100.10", "10.0.0.11", "198.51.100.10"),
    ] {
        let (client, external, pod) = ((ip(client), 777), (ip(external), 5000), (ip(pod), 6000));
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
}
