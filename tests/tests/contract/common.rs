//! Words that the contract's tests are written in.

use std::net::{IpAddr, SocketAddr};

use smartnat::lab::Lab;
use smartnat::lab::traffic::{self, BRIEF, Conversation, Outcome, PATIENT, Server};
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_sim::scenario::{ServiceBuilder, service};

/// Runs a test once for each flavour of iptables, as two tests.
macro_rules! both_flavours {
    ($(#[$meta:meta])* $name:ident, $test:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a test may need none of it")]
            use super::*;

            $(#[$meta])*
            #[test]
            fn nft() {
                if smartnat::lab::available() {
                    ($test)(smartnat_core::model::IptablesFlavour::Nft);
                }
            }

            $(#[$meta])*
            #[test]
            fn legacy() {
                if smartnat::lab::available() {
                    ($test)(smartnat_core::model::IptablesFlavour::Legacy);
                }
            }
        }
    };
}
pub(crate) use both_flavours;

/// One external network with its client, as a family sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    /// The client's host in the lab.
    pub client: &'static str,
    /// Its usual address.
    pub source: &'static str,
    /// Its address that the tests do not allow.
    pub refused: &'static str,
    /// The gateway's first external address there.
    pub external: &'static str,
    /// The uplink.
    pub uplink: &'static str,
}

/// Both external networks in both families.
pub(crate) const SIDES: [Side; 4] = [
    Side {
        client: "client1",
        source: "192.0.2.10",
        refused: "198.19.1.10",
        external: "198.51.100.10",
        uplink: "ext1",
    },
    Side {
        client: "client2",
        source: "198.18.2.10",
        refused: "198.19.2.10",
        external: "203.0.113.10",
        uplink: "ext2",
    },
    Side {
        client: "client1",
        source: "2001:db8:2::10",
        refused: "2001:db8:bad:1::10",
        external: "2001:db8:51::10",
        uplink: "ext1",
    },
    Side {
        client: "client2",
        source: "2001:db8:18::10",
        refused: "2001:db8:bad:2::10",
        external: "2001:db8:113::10",
        uplink: "ext2",
    },
];

/// The first external network, IPv4 and IPv6.
pub(crate) fn first_network() -> [Side; 2] {
    [SIDES[0], SIDES[2]]
}

/// Addresses of the pods by number, 1 to 3.
pub(crate) fn pod(number: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("10.244.1.1{number}"),
        Family::V6 => format!("fd00:244:1::1{number}"),
    }
}

/// The Service `echo`: TCP `http` 8080→8080, UDP `dns` 5353→5353, TCP `alt` 80→8081.
pub(crate) fn echo_service() -> ServiceBuilder {
    service("echo")
        .port("http", Protocol::Tcp, 8080, 8080)
        .port("dns", Protocol::Udp, 5353, 5353)
        .port("alt", Protocol::Tcp, 80, 8081)
}

/// `echo` with these pods ready in both families.
pub(crate) fn echo_on(pods: &[usize]) -> Vec<ClusterObject> {
    pods.iter()
        .fold(echo_service(), |s, n| s.ready(&pod(*n, Family::V4)).ready(&pod(*n, Family::V6)))
        .build()
}

/// Servers in all three pods on the target ports of [`echo_service`] and some more.
pub(crate) fn servers(lab: &Lab) -> Vec<Server> {
    (1..=3)
        .map(|n| {
            let name = format!("pod{n}");
            Server::start(lab, &name, &[8080, 8081, 9090], &[5353, 7000, 7001, 7002])
                .expect("the servers start")
        })
        .collect()
}

/// Parses an address of a test.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Address and port.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// Asks where an answer is expected.
pub(crate) fn ask(
    lab: &Lab,
    protocol: Protocol,
    client: &str,
    from: &str,
    to: SocketAddr,
) -> Outcome {
    request(lab, protocol, client, from, to, PATIENT)
}

/// Asks where silence is expected.
pub(crate) fn ask_briefly(
    lab: &Lab,
    protocol: Protocol,
    client: &str,
    from: &str,
    to: SocketAddr,
) -> Outcome {
    request(lab, protocol, client, from, to, BRIEF)
}

fn request(
    lab: &Lab,
    protocol: Protocol,
    client: &str,
    from: &str,
    to: SocketAddr,
    patience: std::time::Duration,
) -> Outcome {
    match protocol {
        Protocol::Tcp => traffic::connect_tcp(lab, client, Some(ip(from)), to, patience),
        _ => traffic::ask_udp(lab, client, Some(ip(from)), to, patience),
    }
}

/// A request: protocol, client, its address, where to.
pub(crate) type Request<'a> = (Protocol, &'a str, &'a str, SocketAddr);

/// What becomes of requests that are made at the same time, as silence takes its time to show.
pub(crate) fn ask_all_briefly(lab: &Lab, requests: &[Request]) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = requests
            .iter()
            .map(|(protocol, client, from, to)| {
                scope.spawn(|| ask_briefly(lab, *protocol, client, from, *to))
            })
            .collect();
        asked.into_iter().map(|a| a.join().expect("a client without a panic")).collect()
    })
}

/// Asserts that none of the requests hears anything.
pub(crate) fn assert_silence(lab: &Lab, requests: &[Request]) {
    for (request, outcome) in requests.iter().zip(ask_all_briefly(lab, requests)) {
        assert_eq!(outcome, Outcome::TimedOut, "{request:?}");
    }
}

/// An open conversation of a client that has been answered once.
pub(crate) fn conversation(
    lab: &Lab,
    protocol: Protocol,
    client: &str,
    from: SocketAddr,
    to: SocketAddr,
) -> Conversation {
    let mut opened = traffic::open(lab, client, protocol, Some(from), to, PATIENT)
        .expect("the lab")
        .unwrap_or_else(|outcome| panic!("{protocol} {from} {to}: {outcome}"));
    let outcome = opened.ask("hello", PATIENT);
    assert!(outcome.is_answered(), "{protocol} {from} {to}: {outcome}");
    opened
}
