//! One description of a test, two arms: the simulated kernel and the Linux kernel.
//!
//! A description is a function over an [`Arm`]. [`on_both_arms!`](crate::on_both_arms) makes six tests of
//! it: each arm, with each ruleset. An arm ends the test where it cannot do what it is told.

mod foreign;
mod linux;
mod simulated;

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smartnat::lab::Packet;
use smartnat::lab::traffic::{Outcome, StreamKind, StreamReport};
use smartnat_core::model::{ClusterObject, GatewayConfig, Protocol};
use smartnat_core::objects::SysctlKey;
use smartnat_core::objects::nft::NftTable;
use smartnat_sim::topology::{Attachment, Topology};

use crate::{Ruleset, Step};

pub use foreign::{Damage, Foreign};
pub use linux::Linux;
pub use simulated::Simulated;

/// Runs one description as six tests: on each arm with each ruleset.
#[macro_export]
macro_rules! on_both_arms {
    ($(#[$meta:meta])* $name:ident, |$arms:ident| $description:block) => {
        mod $name {
            #[allow(unused_imports, reason = "a description may need none of it")]
            use super::*;

            fn describe<A: $crate::arm::Arm>($arms: &$crate::arm::Arms<A>) $description

            $(#[$meta])*
            #[test]
            fn simulated_nftables() {
                describe(&$crate::arm::Arms::<$crate::arm::Simulated>::new($crate::Ruleset::Nftables));
            }

            $(#[$meta])*
            #[test]
            fn simulated_nft() {
                describe(&$crate::arm::Arms::<$crate::arm::Simulated>::new($crate::Ruleset::IptablesNft));
            }

            $(#[$meta])*
            #[test]
            fn simulated_legacy() {
                describe(&$crate::arm::Arms::<$crate::arm::Simulated>::new($crate::Ruleset::IptablesLegacy));
            }

            $(#[$meta])*
            #[test]
            fn linux_nftables() {
                if smartnat::lab::available() {
                    describe(&$crate::arm::Arms::<$crate::arm::Linux>::new($crate::Ruleset::Nftables));
                }
            }

            $(#[$meta])*
            #[test]
            fn linux_nft() {
                if smartnat::lab::available() {
                    describe(&$crate::arm::Arms::<$crate::arm::Linux>::new($crate::Ruleset::IptablesNft));
                }
            }

            $(#[$meta])*
            #[test]
            fn linux_legacy() {
                if smartnat::lab::available() {
                    describe(&$crate::arm::Arms::<$crate::arm::Linux>::new($crate::Ruleset::IptablesLegacy));
                }
            }
        }
    };
}

/// The same of what concerns objects of iptables: without nftables.
#[macro_export]
macro_rules! on_both_arms_of_iptables {
    ($(#[$meta:meta])* $name:ident, |$arms:ident| $description:block) => {
        mod $name {
            #[allow(unused_imports, reason = "a description may need none of it")]
            use super::*;

            fn describe<A: $crate::arm::Arm>($arms: &$crate::arm::Arms<A>) $description

            $(#[$meta])*
            #[test]
            fn simulated_nft() {
                describe(&$crate::arm::Arms::<$crate::arm::Simulated>::new($crate::Ruleset::IptablesNft));
            }

            $(#[$meta])*
            #[test]
            fn simulated_legacy() {
                describe(&$crate::arm::Arms::<$crate::arm::Simulated>::new($crate::Ruleset::IptablesLegacy));
            }

            $(#[$meta])*
            #[test]
            fn linux_nft() {
                if smartnat::lab::available() {
                    describe(&$crate::arm::Arms::<$crate::arm::Linux>::new($crate::Ruleset::IptablesNft));
                }
            }

            $(#[$meta])*
            #[test]
            fn linux_legacy() {
                if smartnat::lab::available() {
                    describe(&$crate::arm::Arms::<$crate::arm::Linux>::new($crate::Ruleset::IptablesLegacy));
                }
            }
        }
    };
}

/// The same of what concerns our table of nftables alone.
#[macro_export]
macro_rules! on_both_arms_of_nftables {
    ($(#[$meta:meta])* $name:ident, |$arms:ident| $description:block) => {
        mod $name {
            #[allow(unused_imports, reason = "a description may need none of it")]
            use super::*;

            fn describe<A: $crate::arm::Arm>($arms: &$crate::arm::Arms<A>) $description

            $(#[$meta])*
            #[test]
            fn simulated() {
                describe(&$crate::arm::Arms::<$crate::arm::Simulated>::new($crate::Ruleset::Nftables));
            }

            $(#[$meta])*
            #[test]
            fn linux() {
                if smartnat::lab::available() {
                    describe(&$crate::arm::Arms::<$crate::arm::Linux>::new($crate::Ruleset::Nftables));
                }
            }
        }
    };
}

/// Where a description gets its arm from, as often as it needs a fresh one.
#[derive(Debug)]
pub struct Arms<A> {
    ruleset: Ruleset,
    kind: PhantomData<A>,
}

impl<A: Arm> Arms<A> {
    /// Arms of one ruleset.
    pub fn new(ruleset: Ruleset) -> Self {
        Self { ruleset, kind: PhantomData }
    }

    /// What carries the dataplane.
    pub fn ruleset(&self) -> Ruleset {
        self.ruleset
    }

    /// A network whose host `gateway` does not run the gateway yet.
    pub fn build(&self, topology: &Topology) -> A {
        A::build(topology, self.ruleset)
    }

    /// A network with a running gateway that has come to rest in sync.
    #[track_caller]
    pub fn start(
        &self,
        topology: &Topology,
        config: GatewayConfig,
        objects: Vec<ClusterObject>,
    ) -> A {
        let mut arm = self.build(topology);
        let first = arm.start(config, objects);
        assert!(first.status.in_sync, "{:?} {:?}", first.status.degraded, first.events);
        arm
    }
}

/// Defaults, with the uplinks of the standard topologies.
pub fn config() -> GatewayConfig {
    GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() }
}

/// TTL or hop limit that a host begins with.
const DEFAULT_HOPS: u8 = 64;

/// A request: protocol, client, its address, where to.
pub type Request<'a> = (Protocol, &'a str, &'a str, SocketAddr);

/// A network with a gateway in it, and the words that tests of the traffic contract are written in.
///
/// `briefly` says that silence is expected, which on Linux takes its time to show.
pub trait Arm: Sized {
    /// An open connection or UDP port of a client.
    type Conversation;
    /// An SCTP association, both its ends.
    type Association;
    /// A record of the packets that pass an interface.
    type Watch;

    /// A network whose host `gateway` does not run the gateway yet.
    fn build(topology: &Topology, ruleset: Ruleset) -> Self;

    /// Starts the gateway, or ends the running one as a kill would and starts another that knows nothing.
    fn start(&mut self, config: GatewayConfig, objects: Vec<ClusterObject>) -> Step;
    /// The same with the settings of the last start.
    fn restart(&mut self, objects: Vec<ClusterObject>) -> Step;
    /// The same with the objects of the last start.
    fn reconfigure(&mut self, config: GatewayConfig) -> Step;
    /// Changed objects.
    fn sync(&mut self, objects: Vec<ClusterObject>) -> Step;
    /// Tells the gateway that links, addresses or routes changed.
    fn host_changed(&mut self) -> Step;
    /// Tells the gateway that somebody changed the kernel.
    fn kernel_changed(&mut self) -> Step;
    /// Removes everything of ours.
    fn clean_up(&mut self) -> Step;
    /// Removes everything of ours by a fresh instance, as the command does that cleans up.
    fn clean_up_anew(&mut self) -> Step;

    /// Sets a sysctl of a host.
    fn set_sysctl(&mut self, host: &str, key: &SysctlKey, value: &str);
    /// Reads a sysctl of a host.
    fn sysctl(&self, host: &str, key: &SysctlKey) -> String;
    /// Adds a route of table main by a next hop on a link of the host.
    fn add_route(&mut self, host: &str, destination: &str, via: &str);
    /// Deletes a route of table main.
    fn delete_route(&mut self, host: &str, destination: &str);
    /// Adds an address, with the length of its subnet; it is there already where nothing took it away.
    fn add_address(&mut self, host: &str, interface: &str, address: &str);
    /// Deletes an address, written as it was added.
    fn delete_address(&mut self, host: &str, interface: &str, address: &str);
    /// Sets an interface up or down; returns when the other end of a cable knows.
    fn set_link(&mut self, host: &str, interface: &str, up: bool);
    /// Makes the gateway's host forget all connections.
    fn forget_connections(&mut self);
    /// Seconds for which the gateway's host still holds a client to an endpoint, rounded down.
    fn held(&self, client: &str) -> Option<u32>;
    /// Our table of nftables on the gateway's host.
    fn table(&self) -> Option<NftTable>;
    /// Connections to this destination port that the gateway's host knows.
    fn connections_to(&self, port: u16) -> Vec<String>;

    /// Puts an object of somebody else on the gateway's host.
    fn put(&mut self, foreign: &Foreign<'_>);
    /// Puts objects of somebody else of every kind that the arm's kernel knows: chains, rules, a set, rules and
    /// routes of policy routing, a sysctl.
    fn put_foreign_objects(&mut self);
    /// Does to objects on the gateway's host what somebody else might do.
    fn damage(&mut self, damage: &Damage<'_>);
    /// Everything that a clean-up must restore on the gateway's host, one line an object, `key = value` a
    /// sysctl. Lines of two arms are not alike.
    fn host_lines(&self) -> Vec<String>;

    /// Serves ports of a host as `owner`, on these addresses or, without any, on all of the host.
    fn serve(&mut self, host: &str, owner: &str, addresses: &[IpAddr], ports: &[(Protocol, u16)]);
    /// Ends the servers of an owner.
    fn stop(&mut self, owner: &str);
    /// Requests and connections that reached the servers of an owner.
    fn deliveries(&self, owner: &str) -> u64;

    /// Asks once from a fresh port, where an answer is expected.
    fn ask(&mut self, request: Request<'_>) -> Outcome;
    /// Asks all at the same time, where silence is expected.
    fn ask_all_briefly(&mut self, requests: &[Request<'_>]) -> Vec<Outcome>;
    /// An echo request.
    fn ping(&mut self, host: &str, from: IpAddr, to: IpAddr) -> Outcome;
    /// One datagram from a given port, whether or not somebody answers.
    fn send_datagram(&mut self, host: &str, from: SocketAddr, to: SocketAddr) {
        self.send_datagram_so_far(host, from, to, DEFAULT_HOPS);
    }
    /// The same with a TTL or hop limit.
    fn send_datagram_so_far(&mut self, host: &str, from: SocketAddr, to: SocketAddr, hops: u8);

    /// Opens a connection or a UDP port; with a port in `from`, that one.
    fn open(
        &mut self,
        protocol: Protocol,
        client: &str,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Self::Conversation, Outcome>;
    /// The client's own end.
    fn local(&self, conversation: &Self::Conversation) -> SocketAddr;
    /// Asks on an open connection, where an answer is expected.
    fn ask_on(&mut self, conversation: &mut Self::Conversation) -> Outcome;
    /// Asks on all at the same time, where silence is expected.
    fn ask_all_on_briefly(&mut self, conversations: &mut [Self::Conversation]) -> Vec<Outcome>;

    /// Opens an association with a server on a host, which serves that port from now on, and says whom the
    /// server saw. `None` where a packet is lost or an answer comes from elsewhere.
    fn associate(
        &mut self,
        client: (&str, SocketAddr),
        to: SocketAddr,
        server: (&str, SocketAddr),
    ) -> Option<(SocketAddr, Self::Association)>;
    /// Whether a packet of the client on an association reaches the server, where that is expected.
    fn lives(&mut self, association: &mut Self::Association) -> bool;
    /// The same where it is not expected.
    fn lives_briefly(&mut self, association: &mut Self::Association) -> bool;
    /// The first packet of an association, whether or not somebody answers.
    fn send_init(&mut self, host: &str, from: SocketAddr, to: SocketAddr);

    /// Records what passes an interface from now on.
    fn watch(&mut self, host: &str, interface: &str) -> Self::Watch;
    /// What was recorded so far.
    fn packets(&self, watch: &Self::Watch) -> Vec<Packet>;
    /// The first recorded packet that is wanted, where one is expected.
    fn seen(&self, watch: &Self::Watch, wanted: impl Fn(&Packet) -> bool) -> Option<Packet>;
    /// The same where none is expected.
    fn seen_briefly(&self, watch: &Self::Watch, wanted: impl Fn(&Packet) -> bool)
    -> Option<Packet>;

    /// Begins traffic that goes on until it is stopped. On Linux it runs beside everything else, with a
    /// pause after each request; simulated traffic asks once after every single kernel operation.
    fn stream(
        &mut self,
        kind: StreamKind,
        client: &str,
        from: IpAddr,
        to: SocketAddr,
        pause: Duration,
    );
    /// Returns when each stream has been answered `count` times more.
    fn await_streams(&mut self, count: u64);
    /// Ends all streams and says what became of them.
    fn stop_streams(&mut self) -> Vec<StreamReport>;

    /// Lets time pass until `wanted` yields something, a few seconds at most.
    fn wait_until<T>(&mut self, wanted: impl FnMut(&mut Self) -> Option<T>) -> Option<T>;

    /// Asks where silence is expected.
    fn ask_briefly(&mut self, request: Request<'_>) -> Outcome {
        self.ask_all_briefly(&[request]).remove(0)
    }

    /// Asks on an open connection, where silence is expected.
    fn ask_on_briefly(&mut self, conversation: &mut Self::Conversation) -> Outcome {
        self.ask_all_on_briefly(std::slice::from_mut(conversation)).remove(0)
    }

    /// Asserts that none of the requests hears anything.
    #[track_caller]
    fn assert_silence(&mut self, requests: &[Request<'_>]) {
        for (request, outcome) in requests.iter().zip(self.ask_all_briefly(requests)) {
            assert_eq!(outcome, Outcome::TimedOut, "{request:?}");
        }
    }

    /// An open connection or UDP port that has been answered once.
    #[track_caller]
    fn converse(
        &mut self,
        protocol: Protocol,
        client: &str,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Self::Conversation {
        let opened = self.open(protocol, client, from, to);
        let mut opened = opened.unwrap_or_else(|o| panic!("{client} {protocol} {from} {to}: {o}"));
        let outcome = self.ask_on(&mut opened);
        assert!(outcome.is_answered(), "{client} {protocol} {from} {to}: {outcome}");
        opened
    }
}

/// The other end of a cable; of a switch nobody, since only its port notices.
fn ends_of_cable(topology: &Topology, host: &str, interface: &str) -> Vec<(String, String)> {
    let is_this = |a: &Attachment| a.host == host && a.interface == interface;
    let segment = topology.segments.iter().find(|s| s.attachments.iter().any(is_this));
    let segment = segment.unwrap_or_else(|| panic!("{host} has no interface {interface}"));
    let others = segment.attachments.iter().filter(|a| !is_this(a));
    let others: Vec<_> = others.map(|a| (a.host.clone(), a.interface.clone())).collect();
    if others.len() == 1 { others } else { Vec::new() }
}
