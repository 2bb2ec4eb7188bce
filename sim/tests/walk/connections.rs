//! Connection tracking: states, directions, expiry, what a tuple that comes back meets.

use smartnat_sim::kernel::{Direction, Progress, TcpState};
use smartnat_sim::walk::{Membership, Packet, Relation, Step, TcpFlags, Trace};

use crate::router::{LEFT, RIGHT, SIDES, Side, at, back, ends, left, router, rules, tcp, udp};

/// Rules that make the kernel track, and change nothing.
const TRACKED: &str = "mangle PREROUTING -m conntrack --ctstate NEW -j RETURN";

fn membership(trace: &Trace) -> (Option<Relation>, Direction) {
    let found = trace.steps.iter().find_map(|step| match step {
        Step::Tracked(membership) => Some(*membership),
        _ => None,
    });
    match found.unwrap_or_else(|| panic!("it was not tracked:\n{trace}")) {
        Membership::Of { state, direction, .. } => (Some(state), direction),
        Membership::Invalid | Membership::Untracked => (None, Direction::Original),
    }
}

fn dnat(side: &Side, protocol: &str, port: u16, to: u16) -> String {
    let to = at(side.server, to);
    format!(
        "nat PREROUTING -p {protocol} -m {protocol} --dport {port} -j DNAT --to-destination {to}"
    )
}

#[test]
fn both_directions_of_a_tcp_connection_are_translated_and_followed() {
    for side in SIDES {
        let mut host = router();
        rules(&mut host, side.family, &[&dnat(&side, "tcp", 80, 8080)]);
        let (client, external) = ((side.client, 40_000), (side.external, 80));
        let mut state = |packet: Packet, by: &str| {
            let trace = host.receive(by, packet).expect("all is understood");
            let entry = *host.kernel.conntrack().entries().next().expect("an entry");
            let Progress::Tcp(tcp) = entry.progress else { panic!("{entry:?}") };
            (*left(&trace).0 == *LEFT, left(&trace).1, tcp.state, entry.assured)
        };
        let (_, syn, opened, _) = state(tcp(client, external, TcpFlags::SYN), LEFT);
        assert_eq!(ends(&syn), (at(side.client, 40_000), at(side.server, 8080)));
        assert_eq!((syn.ttl, opened), (63, TcpState::SynSent));
        let (to_left, answer, opened, _) = state(back(&syn, TcpFlags::SYN_ACK), RIGHT);
        assert_eq!(ends(&answer), (at(side.external, 80), at(side.client, 40_000)));
        assert!(to_left);
        assert_eq!(opened, TcpState::SynRecv);
        let ack = tcp(client, external, TcpFlags::ACK);
        let (_, _, opened, assured) = state(ack, LEFT);
        assert_eq!((opened, assured), (TcpState::Established, true));
        for (packet, by, expected) in [
            (tcp(client, external, TcpFlags::FIN_ACK), LEFT, TcpState::FinWait),
            (back(&syn, TcpFlags::ACK), RIGHT, TcpState::CloseWait),
            (back(&syn, TcpFlags::FIN_ACK), RIGHT, TcpState::LastAck),
            (ack, LEFT, TcpState::TimeWait),
        ] {
            assert_eq!(state(packet, by).2, expected);
        }
    }
}

#[test]
fn a_packet_is_new_until_a_reply_was_seen() {
    for side in SIDES {
        let mut host = router();
        rules(&mut host, side.family, &[TRACKED]);
        let there = udp((side.client, 1000), (side.server, 53));
        let original = Direction::Original;
        let mut is = |packet: Packet, by: &str| {
            membership(&host.receive(by, packet).expect("all is understood"))
        };
        assert_eq!(is(there, LEFT), (Some(Relation::New), original));
        assert_eq!(is(there, LEFT), (Some(Relation::New), original));
        let reply = back(&there, TcpFlags::ACK);
        assert_eq!(is(reply, RIGHT), (Some(Relation::Established), Direction::Reply));
        assert_eq!(is(there, LEFT), (Some(Relation::Established), original));
    }
}

#[test]
fn what_cannot_open_a_connection_is_invalid_and_a_stray_ack_is_picked_up() {
    for side in SIDES {
        for (flags, expected) in [
            (TcpFlags::SYN, Some(Relation::New)),
            (TcpFlags::ACK, Some(Relation::New)),
            (TcpFlags::SYN_ACK, None),
            (TcpFlags::FIN_ACK, None),
            (TcpFlags::RST, None),
        ] {
            let mut host = router();
            rules(&mut host, side.family, &[TRACKED]);
            let packet = tcp((side.client, 1000), (side.server, 80), flags);
            let trace = host.receive(LEFT, packet).expect("all is understood");
            assert_eq!(membership(&trace).0, expected, "{flags}");
            assert_eq!(host.kernel.conntrack().len(), usize::from(expected.is_some()), "{flags}");
        }
    }
}

#[test]
fn nothing_is_tracked_where_no_rule_needs_it() {
    let mut host = router();
    let there = udp((SIDES[0].client, 1000), (SIDES[0].server, 53));
    left(&host.receive(LEFT, there).expect("all is understood"));
    assert!(host.kernel.conntrack().is_empty());
}

/// What conntrack knows of a connection whose packets were these, in order.
fn after(side: &Side, packets: &[(Packet, &str)], wait: u64) -> usize {
    let mut host = router();
    rules(&mut host, side.family, &[TRACKED]);
    for (packet, by) in packets {
        host.receive(by, *packet).expect("all is understood");
    }
    host.kernel.advance(wait * 1000);
    host.kernel.conntrack().len()
}

#[test]
fn entries_expire_by_protocol_and_state() {
    for side in SIDES {
        let (client, server) = ((side.client, 1000), (side.server, 80));
        let datagram = (udp(client, server), LEFT);
        let answer = (back(&datagram.0, TcpFlags::ACK), RIGHT);
        let syn = (tcp(client, server, TcpFlags::SYN), LEFT);
        let segment = |flags| (tcp(client, server, flags), LEFT);
        let reply = |flags| (back(&syn.0, flags), RIGHT);
        let open = [syn, reply(TcpFlags::SYN_ACK), segment(TcpFlags::ACK)];
        let reset = [&open[..], &[reply(TcpFlags::RST)]].concat();
        let client_ip = crate::router::ip(side.client);
        let ping = (Packet::ping(client_ip, crate::router::ip(side.server), 7), LEFT);
        for (what, packets, seconds) in [
            ("UDP without a reply", vec![datagram], 30),
            ("a short UDP exchange", vec![datagram, answer, datagram], 30),
            ("a SYN", vec![syn], 120),
            ("a picked up ACK", vec![segment(TcpFlags::ACK)], 300),
            ("an open connection", open.to_vec(), 5 * 24 * 3600),
            ("a reset connection", reset, 10),
            ("a ping", vec![ping], 30),
        ] {
            assert_eq!(after(&side, &packets, seconds - 1), 1, "{what}");
            assert_eq!(after(&side, &packets, seconds), 0, "{what}");
        }
        let refused = [syn, reply(TcpFlags::RST)];
        assert_eq!(after(&side, &refused, 0), 0, "a reset as the only reply ends it at once");
    }
}

#[test]
fn a_udp_flow_that_lasts_becomes_a_stream() {
    let side = SIDES[0];
    let mut host = router();
    rules(&mut host, side.family, &[TRACKED]);
    let there = udp((side.client, 1000), (side.server, 53));
    for (packet, by) in [(there, LEFT), (back(&there, TcpFlags::ACK), RIGHT)] {
        host.receive(by, packet).expect("all is understood");
    }
    host.kernel.advance(2001);
    host.receive(LEFT, there).expect("all is understood");
    host.kernel.advance(119_000);
    assert_eq!(host.kernel.conntrack().len(), 1);
    host.kernel.advance(1000);
    assert!(host.kernel.conntrack().is_empty());
}

/// How the first connection of a tuple ended, and where the next one goes once the rule has changed.
/// Held against Linux 6.18.
#[test]
fn a_tuple_that_comes_back_meets_the_old_translation_only_after_a_reset_by_the_server() {
    #[derive(Debug)]
    enum End {
        ServerResets,
        ServerCloses,
        ClientCloses,
        ClientResets,
    }
    for side in SIDES {
        for (end, expected) in [
            (End::ServerResets, 8001),
            (End::ServerCloses, 8002),
            (End::ClientCloses, 8002),
            (End::ClientResets, 8002),
        ] {
            let mut host = router();
            rules(&mut host, side.family, &[&dnat(&side, "tcp", 80, 8001)]);
            let segment = |flags| (tcp((side.client, 1000), (side.external, 80), flags), LEFT);
            let syn = tcp((side.client, 1000), (side.server, 8001), TcpFlags::SYN);
            let reply = |flags| (back(&syn, flags), RIGHT);
            let open = [segment(TcpFlags::SYN), reply(TcpFlags::SYN_ACK), segment(TcpFlags::ACK)];
            let ending = match end {
                End::ServerResets => vec![reply(TcpFlags::RST)],
                End::ClientResets => vec![segment(TcpFlags::RST)],
                End::ServerCloses => {
                    vec![reply(TcpFlags::FIN_ACK), segment(TcpFlags::FIN_ACK), reply(TcpFlags::ACK)]
                }
                End::ClientCloses => vec![
                    segment(TcpFlags::FIN_ACK),
                    reply(TcpFlags::FIN_ACK),
                    segment(TcpFlags::ACK),
                ],
            };
            for (packet, by) in open.into_iter().chain(ending) {
                host.receive(by, packet).expect("all is understood");
            }
            let nat = smartnat_core::objects::XtTableId {
                family: side.family,
                table: smartnat_core::objects::XtTable::Nat,
            };
            host.kernel.foreign_delete_rules(nat, "PREROUTING", |_| true);
            rules(&mut host, side.family, &[&dnat(&side, "tcp", 80, 8002)]);
            let again = host.receive(LEFT, segment(TcpFlags::SYN).0).expect("all is understood");
            assert_eq!(ends(&left(&again).1).1.port(), expected, "{end:?}");
        }
    }
}

#[test]
fn a_dropped_packet_leaves_no_connection() {
    for side in SIDES {
        let mut host = router();
        rules(&mut host, side.family, &[TRACKED, "filter FORWARD -j DROP"]);
        let there = udp((side.client, 1000), (side.server, 53));
        host.receive(LEFT, there).expect("all is understood");
        assert!(host.kernel.conntrack().is_empty());
    }
}
