//! Destination translation of forwarded connections.

use smartnat_sim::kernel::{Progress, TcpState};
use smartnat_sim::walk::{Packet, TcpFlags};

use crate::bench_host::{LEFT, RIGHT, SIDES, ip, left, router, rules};

#[test]
fn both_directions_of_a_tcp_connection_are_translated() {
    for side in SIDES {
        let mut host = router();
        let to = match side.family {
            smartnat_core::model::Family::V4 => format!("{}:8080", side.server),
            smartnat_core::model::Family::V6 => format!("[{}]:8080", side.server),
        };
        let dnat = format!("nat PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination {to}");
        rules(&mut host, side.family, &[&dnat]);
        let (client, external) = ((ip(side.client), 40_000), (ip(side.external), 80));
        let server = (ip(side.server), 8080);

        let trace =
            host.receive(LEFT, Packet::tcp(client, external, TcpFlags::SYN)).expect("known");
        let (by, packet) = left(&trace);
        assert_eq!((by, packet.source, packet.ports()), (RIGHT, client.0, Some((40_000, 8080))));
        assert_eq!((packet.destination, packet.ttl), (server.0, 63));

        let answer = Packet::tcp(server, client, TcpFlags::SYN_ACK);
        let trace = host.receive(RIGHT, answer).expect("known");
        let (by, packet) = left(&trace);
        assert_eq!((by, packet.source, packet.ports()), (LEFT, external.0, Some((80, 40_000))));
        host.receive(LEFT, Packet::tcp(client, external, TcpFlags::ACK)).expect("known");
        let entries: Vec<_> = host.kernel.conntrack().entries().collect();
        assert!(
            matches!(entries[..], [e] if e.assured
                && matches!(e.progress, Progress::Tcp(p) if p.state == TcpState::Established)),
            "{entries:?}"
        );
    }
}
