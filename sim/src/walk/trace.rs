//! The path of a packet through a host, in steps.

mod display;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use smartnat_core::model::ServiceEndpoint;
use smartnat_core::objects::nft::{NatKind, NftName, NftVerdict, SetUpdate};
use smartnat_core::objects::{BuiltinHook, RejectWith, XtTable, XtTarget};

use super::packet::Packet;
use crate::kernel::Direction;

/// The path of one packet through one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The interface that it came in by; `None`: the host itself sent it.
    pub interface: Option<String>,
    /// The packet as it began.
    pub packet: Packet,
    /// What happened on the way; empty when only the outcome was asked for.
    pub steps: Vec<Step>,
    /// What became of it.
    pub outcome: Outcome,
    /// Packets that the host sent because of it, each with its own path.
    pub answers: Vec<Trace>,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The host took it.
    Delivered {
        /// Who took it.
        to: Receiver,
        /// The packet as it arrived there.
        packet: Packet,
    },
    /// It left by an interface.
    Left {
        /// The interface.
        interface: String,
        /// To whom on that link.
        next_hop: IpAddr,
        /// The packet as it left.
        packet: Packet,
    },
    /// It ended on the way.
    Dropped {
        /// Why.
        cause: DropCause,
        /// The packet as it was then.
        packet: Packet,
    },
}

/// Who takes a packet on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receiver {
    /// A socket, or a connection of it.
    Socket {
        /// Who has it.
        owner: String,
    },
    /// The kernel: echo, errors, control messages.
    Kernel,
    /// Nobody: the kernel answers with a reset or an error.
    Nobody,
}

/// Why a packet ended on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropCause {
    /// A rule says so.
    Rule(RulePlace),
    /// A rule rejects it, with an answer.
    Rejected(RulePlace),
    /// The policy of a built-in chain.
    Policy(RuleTable, BuiltinHook),
    /// No route to its destination.
    NoRoute,
    /// The packet's mark or destination changed and there is no route any more.
    NoRouteAfter(RuleTable),
    /// This host does not forward.
    NotForwarding,
    /// Reverse-path filter: no route, or another interface leads back to its source.
    ReversePath,
    /// An address that cannot come from there: one of the host's own, loopback.
    Martian,
    /// TTL or hop limit used up.
    TimeExceeded,
    /// Masquerading found no address.
    NoAddress,
    /// A masqueraded connection leaves by another interface than before.
    OtherInterface,
    /// No free port was found for it, or another connection has its tuple.
    TupleTaken,
    /// Nobody on the link has the next hop's address.
    NoNeighbour,
    /// The link is down or has no carrier.
    LinkDown,
}

/// A table with rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleTable {
    /// Of iptables.
    Xtables(XtTable),
    /// Of nftables, family inet, by name.
    Nftables(String),
}

impl From<XtTable> for RuleTable {
    fn from(table: XtTable) -> Self {
        Self::Xtables(table)
    }
}

/// What a rule of nftables did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NftAction {
    /// Its verdict, or an element's.
    Verdict(NftVerdict),
    /// Refused the packet with an answer.
    Rejected(RejectWith),
    /// The packet's mark from then on.
    Marked(u32),
    /// The connection's mark from then on.
    ConnectionMarked(u32),
    /// Chose what an end of the connection is translated to.
    Translated {
        /// Which end.
        kind: NatKind,
        /// The address.
        address: IpAddr,
        /// The port; absent: it stays.
        port: Option<u16>,
    },
    /// Took the address of the interface as the connection's source.
    Masqueraded,
    /// Changed a dynamic set.
    SetChanged {
        /// Which.
        set: NftName,
        /// How.
        update: SetUpdate,
    },
}

/// A rule's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePlace {
    /// Table.
    pub table: RuleTable,
    /// Hook where the traversal began.
    pub hook: BuiltinHook,
    /// Chain of the rule.
    pub chain: String,
    /// Position in it, from 1.
    pub index: usize,
}

/// Something that happened to a packet on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Conntrack has told what the packet belongs to.
    Tracked(Membership),
    /// A rule matched.
    Rule {
        /// Which.
        place: RulePlace,
        /// What it does.
        target: XtTarget,
        /// Its comment.
        comment: Option<String>,
    },
    /// A rule of nftables held, or did something before it ceased to.
    NftRule {
        /// Which.
        place: RulePlace,
        /// What it did.
        actions: Vec<NftAction>,
        /// The comment of the element that it found, or its own.
        comment: Option<String>,
    },
    /// No rule decided.
    Policy {
        /// Table.
        table: RuleTable,
        /// Hook.
        hook: BuiltinHook,
        /// Whether the packet goes on.
        accepted: bool,
    },
    /// The source was translated.
    SourceTranslated {
        /// Before.
        from: ServiceEndpoint,
        /// After.
        to: ServiceEndpoint,
    },
    /// The destination was translated.
    DestinationTranslated {
        /// Before.
        from: ServiceEndpoint,
        /// After.
        to: ServiceEndpoint,
    },
    /// Routing decided.
    Routed(Decision),
    /// It comes back in by `lo`.
    LoopedBack,
    /// The connection is known from now on.
    Confirmed,
}

/// What a packet is to conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    /// `NEW`, `ESTABLISHED` or `RELATED`.
    Of {
        /// Which of them.
        state: Relation,
        /// In which direction.
        direction: Direction,
        /// Connection mark.
        mark: u32,
    },
    /// `INVALID`.
    Invalid,
    /// `UNTRACKED`.
    Untracked,
}

/// How a packet relates to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// No reply was seen yet.
    New,
    /// Both directions were seen.
    Established,
    /// Not part of it, but caused by it.
    Related,
}

/// What routing decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// To this host itself.
    Local,
    /// Onwards.
    Onwards {
        /// Priority of the routing rule.
        rule: u32,
        /// Table.
        table: u32,
        /// Destination of the route.
        route: IpNet,
        /// Output interface.
        interface: String,
        /// Next hop; `None`: the destination itself.
        gateway: Option<IpAddr>,
    },
    /// No route.
    Nowhere,
}
