//! One connection as conntrack knows it.

use serde::{Deserialize, Serialize};
use smartnat_core::model::Timestamp;
use smartnat_core::objects::{Flow, FlowKey, FlowTuple, Layer4};

/// In which direction a packet belongs to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// As the first packet.
    Original,
    /// The other.
    Reply,
}

impl Direction {
    /// The other direction.
    pub fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// State of a TCP connection (`enum tcp_conntrack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TcpState {
    /// Before the first packet.
    None,
    /// A SYN was seen.
    SynSent,
    /// A SYN and its SYN-ACK.
    SynRecv,
    /// Established.
    Established,
    /// One FIN.
    FinWait,
    /// One FIN, acknowledged.
    CloseWait,
    /// Both FINs.
    LastAck,
    /// Both FINs, acknowledged.
    TimeWait,
    /// A reset.
    Close,
    /// SYNs from both sides.
    SynSent2,
}

/// What conntrack makes of the flags of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcpKind {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// FIN.
    Fin,
    /// ACK.
    Ack,
    /// RST.
    Rst,
    /// None of them.
    None,
}

/// What conntrack remembers of a TCP connection. Sequence numbers are not modelled: all are in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpProgress {
    /// State.
    pub state: TcpState,
    /// A side began to close (`IP_CT_TCP_FLAG_CLOSE_INIT`).
    pub closing: bool,
    /// The last segment.
    pub last: Option<(Direction, TcpKind)>,
}

/// State of an SCTP association (`enum sctp_conntrack`), as far as it is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SctpState {
    /// An INIT was seen, or an ABORT.
    Closed,
    /// INIT and INIT-ACK.
    CookieWait,
    /// COOKIE-ECHO.
    CookieEchoed,
    /// COOKIE-ACK.
    Established,
}

/// What conntrack remembers beyond the tuples, by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Progress {
    /// TCP.
    Tcp(TcpProgress),
    /// UDP; from this instant on it counts as a stream.
    Udp(Timestamp),
    /// SCTP.
    Sctp(SctpState),
    /// ICMP and what has no states.
    Stateless,
}

/// A connection.
#[allow(clippy::struct_excessive_bools, reason = "independent bits of the kernel's status word")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Tuples and mark; its id is 0 until it is confirmed.
    pub flow: Flow,
    /// `IPS_SEEN_REPLY`.
    pub seen_reply: bool,
    /// `IPS_ASSURED`.
    pub assured: bool,
    /// State of its protocol.
    pub progress: Progress,
    /// When it expires; `None`: never.
    pub expires: Option<Timestamp>,
    /// Destination translation is settled (`IPS_DST_NAT_DONE`).
    pub destination_settled: bool,
    /// Source translation is settled (`IPS_SRC_NAT_DONE`).
    pub source_settled: bool,
    /// Index of the interface that it was masqueraded over.
    pub masqueraded_over: Option<u32>,
}

impl Entry {
    /// The entry of a connection's first packet.
    pub(crate) fn first(original: FlowTuple, progress: Progress) -> Self {
        Self {
            flow: Flow { key: FlowKey { original, id: 0 }, reply: inverse(&original), mark: 0 },
            seen_reply: false,
            assured: false,
            progress,
            expires: None,
            destination_settled: false,
            source_settled: false,
            masqueraded_over: None,
        }
    }

    /// An established connection, as `conntrack -I` makes one.
    pub(super) fn made_by_hand(original: FlowTuple, reply: FlowTuple, mark: u32) -> Self {
        let progress = match original.protocol {
            6 => Progress::Tcp(TcpProgress {
                state: TcpState::Established,
                closing: false,
                last: None,
            }),
            17 => Progress::Udp(Timestamp(0)),
            132 => Progress::Sctp(SctpState::Established),
            _ => Progress::Stateless,
        };
        Self {
            flow: Flow { key: FlowKey { original, id: 0 }, reply, mark },
            seen_reply: true,
            assured: true,
            destination_settled: true,
            source_settled: true,
            ..Self::first(original, progress)
        }
    }

    pub(crate) fn lives(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|at| at > now)
    }

    /// The tuple that packets of a direction have when they come in.
    pub fn tuple(&self, direction: Direction) -> &FlowTuple {
        match direction {
            Direction::Original => &self.flow.key.original,
            Direction::Reply => &self.flow.reply,
        }
    }

    /// Whether the source of its original direction is translated (`IPS_SRC_NAT`).
    pub fn source_translated(&self) -> bool {
        let (original, reply) = (&self.flow.key.original, &self.flow.reply);
        original.source != reply.destination || source_end(original) != destination_end(reply)
    }

    /// Whether the destination of its original direction is translated (`IPS_DST_NAT`).
    pub fn destination_translated(&self) -> bool {
        let (original, reply) = (&self.flow.key.original, &self.flow.reply);
        original.destination != reply.source || original.destination_port() != reply.source_port()
    }
}

/// What a source translation can change beside the address: the port, or the id of a query.
fn source_end(tuple: &FlowTuple) -> u16 {
    match tuple.layer4 {
        Layer4::Icmp { id, .. } => id,
        _ => tuple.source_port(),
    }
}

fn destination_end(tuple: &FlowTuple) -> u16 {
    match tuple.layer4 {
        Layer4::Icmp { id, .. } => id,
        _ => tuple.destination_port(),
    }
}

/// The tuple of the other direction without translation (`nf_ct_invert_tuple`).
pub(crate) fn inverse(tuple: &FlowTuple) -> FlowTuple {
    let layer4 = match tuple.layer4 {
        Layer4::Ports { source, destination } => {
            Layer4::Ports { source: destination, destination: source }
        }
        Layer4::Icmp { kind, code, id } => Layer4::Icmp { kind: inverse_query(kind), code, id },
        Layer4::Other => Layer4::Other,
    };
    FlowTuple {
        source: tuple.destination,
        destination: tuple.source,
        protocol: tuple.protocol,
        layer4,
    }
}

/// Echo request and reply of both families; other queries are not modelled.
fn inverse_query(kind: u8) -> u8 {
    match kind {
        0 => 8,
        8 => 0,
        128 => 129,
        129 => 128,
        other => other,
    }
}
