//! Conntrack entries on a running kernel, with the `conntrack` program as witness.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use common::{in_namespace, sh};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use smartnat_core::model::Family;
use smartnat_core::objects::{Flow, FlowFilter, FlowKey, FlowTuple, Layer4};
use smartnat_core::ops::OpErrorClass;
use smartnat_linux::conntrack::ConntrackClient;

const MARK: u32 = 0x0001_0000;
const MASK: u32 = 0x00ff_0000;
const OURS: FlowFilter = FlowFilter { mark: MARK, mask: MASK };
const ALL: FlowFilter = FlowFilter { mark: 0, mask: 0 };

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// New connections get our mark, in addition to a bit that is foreign, unless
/// they go to port 9.
fn mark_connections() {
    for iptables in ["iptables", "ip6tables"] {
        sh(&format!(
            "{iptables} -t mangle -A OUTPUT -p udp --dport 9 -j ACCEPT
             {iptables} -t mangle -A OUTPUT -m conntrack --ctstate NEW -j CONNMARK --set-mark 0x10001"
        ));
    }
}

/// Sends a datagram and its answer over a new flow; the tuple as the client sees it.
fn udp_flow(family: Family) -> FlowTuple {
    let server = UdpSocket::bind((loopback(family), 0)).expect("bound");
    udp_flow_to(&server)
}

fn udp_flow_to(server: &UdpSocket) -> FlowTuple {
    let to = server.local_addr().expect("an address");
    let client = UdpSocket::bind((to.ip(), 0)).expect("bound");
    client.send_to(b"?", to).expect("sent");
    let mut buffer = [0; 8];
    let (_, from) = server.recv_from(&mut buffer).expect("received");
    server.send_to(b"!", from).expect("answered");
    client.recv_from(&mut buffer).expect("received");
    ports_tuple(17, client.local_addr().expect("an address"), to)
}

/// An open TCP connection with its tuple.
fn tcp_flow(family: Family) -> (TcpStream, TcpStream, FlowTuple) {
    let listener = TcpListener::bind((loopback(family), 0)).expect("bound");
    let to = listener.local_addr().expect("an address");
    let mut client = TcpStream::connect(to).expect("connected");
    let (mut server, from) = listener.accept().expect("accepted");
    client.write_all(b"?").expect("sent");
    server.read_exact(&mut [0]).expect("received");
    (client, server, ports_tuple(6, from, to))
}

fn ports_tuple(protocol: u8, from: SocketAddr, to: SocketAddr) -> FlowTuple {
    FlowTuple {
        source: from.ip(),
        destination: to.ip(),
        protocol,
        layer4: Layer4::Ports { source: from.port(), destination: to.port() },
    }
}

/// Sends an echo request and receives its reply; the tuple.
fn icmp_flow(family: Family) -> FlowTuple {
    sh("echo '0 0' > /proc/sys/net/ipv4/ping_group_range");
    let (domain, protocol, kind) = match family {
        Family::V4 => (AddressFamily::INET, ipproto::ICMP, 8),
        Family::V6 => (AddressFamily::INET6, ipproto::ICMPV6, 128),
    };
    let socket = rustix::net::socket(domain, SocketType::DGRAM, Some(protocol)).expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::new(loopback(family), 0x1234)).expect("bound");
    let to = SocketAddr::new(loopback(family), 0);
    let request = [kind, 0, 0, 0, 0, 0, 0, 1];
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &to).expect("sent");
    rustix::net::recv(&socket, &mut [0_u8; 64][..], RecvFlags::empty()).expect("a reply");
    FlowTuple {
        source: loopback(family),
        destination: loopback(family),
        protocol: if family == Family::V4 { 1 } else { 58 },
        layer4: Layer4::Icmp { kind, code: 0, id: 0x1234 },
    }
}

fn find(flows: &[Flow], original: &FlowTuple) -> Option<Flow> {
    flows.iter().find(|flow| flow.key.original == *original).copied()
}

/// How many entries of both families the `conntrack` program lists.
fn witnessed() -> usize {
    sh("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null").lines().count()
}

#[test]
fn flows_of_every_protocol_and_family_are_listed_and_deleted_exactly() {
    in_namespace(|| {
        mark_connections();
        let mut client = ConntrackClient::open().expect("opened");
        for family in Family::ALL {
            let (near, far, tcp) = tcp_flow(family);
            let wanted = [udp_flow(family), tcp, icmp_flow(family)];
            for tuple in wanted {
                let flows = client.flows(&OURS).expect("listed");
                let flow = find(&flows, &tuple).unwrap_or_else(|| panic!("{tuple:?} in {flows:?}"));
                assert_eq!(flow.mark, 0x0001_0001);
                assert_eq!(flow.reply.source, tuple.destination);
                assert_eq!(flow.reply.source_port(), tuple.destination_port());
                let before = witnessed();
                client.delete(&[flow.key]).expect("deleted");
                assert_eq!(witnessed(), before - 1, "{tuple:?}");
                assert_eq!(find(&client.flows(&ALL).expect("listed"), &tuple), None);
            }
            drop((near, far));
        }
        assert_eq!(client.deletions(), 6);
    });
}

#[test]
fn what_connections_carry_is_told_once_the_kernel_counts_and_no_more_than_wanted() {
    in_namespace(|| {
        mark_connections();
        let mut client = ConntrackClient::open().expect("opened");
        udp_flow(Family::V4);
        assert_eq!(client.counters(&OURS, 10).expect("listed"), [], "the kernel does not count");
        sh("echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct");
        let flows = Family::ALL.map(udp_flow);
        let counted = client.counters(&OURS, 10).expect("listed");
        assert_eq!(counted.len(), flows.len(), "{counted:?}");
        for (tuple, header) in flows.iter().zip([20, 40]) {
            let found = counted.iter().find(|found| found.flow.key.original == *tuple);
            let found = found.expect("it is counted");
            for direction in [found.original, found.reply] {
                // One datagram of one byte.
                assert_eq!((direction.packets, direction.bytes), (1, header + 8 + 1), "{found:?}");
            }
        }
        assert_eq!(client.counters(&OURS, 1).expect("listed").len(), 1);
    });
}

#[test]
fn the_filter_selects_by_masked_mark_also_by_mark_0() {
    in_namespace(|| {
        mark_connections();
        for family in Family::ALL {
            let marked = udp_flow(family);
            let server = UdpSocket::bind((loopback(family), 9)).expect("bound");
            let unmarked = udp_flow_to(&server);
            let mut client = ConntrackClient::open().expect("opened");
            let mut tuples = |mark, mask| {
                let flows = client.flows(&FlowFilter { mark, mask }).expect("listed");
                [marked, unmarked].map(|tuple| find(&flows, &tuple).is_some())
            };
            assert_eq!(tuples(MARK, MASK), [true, false]);
            assert_eq!(tuples(0x0002_0000, MASK), [false, false]);
            assert_eq!(tuples(0, MASK), [false, true]);
            assert_eq!(tuples(0, 0), [true, true]);
            assert_eq!(tuples(0x0001_0001, u32::MAX), [true, false]);
        }
    });
}

#[test]
fn a_translated_flow_has_the_reply_tuple_of_its_endpoint() {
    in_namespace(|| {
        for family in Family::ALL {
            let (iptables, external) = match family {
                Family::V4 => ("iptables", "203.0.113.1"),
                Family::V6 => ("ip6tables", "2001:db8::1"),
            };
            let server = UdpSocket::bind((loopback(family), 0)).expect("bound");
            let port = server.local_addr().expect("an address").port();
            let target = SocketAddr::new(loopback(family), port);
            sh(&format!(
                "ip addr add {external} dev lo
                 {iptables} -t nat -A OUTPUT -d {external} -p udp --dport 53 -j DNAT --to {target}"
            ));
            let external = SocketAddr::new(external.parse().expect("an address"), 53);
            let client = UdpSocket::bind((loopback(family), 0)).expect("bound");
            let from = client.local_addr().expect("an address");
            client.send_to(b"?", external).expect("sent");
            server.recv_from(&mut [0; 8]).expect("received");

            let mut conntrack = ConntrackClient::open().expect("opened");
            let flows = conntrack.flows(&ALL).expect("listed");
            let flow = find(&flows, &ports_tuple(17, from, external)).expect("the flow");
            assert_eq!(flow.reply, ports_tuple(17, target, from));
            conntrack.delete(&[flow.key]).expect("deleted");
            assert_eq!(conntrack.flows(&ALL).expect("listed"), []);
        }
    });
}

#[test]
fn a_successor_with_the_same_tuple_is_spared() {
    in_namespace(|| {
        mark_connections();
        for family in Family::ALL {
            let tuple = udp_flow(family);
            let mut client = ConntrackClient::open().expect("opened");
            let flow = find(&client.flows(&OURS).expect("listed"), &tuple).expect("the flow");
            let other = FlowKey { id: flow.key.id.wrapping_add(1), ..flow.key };
            client.delete(&[other]).expect("that there is none is no failure");
            assert_eq!(find(&client.flows(&OURS).expect("listed"), &tuple), Some(flow));
        }
    });
}

#[test]
fn t14_entries_of_other_zones_are_not_ours() {
    in_namespace(|| {
        sh("iptables -t raw -A OUTPUT -p udp --dport 9 -j CT --zone 7
            iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 7");
        mark_connections();
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 9)).expect("bound");
        let to = server.local_addr().expect("an address");
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        sender.send_to(b"?", to).expect("sent");
        server.recv_from(&mut [0; 8]).expect("received");
        let ours = udp_flow(Family::V4);

        assert!(sh("conntrack -L 2>/dev/null").contains("zone=7"));
        let mut client = ConntrackClient::open().expect("opened");
        let flows = client.flows(&ALL).expect("listed");
        assert_eq!(flows.iter().map(|flow| flow.key.original).collect::<Vec<_>>(), [ours]);
    });
}

#[test]
fn a_protocol_without_ports_is_listed_and_deleted() {
    in_namespace(|| {
        sh("conntrack -I -s 192.0.2.1 -d 192.0.2.2 -p 50 -t 60 -m 65536 2>/dev/null
            conntrack -I -s 2001:db8::1 -d 2001:db8::2 -p 50 -t 60 -m 65536 2>/dev/null");
        let mut client = ConntrackClient::open().expect("opened");
        let flows = client.flows(&OURS).expect("listed");
        assert_eq!(flows.len(), 2);
        for flow in &flows {
            assert_eq!(flow.key.original.protocol, 50);
            assert_eq!(flow.key.original.layer4, Layer4::Other);
        }
        let keys: Vec<_> = flows.iter().map(|flow| flow.key).collect();
        client.delete(&keys).expect("deleted");
        assert_eq!(client.flows(&ALL).expect("listed"), []);
    });
}

#[test]
fn deletion_goes_on_past_a_failure_and_reports_the_first() {
    in_namespace(|| {
        mark_connections();
        for family in Family::ALL {
            let mut client = ConntrackClient::open().expect("opened");
            let (first, second) = (udp_flow(family), udp_flow(family));
            let flows = client.flows(&OURS).expect("listed");
            let keys = [first, second].map(|tuple| find(&flows, &tuple).expect("a flow").key);
            // A query has no port, the kernel refuses such a tuple.
            let wrong = FlowTuple { layer4: Layer4::Other, ..first };
            let wrong = FlowKey { original: wrong, id: 1 };
            let error = client.delete(&[keys[0], wrong, keys[1]]).expect_err("one is refused");
            assert_eq!(error.class, OpErrorClass::Invalid);
            let address = loopback(family);
            assert_eq!(error.object, format!("flow udp {address} -> {address}"));
            assert_eq!(client.flows(&OURS).expect("listed"), []);
        }
    });
}

#[test]
fn thousands_of_flows_are_listed_and_deleted_and_the_others_stay() {
    in_namespace(|| {
        mark_connections();
        for family in Family::ALL {
            let other = UdpSocket::bind((loopback(family), 9)).expect("bound");
            let kept = udp_flow_to(&other);
            let server = UdpSocket::bind((loopback(family), 0)).expect("bound");
            let tuples: Vec<_> = (0..3000).map(|_| udp_flow_to(&server)).collect();

            let mut client = ConntrackClient::open().expect("opened");
            let flows = client.flows(&OURS).expect("listed");
            let distinct: std::collections::BTreeSet<_> = tuples.into_iter().collect();
            assert_eq!(flows.len(), distinct.len());
            let keys: Vec<_> = flows.iter().map(|flow| flow.key).collect();
            client.delete(&keys).expect("deleted");
            assert_eq!(client.flows(&OURS).expect("listed"), []);
            assert!(find(&client.flows(&ALL).expect("listed"), &kept).is_some());
        }
    });
}

#[test]
fn without_privileges_a_client_is_denied() {
    in_namespace(|| {
        mark_connections();
        udp_flow(Family::V4);
        let mut client = ConntrackClient::open().expect("opened");
        let key = client.flows(&ALL).expect("listed")[0].key;
        let mut sets = capabilities(None).expect("read");
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).expect("dropped");
        let listed = client.flows(&ALL).expect_err("refused");
        assert_eq!(listed.class, OpErrorClass::Denied, "{listed}");
        let deleted = client.delete(&[key]).expect_err("refused");
        assert_eq!(deleted.class, OpErrorClass::Denied, "{deleted}");
    });
}

#[test]
fn nothing_to_delete_deletes_nothing() {
    in_namespace(|| {
        mark_connections();
        let tuple = udp_flow(Family::V4);
        let mut client = ConntrackClient::open().expect("opened");
        client.delete(&[]).expect("nothing to do");
        assert!(find(&client.flows(&ALL).expect("listed"), &tuple).is_some());
        assert_eq!(client.deletions(), 0);
    });
}
