//! The lab itself, before anything is tested in it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use smartnat_core::model::{Family, Protocol};
use smartnat_sim::topology::{
    Attachment, StandardOptions, Topology, addresses, shared_subnet, single, standard,
};

use super::traffic::{self, BRIEF, Outcome, PATIENT, Server, Stream, StreamKind};
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn end(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// Translation by hand, so that traffic can pass without the program under test.
fn forward_by_hand(lab: &Lab) {
    lab.set_sysctl("gateway", "net.ipv4.ip_forward", "1").unwrap();
    lab.set_sysctl("gateway", "net.ipv6.conf.all.forwarding", "1").unwrap();
    for (program, external, pod) in [
        ("iptables", addresses::EXT1_V4[0], addresses::PODS_V4[0].to_owned()),
        ("ip6tables", addresses::EXT1_V6[0], format!("[{}]", addresses::PODS_V6[0])),
    ] {
        for protocol in ["tcp", "udp"] {
            let target = format!("{pod}:8080");
            let rule = [program, "-w", "-t", "nat", "-A", "PREROUTING", "-d", external];
            let rest = ["-p", protocol, "--dport", "80", "-j", "DNAT", "--to-destination", &target];
            lab.command("gateway", &[&rule[..], &rest[..]].concat()).unwrap();
        }
    }
    for (family, router) in [("-4", "198.51.100.1"), ("-6", "2001:db8:51::1")] {
        lab.command("gateway", &["ip", family, "route", "add", "default", "via", router]).unwrap();
    }
}

#[test]
fn a_client_reaches_a_pod_over_both_families_and_protocols() {
    if !available() {
        return;
    }
    let lab = Lab::build(&standard(StandardOptions::default())).unwrap();
    forward_by_hand(&lab);
    let server = Server::start(&lab, "pod1", &[8080], &[8080]).unwrap();
    for (client, external) in [
        (addresses::CLIENT1_V4, addresses::EXT1_V4[0]),
        (addresses::CLIENT1_V6, addresses::EXT1_V6[0]),
    ] {
        for ask in [traffic::connect_tcp, traffic::ask_udp] {
            let outcome = ask(&lab, "client1", Some(ip(client)), end(external, 80), PATIENT);
            let answer = outcome.answer().unwrap_or_else(|| panic!("{client}: {outcome}"));
            assert_eq!(answer.server, "pod1");
            assert_eq!(answer.seen_peer, answer.local, "nothing hides the client's address");
            assert_eq!(answer.local.ip(), ip(client));
        }
    }
    assert!(server.requests() >= 4);
}

#[test]
fn the_ways_to_be_refused_are_told_apart() {
    if !available() {
        return;
    }
    let lab = Lab::build(&single()).unwrap();
    for external in [addresses::EXT1_V4[0], addresses::EXT1_V6[0]] {
        for ask in [traffic::connect_tcp, traffic::ask_udp] {
            let refused = ask(&lab, "client1", None, end(external, 4711), PATIENT);
            assert_eq!(refused, Outcome::Refused);
        }
    }
    for program in ["iptables", "ip6tables"] {
        lab.command("gateway", &[program, "-w", "-P", "INPUT", "DROP"]).unwrap();
    }
    for ask in [traffic::connect_tcp, traffic::ask_udp] {
        let dropped = ask(&lab, "client1", None, end(addresses::EXT1_V4[0], 4711), BRIEF);
        assert_eq!(dropped, Outcome::TimedOut);
        let no_route = ask(&lab, "gateway", None, end("233.252.0.1", 80), BRIEF);
        assert_eq!(no_route, Outcome::Unreachable);
    }
}

#[test]
fn hosts_of_every_standard_topology_reach_their_neighbours() {
    if !available() {
        return;
    }
    for topology in [standard(StandardOptions { office: true }), single(), shared_subnet()] {
        let lab = Lab::build(&topology).unwrap();
        for segment in &topology.segments {
            let (first, rest) = segment.attachments.split_first().unwrap();
            for other in rest.iter().filter(|other| other.host != first.host) {
                for family in Family::ALL {
                    let of = |attachment: &Attachment| {
                        let mut addresses = attachment.addresses.iter().map(IpNet::addr);
                        addresses.find(|a| Family::of(a) == family).unwrap()
                    };
                    let (from, to) = (of(first), of(other));
                    let outcome = traffic::ping(&lab, &first.host, Some(from), to, 56, PATIENT);
                    assert!(outcome.is_answered(), "{from} to {to}: {outcome}");
                }
            }
        }
    }
}

#[test]
fn conversations_and_streams_last_and_notice_the_end() {
    if !available() {
        return;
    }
    let lab = Lab::build(&single()).unwrap();
    let server = Server::start(&lab, "pod1", &[8080], &[5353]).unwrap();
    let (tcp, udp) = (end(addresses::PODS_V6[0], 8080), end(addresses::PODS_V4[0], 5353));
    let mut long =
        traffic::open(&lab, "gateway", Protocol::Tcp, None, tcp, PATIENT).unwrap().unwrap();
    assert_eq!(long.ask("hello again", PATIENT).answer().unwrap().echo, "hello again");
    let pause = Duration::from_millis(2);
    let streams = [
        (StreamKind::Established, tcp),
        (StreamKind::NewConnections, tcp),
        (StreamKind::Datagrams, udp),
        (StreamKind::NewFlows, udp),
    ]
    .map(|(kind, to)| Stream::start(&lab, "gateway", kind, None, to, pause).unwrap());
    for stream in streams {
        assert!(stream.wait_for_more(20, PATIENT));
        let report = stream.stop();
        assert_eq!((report.lost(), report.answered), (0, report.sent), "{report:?}");
        assert_eq!(report.servers.keys().collect::<Vec<_>>(), ["pod1"]);
    }
    assert!(!long.is_closed());
    let dying = Stream::start(&lab, "gateway", StreamKind::Established, None, tcp, pause).unwrap();
    drop(server);
    assert!(dying.wait_for(PATIENT, |r| r.ended));
    assert!(long.is_closed());
    assert_eq!(long.ask("anybody there", PATIENT), Outcome::Closed);
}

#[test]
fn a_sniffer_sees_which_way_a_packet_went() {
    if !available() {
        return;
    }
    let lab = Lab::build(&single()).unwrap();
    let _server = Server::start(&lab, "gateway", &[80], &[]).unwrap();
    let uplink = Sniffer::start(&lab, "gateway", "ext1").unwrap();
    let inside = Sniffer::start(&lab, "gateway", "eth0").unwrap();
    let external = end(addresses::EXT1_V6[0], 80);
    assert!(traffic::connect_tcp(&lab, "client1", None, external, PATIENT).is_answered());
    let reply = uplink.wait_for(PATIENT, |p| {
        p.direction == Direction::Out
            && p.source == external.ip()
            && matches!(p.transport, Transport::Tcp { source: 80, flags: 0x12, .. })
    });
    assert_eq!(reply.unwrap().destination, ip("2001:db8:51::1"));
    let leaked: Vec<_> =
        inside.packets().into_iter().filter(|p| p.destination_port() == Some(80)).collect();
    assert_eq!(leaked, []);
}

#[test]
fn a_panic_inside_reaches_the_caller_and_harms_nothing() {
    if !available() {
        return;
    }
    let lab = Lab::build(&single()).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lab.run("gateway", || panic!("expected by a test"))
    }));
    assert!(panicked.is_err());
    let links = lab.command("gateway", &["ip", "-oneline", "link"]).unwrap();
    assert!(links.contains("ext1"));
    let outside = Command::new("ip").args(["-oneline", "link"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&outside.stdout).contains("ext1"));
}

#[test]
fn nothing_is_left_when_a_lab_is_dropped() {
    if !available() {
        return;
    }
    let lab = Lab::build(&single()).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("1000").stdout(Stdio::null());
    let process = lab.spawn("pod1", sleep).unwrap();
    let own = namespaces_of_lab(lab.id);
    assert_eq!(own.len(), 3 + usize::from(own.iter().any(|n| n.ends_with("switch"))));
    let (id, number) = (lab.id, process.id());
    drop(lab);
    assert_eq!(namespaces_of_lab(id), BTreeSet::new());
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{number}")).exists());
}

#[test]
fn a_wrong_topology_is_refused_before_anything_is_made() {
    if !available() {
        return;
    }
    let mut topology = single();
    topology.routes[0].host = "nobody".into();
    assert!(matches!(Lab::build(&topology), Err(LabError::Topology(p)) if p.len() == 1));
    let mut topology = Topology::default();
    topology.add_host(smartnat_sim::topology::Host::new("a").with_sysctl("net.ipv4.no_such", "1"));
    let error = Lab::build(&topology).unwrap_err();
    assert!(matches!(error, LabError::Sysctl(key, _) if key == "net.ipv4.no_such"));
}

#[test]
fn building_is_quick() {
    if !available() {
        return;
    }
    let begin = Instant::now();
    drop(Lab::build(&standard(StandardOptions::default())).unwrap());
    // Generous: what is guarded against is a wait for a timer of the kernel in each step.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

fn namespaces_of_lab(id: u32) -> BTreeSet<String> {
    let prefix = registry::namespace_name(id, "");
    fs::read_dir("/var/run/netns")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}
