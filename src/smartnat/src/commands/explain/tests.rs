use smartnat_core::explain::{Origin, Question};
use smartnat_core::model::Protocol;

use super::packet::question;

fn read(from: &str, to: &str) -> Result<Question, String> {
    question(from, to, None).map_err(|error| error.to_string())
}

#[test]
fn addresses_ports_and_protocols_are_read_in_both_families() {
    let cases = [
        ("192.0.2.5", "203.0.113.10:80/tcp", None, 80, Protocol::Tcp),
        ("192.0.2.5:4711", "203.0.113.10:53/UDP", Some(4711), 53, Protocol::Udp),
        ("2001:db8::5", "[2001:db8::10]:80", None, 80, Protocol::Tcp),
        ("[2001:db8::5]:9", "[2001:db8::10]:38/sctp", Some(9), 38, Protocol::Sctp),
    ];
    for (from, to, source_port, port, protocol) in cases {
        let told = read(from, to).expect(to);
        assert_eq!((told.source_port, told.port, told.protocol), (source_port, port, protocol));
        assert_eq!(told.origin, None);
    }
    let origin = |name| question("192.0.2.5", "203.0.113.10:80", Some(name)).expect("valid").origin;
    assert_eq!(origin("lo"), Some(Origin::Local));
    assert_eq!(origin("eth1"), Some(Origin::Interface("eth1".into())));
}

#[test]
fn what_is_no_packet_is_refused_with_flag_value_and_mend() {
    let good = "203.0.113.10:80/tcp";
    let cases = [
        ("client", good, "--from: \"client\" is no IP address; names are not resolved"),
        ("192.0.2.5:0", good, "has no valid port \"0\"; write a number from 1 to 65535"),
        ("192.0.2.5:65536", good, "has no valid port"),
        ("192.0.2.5:+8", "203.0.113.10/tcp", "has no valid port"),
        ("[2001:db8::5:9", good, "is no IP address"),
        ("224.0.0.1", good, "is no address that a packet between hosts has"),
        ("192.0.2.5", "203.0.113.10/tcp", "has no port; write for example 203.0.113.10:8080/tcp"),
        ("192.0.2.5", "2001:db8::10/udp", "has no port; write for example [2001:db8::10]:8080/udp"),
        (
            "192.0.2.5",
            "203.0.113.10:80/icmp",
            "unknown protocol \"icmp\"; write /tcp, /udp or /sctp",
        ),
        ("192.0.2.5", "[2001:db8::10]:80", "is IPv6, but --from \"192.0.2.5\" is IPv4"),
        ("192.0.2.5", ":80", "is no IP address"),
    ];
    for (from, to, words) in cases {
        let error = read(from, to).expect_err(words);
        assert!(error.contains(words), "{from} {to}: {error}");
    }
}
