//! Source translation, port collisions, shifted ranges, errors about translated packets.

use smartnat_core::model::Family;
use smartnat_sim::SimHost;
use smartnat_sim::walk::{DropCause, Icmp, IcmpError, Packet, Payload, Quoted, TcpFlags};

use crate::router::{
    LEFT, RIGHT, SIDES, Side, at, back, dropped, ends, ip, left, router, rules, udp,
};

const MASQUERADE: &str = "nat POSTROUTING -o right -j MASQUERADE";

fn receive(host: &mut SimHost, by: &str, packet: Packet) -> Packet {
    left(&host.receive(by, packet).expect("all is understood")).1
}

#[test]
fn masquerade_takes_the_address_of_the_interface_and_replies_find_back() {
    for side in SIDES {
        let mut host = router();
        rules(&mut host, side.family, &[MASQUERADE]);
        let sent = receive(&mut host, LEFT, udp((side.client, 1000), (side.server, 53)));
        assert_eq!(ends(&sent), (at(side.inside, 1000), at(side.server, 53)));
        let reply = receive(&mut host, RIGHT, back(&sent, TcpFlags::ACK));
        assert_eq!(ends(&reply), (at(side.server, 53), at(side.client, 1000)));
    }
}

#[test]
fn a_source_port_that_is_taken_gives_way_to_another() {
    for side in SIDES {
        for (port, allowed) in [(40_000, 1024..=65_535), (700, 600..=1023), (80, 1..=511)] {
            let mut host = router();
            rules(&mut host, side.family, &[MASQUERADE]);
            let first = receive(&mut host, LEFT, udp((side.client, port), (side.server, 53)));
            let second = udp((side.other_client, port), (side.server, 53));
            let moved = receive(&mut host, LEFT, second);
            let (from, _) = ends(&moved);
            assert_eq!(ends(&first).0, at(side.inside, port));
            assert_eq!(from.ip(), ip(side.inside));
            assert!(from.port() != port && allowed.contains(&from.port()), "{from}");
            let reply = receive(&mut host, RIGHT, back(&moved, TcpFlags::ACK));
            assert_eq!(ends(&reply).1, at(side.other_client, port));
            // The same source keeps the port that it was given, towards others too.
            let third = udp((side.other_client, port), (side.other_server, 53));
            assert_eq!(ends(&receive(&mut host, LEFT, third)).0, from);
        }
    }
}

#[test]
fn without_a_rule_too_a_source_port_gives_way_to_a_connection_with_the_same_replies() {
    for side in SIDES {
        let mut host = router();
        let server = at(side.server, 53);
        let to_server = |port: u16| {
            format!("nat PREROUTING -p udp -m udp --dport {port} -j DNAT --to-destination {server}")
        };
        rules(&mut host, side.family, &[&to_server(1), &to_server(2)]);
        let first = receive(&mut host, LEFT, udp((side.client, 1000), (side.external, 1)));
        let second = receive(&mut host, LEFT, udp((side.client, 1000), (side.external, 2)));
        assert_eq!(ends(&first), (at(side.client, 1000), server));
        assert_eq!(ends(&second).1, server);
        assert_ne!(ends(&second).0, at(side.client, 1000));
    }
}

/// The kernel looks for the next port of the range when the reply would be another connection's.
/// Held against Linux 6.18.
#[test]
fn a_shifted_range_moves_on_when_its_port_is_taken() {
    let side = SIDES[0];
    let mut host = router();
    host.kernel.add_address(LEFT, "192.0.2.2/24");
    rules(
        &mut host,
        side.family,
        &[
            "nat PREROUTING -p udp -m udp --dport 6000:6010 -j DNAT --to-destination 10.0.0.10:7000-7010/6000",
        ],
    );
    let mut port =
        |to: &str| ends(&receive(&mut host, LEFT, udp((side.client, 40_000), (to, 6003)))).1.port();
    assert_eq!((port("192.0.2.1"), port("192.0.2.2"), port("192.0.2.2")), (7003, 7004, 7004));
}

#[test]
fn source_translation_to_a_given_address_and_by_the_order_of_rules() {
    for side in SIDES {
        let mut host = router();
        let to = if side.family == Family::V4 { "10.0.0.77" } else { "fd00::77" };
        let exempt = format!("nat POSTROUTING -s {} -j ACCEPT", side.other_client);
        let snat = format!("nat POSTROUTING -o right -j SNAT --to-source {to}");
        rules(&mut host, side.family, &[&exempt, &snat, MASQUERADE]);
        let sent = receive(&mut host, LEFT, udp((side.client, 1000), (side.server, 53)));
        assert_eq!(ends(&sent).0, at(to, 1000));
        let sent = receive(&mut host, LEFT, udp((side.other_client, 1000), (side.server, 53)));
        assert_eq!(ends(&sent).0, at(side.other_client, 1000));
    }
}

#[test]
fn a_ping_is_masqueraded_with_an_identifier_of_its_own() {
    for side in SIDES {
        let mut host = router();
        rules(&mut host, side.family, &[MASQUERADE]);
        let id = |packet: &Packet| match packet.payload {
            Payload::Icmp(Icmp::Echo { id, .. }) => id,
            _ => panic!("{packet}"),
        };
        let ping = |from: &str| Packet::ping(ip(from), ip(side.server), 7);
        let first = receive(&mut host, LEFT, ping(side.client));
        let second = receive(&mut host, LEFT, ping(side.other_client));
        assert_eq!((first.source, id(&first)), (ip(side.inside), 7));
        assert_eq!(second.source, ip(side.inside));
        assert_ne!(id(&second), 7);
        let payload = Payload::Icmp(Icmp::Echo { reply: true, id: id(&second) });
        let reply = Packet::new(ip(side.server), ip(side.inside), payload);
        let reply = receive(&mut host, RIGHT, reply);
        assert_eq!((reply.destination, id(&reply)), (ip(side.other_client), 7));
    }
}

/// An error of the server's side about a packet that was translated at both ends.
fn error_about(side: &Side, sent: &Packet, from: &str) -> Packet {
    let quoted = Quoted::of(sent);
    let error = Icmp::Error { error: IcmpError::PortUnreachable, quoted };
    Packet::new(ip(from), ip(side.inside), Payload::Icmp(error))
}

#[test]
fn an_error_is_translated_outside_and_in_its_quotation() {
    for side in SIDES {
        let mut host = router();
        let server = at(side.server, 53);
        let dnat =
            format!("nat PREROUTING -p udp -m udp --dport 5353 -j DNAT --to-destination {server}");
        rules(&mut host, side.family, &[&dnat, MASQUERADE]);
        let asked = udp((side.client, 1000), (side.external, 5353));
        let sent = receive(&mut host, LEFT, asked);
        // From the server itself and from a router behind: both seem to come from the external address.
        for from in [side.server, side.other_server] {
            let error = receive(&mut host, RIGHT, error_about(&side, &sent, from));
            assert_eq!((error.source, error.destination), (ip(side.external), ip(side.client)));
            let Payload::Icmp(Icmp::Error { quoted, .. }) = error.payload else {
                panic!("{error}")
            };
            let quoted = quoted.tuple;
            assert_eq!((quoted.source, quoted.destination), (asked.source, asked.destination));
            assert_eq!((quoted.source_port(), quoted.destination_port()), (1000, 5353));
        }
    }
}

#[test]
fn a_masqueraded_connection_ends_when_it_leaves_by_another_interface() {
    let side = SIDES[0];
    let mut host = router();
    host.kernel.add_link("third");
    host.kernel.add_address("third", "172.16.0.1/24");
    host.kernel.add_host_route("203.0.113.0/24", Some("10.0.0.10"), RIGHT);
    rules(&mut host, side.family, &["nat POSTROUTING -j MASQUERADE"]);
    let packet = udp((side.client, 1000), ("203.0.113.5", 53));
    receive(&mut host, LEFT, packet);
    host.kernel.remove_host_route("203.0.113.0/24");
    host.kernel.add_host_route("203.0.113.0/24", Some("172.16.0.2"), "third");
    let trace = host.receive(LEFT, packet).expect("all is understood");
    assert_eq!(dropped(&trace), &DropCause::OtherInterface);
    assert!(host.kernel.conntrack().is_empty());
    assert_eq!(ends(&receive(&mut host, LEFT, packet)).0, at("172.16.0.1", 1000));
}

#[test]
fn a_connection_from_before_the_first_rule_of_table_nat_stays_untranslated() {
    for side in SIDES {
        let mut host = router();
        rules(&mut host, side.family, &["mangle PREROUTING -m conntrack --ctstate NEW -j RETURN"]);
        let packet = udp((side.client, 1000), (side.server, 53));
        receive(&mut host, LEFT, packet);
        rules(&mut host, side.family, &[MASQUERADE]);
        for _ in 0..2 {
            assert_eq!(ends(&receive(&mut host, LEFT, packet)).0, at(side.client, 1000));
        }
        receive(&mut host, RIGHT, back(&packet, TcpFlags::ACK));
        assert_eq!(host.kernel.conntrack().len(), 1);
        let later = udp((side.client, 1001), (side.server, 53));
        assert_eq!(ends(&receive(&mut host, LEFT, later)).0, at(side.inside, 1001));
    }
}
