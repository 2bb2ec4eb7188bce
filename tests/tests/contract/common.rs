//! Words that the contract's tests are written in.

use std::net::{IpAddr, SocketAddr};

use smartnat::lab::Lab;
use smartnat::lab::traffic::{self, BRIEF, Conversation, Outcome, PATIENT, Server};
use smartnat_core::model::{Family, Protocol};
use smartnat_core::objects::SysctlKey;
pub(crate) use smartnat_sim::scenario::standard::{
    SIDES, Side, echo_on, echo_service, first_network, pod,
};
use smartnat_sim::scenario::{MappingBuilder, mapping};
use smartnat_tests::arm::Arm;

/// Runs a test of the Linux kernel alone once for each flavour of iptables, as two tests.
///
/// What both arms can show is described with [`smartnat_tests::on_both_arms!`] instead.
#[allow(unused_macros, reason = "the program is tested by flavour, the contract by ruleset")]
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
#[allow(unused_imports, reason = "the program is tested by flavour, the contract by ruleset")]
pub(crate) use both_flavours;

/// TCP 8080 and UDP 5353.
pub(crate) const USUAL: [(Protocol, u16); 2] = [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)];

const POD_PORTS: [(Protocol, u16); 7] = [
    (Protocol::Tcp, 8080),
    (Protocol::Tcp, 8081),
    (Protocol::Tcp, 9090),
    (Protocol::Udp, 5353),
    (Protocol::Udp, 7000),
    (Protocol::Udp, 7001),
    (Protocol::Udp, 7002),
];

/// The gateway's host forwards, as if it had done so before us.
pub(crate) fn switch_forwarding_on(arm: &mut impl Arm) {
    for family in Family::ALL {
        arm.set_sysctl("gateway", &SysctlKey::Forwarding(family), "1");
    }
}

/// Servers in all three pods on the target ports of [`echo_service`] and some more.
pub(crate) fn serve_in_pods(arm: &mut impl Arm) {
    for pod in ["pod1", "pod2", "pod3"] {
        arm.serve(pod, pod, &[], &POD_PORTS);
    }
}

/// A Mapping of this name on the first address of each side.
pub(crate) fn on_all_sides(name: &str) -> MappingBuilder {
    SIDES.iter().fold(mapping(name), |m, side| m.address(side.external))
}

/// A Mapping of this name on the first addresses of the first network.
pub(crate) fn on_first_network(name: &str) -> MappingBuilder {
    first_network().iter().fold(mapping(name), |m, side| m.address(side.external))
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
