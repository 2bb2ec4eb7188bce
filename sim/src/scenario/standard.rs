//! What scenarios on [`crate::topology::standard`] talk of: its sides, its pods, the Service `echo` on them.

use smartnat_core::model::{ClusterObject, Family, Protocol};

use super::{ServiceBuilder, service};

/// One external network of the standard topology with its client, as a family sees it.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// The client's host.
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
pub const SIDES: [Side; 4] = [
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
pub fn first_network() -> [Side; 2] {
    [SIDES[0], SIDES[2]]
}

/// Addresses of the pods by number, 1 to 3.
pub fn pod(number: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("10.244.1.1{number}"),
        Family::V6 => format!("fd00:244:1::1{number}"),
    }
}

/// The Service `echo`: TCP `http` 8080→8080, UDP `dns` 5353→5353, TCP `alt` 80→8081, SCTP `sigtran` 3868.
pub fn echo_service() -> ServiceBuilder {
    service("echo")
        .port("http", Protocol::Tcp, 8080, 8080)
        .port("dns", Protocol::Udp, 5353, 5353)
        .port("alt", Protocol::Tcp, 80, 8081)
        .port("sigtran", Protocol::Sctp, 3868, 3868)
}

/// `echo` with these pods ready in both families.
pub fn echo_on(pods: &[usize]) -> Vec<ClusterObject> {
    pods.iter()
        .fold(echo_service(), |s, n| s.ready(&pod(*n, Family::V4)).ready(&pod(*n, Family::V6)))
        .build()
}
