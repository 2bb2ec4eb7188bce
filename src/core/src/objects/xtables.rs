//! iptables: tables, chains and rules, one type for both flavours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::SetName;
use crate::model::{Family, PortRange, Protocol};

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XtTable {
    /// Marks, guard and no-transit.
    Mangle,
    /// Acceptance and refusal.
    Filter,
    /// Translation.
    Nat,
    /// What comes before connection tracking; used by others alone.
    Raw,
}

impl XtTable {
    /// All tables that we use.
    pub const ALL: [Self; 3] = [Self::Mangle, Self::Filter, Self::Nat];

    /// Name as `-t` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }

    /// Built-in chains of the table.
    pub fn hooks(self) -> &'static [BuiltinHook] {
        use BuiltinHook::{Forward, Input, Output, Postrouting, Prerouting};
        match self {
            Self::Mangle => &[Prerouting, Input, Forward, Output, Postrouting],
            Self::Filter => &[Input, Forward, Output],
            Self::Nat => &[Prerouting, Input, Output, Postrouting],
            Self::Raw => &[Prerouting, Output],
        }
    }
}

/// A built-in chain's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BuiltinHook {
    /// `PREROUTING`.
    Prerouting,
    /// `INPUT`.
    Input,
    /// `FORWARD`.
    Forward,
    /// `OUTPUT`.
    Output,
    /// `POSTROUTING`.
    Postrouting,
}

impl BuiltinHook {
    /// All hooks.
    pub const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    /// Chain name as iptables spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }
}

/// A table of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XtTableId {
    /// `iptables` or `ip6tables`.
    pub family: Family,
    /// The table.
    pub table: XtTable,
}

/// A built-in chain of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BuiltinChain {
    /// Its table.
    pub table: XtTableId,
    /// Its hook.
    pub hook: BuiltinHook,
}

/// Name of a user-defined chain; at most 28 bytes (`XT_EXTENSION_MAXNAMELEN` less its NUL).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainName(pub String);

impl ChainName {
    /// Longest name that the kernel takes.
    pub const MAX_LEN: usize = 28;
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `-i` or `-o`, whole name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InterfaceMatch {
    /// Interface name.
    pub name: String,
    /// `!`.
    pub negated: bool,
}

/// `-p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum L4Match {
    /// TCP, UDP or SCTP.
    Transport(Protocol),
    /// `icmp` for IPv4, `ipv6-icmp` for IPv6.
    Icmp,
}

/// A set of conntrack states.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "a set of independent states")]
pub struct ConnectionStates {
    /// `INVALID`.
    pub invalid: bool,
    /// `NEW`.
    pub new: bool,
    /// `RELATED`.
    pub related: bool,
    /// `ESTABLISHED`.
    pub established: bool,
    /// `UNTRACKED`.
    pub untracked: bool,
}

/// Which address of the packet a set dimension is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SetDirection {
    /// `src`.
    Source,
    /// `dst`.
    Destination,
}

/// A match of a rule beyond addresses, interfaces and protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum XtMatch {
    /// `--dport` (one entry: `-m tcp|udp|sctp --dport A[:B]`) or `-m multiport --dports`
    /// (several; at most 15 ports, a range counts as two).
    DestinationPorts(Vec<PortRange>),
    /// `--sport A` of UDP.
    SourcePort(u16),
    /// `-m tcp [!] --tcp-flags FIN,SYN,RST,ACK SYN`, the form of `--syn`.
    TcpSyn {
        /// `!`.
        negated: bool,
    },
    /// `-m icmp --icmp-type T[/C]`, `-m icmp6 --icmpv6-type T`.
    IcmpType {
        /// Type.
        kind: u8,
        /// Code; absent: any.
        code: Option<u8>,
    },
    /// `-m conntrack [!] --ctstate`.
    State {
        /// The states.
        states: ConnectionStates,
        /// `!`.
        negated: bool,
    },
    /// `-m conntrack --ctdir ORIGINAL|REPLY`.
    Direction {
        /// `REPLY` instead of `ORIGINAL`.
        reply: bool,
    },
    /// `-m conntrack ! --ctstatus CONFIRMED`: the very first packet of a connection, the one that
    /// the nat table looks at. State `NEW` lasts until the first reply.
    Unconfirmed,
    /// `-m connmark [!] --mark VALUE/MASK`.
    ConnMark {
        /// Value.
        value: u32,
        /// Mask.
        mask: u32,
        /// `!`.
        negated: bool,
    },
    /// `-m mark [!] --mark VALUE/MASK`.
    Mark {
        /// Value.
        value: u32,
        /// Mask.
        mask: u32,
        /// `!`.
        negated: bool,
    },
    /// `-m set [!] --match-set NAME DIRS`.
    Set {
        /// The set.
        name: SetName,
        /// One direction a dimension.
        directions: Vec<SetDirection>,
        /// `!`.
        negated: bool,
    },
    /// `-m addrtype --dst-type LOCAL`.
    DestinationLocal,
    /// `-m statistic --mode random --probability P`, as the kernel holds it: of 2^31.
    Random {
        /// Matches with `threshold / 2^31`.
        threshold: u32,
    },
    /// `-m comment --comment TEXT`: printable ASCII without quote or backslash, at most 255 bytes.
    Comment(String),
}

/// Where a translation sends a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortMapping {
    /// The port stays.
    Keep,
    /// Every port becomes this one.
    To(u16),
    /// `FIRST-LAST/BASE`: port p becomes `first + (p - base)`.
    Shift {
        /// First target port.
        first: u16,
        /// Last target port.
        last: u16,
        /// First original port.
        base: u16,
    },
}

/// `--reject-with`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RejectWith {
    /// `tcp-reset`.
    TcpReset,
    /// `icmp-port-unreachable`, `icmp6-port-unreachable`.
    PortUnreachable,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum XtTarget {
    /// `-j CHAIN`.
    Jump(ChainName),
    /// `-j ACCEPT`.
    Accept,
    /// `-j DROP`; refused in table nat.
    Drop,
    /// `-j RETURN`.
    Return,
    /// `-j REJECT`; table filter only.
    Reject(RejectWith),
    /// `-j DNAT --to-destination`.
    DestinationNat {
        /// New destination.
        address: IpAddr,
        /// What happens to the port.
        ports: PortMapping,
    },
    /// `-j SNAT --to-source`.
    SourceNat {
        /// New source.
        address: IpAddr,
    },
    /// `-j MASQUERADE`.
    Masquerade,
    /// `-j MARK --set-xmark VALUE/MASK`: clears the mask, then sets the value.
    SetMark {
        /// Value.
        value: u32,
        /// Mask.
        mask: u32,
    },
    /// `-j CONNMARK --set-xmark VALUE/MASK`.
    SetConnMark {
        /// Value.
        value: u32,
        /// Mask.
        mask: u32,
    },
    /// `-j CONNMARK --restore-mark --nfmask MASK --ctmask MASK`.
    RestoreMark {
        /// Both masks.
        mask: u32,
    },
    /// `-j SET --add-set NAME src --exist`: adds or refreshes, with the set's timeout.
    AddSourceToSet {
        /// The set, of one dimension.
        set: SetName,
    },
    /// `-j CT --notrack`; table raw only.
    NoTrack,
    /// A rule in a chain of ours that is none of ours, as the kernel printed it.
    Unknown(String),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XtRule {
    /// `-s`.
    pub source: Option<IpNet>,
    /// `-d`.
    pub destination: Option<IpNet>,
    /// `-i`.
    pub in_interface: Option<InterfaceMatch>,
    /// `-o`.
    pub out_interface: Option<InterfaceMatch>,
    /// `-p`.
    pub protocol: Option<L4Match>,
    /// Further matches, in this order.
    pub matches: Vec<XtMatch>,
    /// What it does.
    pub target: XtTarget,
}

impl XtRule {
    /// A rule that matches everything.
    pub fn new(target: XtTarget) -> Self {
        Self {
            source: None,
            destination: None,
            in_interface: None,
            out_interface: None,
            protocol: None,
            matches: Vec::new(),
            target,
        }
    }

    /// Adds a match.
    pub fn with(mut self, m: XtMatch) -> Self {
        self.matches.push(m);
        self
    }

    /// The chain it jumps to.
    pub fn jump_target(&self) -> Option<&ChainName> {
        match &self.target {
            XtTarget::Jump(chain) => Some(chain),
            _ => None,
        }
    }

    /// The sets that it refers to.
    pub fn sets(&self) -> impl Iterator<Item = &SetName> {
        let matched = self.matches.iter().filter_map(|m| match m {
            XtMatch::Set { name, .. } => Some(name),
            _ => None,
        });
        let filled = match &self.target {
            XtTarget::AddSourceToSet { set } => Some(set),
            _ => None,
        };
        matched.chain(filled)
    }
}

/// What one table holds of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct XtTableState {
    /// Our chains with their rules.
    pub chains: BTreeMap<ChainName, Vec<XtRule>>,
    /// Rules in built-in chains that jump to a chain of ours, with repetitions, in order.
    pub jumps: BTreeMap<BuiltinHook, Vec<XtRule>>,
    /// Built-in chains that were absent before our first operation (nft flavour) and exist now.
    pub created_builtins: BTreeSet<BuiltinHook>,
}

impl XtTableState {
    /// Whether nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.values().all(Vec::is_empty)
    }
}
