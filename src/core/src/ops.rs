//! Operations on a kernel, and the interface that executes them.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::objects::nft::{NFT_TABLE, NftChain, NftElement, NftKey, NftName, NftSetSpec};
use crate::objects::{
    BuiltinHook, ChainName, Flow, FlowFilter, FlowKey, KernelState, ObservationScope, Route,
    RoutingRule, SetElement, SetName, SetSpec, SysctlKey, XtRule, XtTableId,
};

/// One change of one kernel object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NetworkOp {
    /// Creates a chain or replaces all its rules. In [`Domain::Xtables`].
    PutChain {
        /// The chain.
        chain: ChainName,
        /// Its rules from now on.
        rules: Vec<XtRule>,
    },
    /// Flushes and deletes a chain; busy while a rule jumps to it. In [`Domain::Xtables`].
    DeleteChain {
        /// The chain.
        chain: ChainName,
    },
    /// Inserts a rule at the head of a built-in chain. In [`Domain::Xtables`].
    InsertJump {
        /// The built-in chain.
        hook: BuiltinHook,
        /// The rule.
        rule: XtRule,
    },
    /// Deletes the first equal rule of a built-in chain. In [`Domain::Xtables`].
    DeleteJump {
        /// The built-in chain.
        hook: BuiltinHook,
        /// The rule.
        rule: XtRule,
    },
    /// Deletes a built-in chain (and its table with the last one) of the nft flavour if it
    /// is empty, its policy is ACCEPT; does nothing otherwise. In [`Domain::Xtables`].
    DeleteEmptyBuiltin {
        /// The built-in chain.
        hook: BuiltinHook,
    },
    /// Creates a set; `Exists` when there is one of the name. In [`Domain::Sets`].
    CreateSet {
        /// Its name.
        name: SetName,
        /// Type, family, timeout, size.
        spec: SetSpec,
    },
    /// Adds an element; no error when it is there (its timeout starts anew). In [`Domain::Sets`].
    AddElement {
        /// The set.
        set: SetName,
        /// The element.
        element: SetElement,
    },
    /// Deletes an element; no error when it is not there. In [`Domain::Sets`].
    DeleteElement {
        /// The set.
        set: SetName,
        /// The element.
        element: SetElement,
    },
    /// Destroys a set; busy while a rule refers to it. In [`Domain::Sets`].
    DestroySet {
        /// The set.
        name: SetName,
    },
    /// Adds a rule; `Exists` when an equal one is there. In [`Domain::Routing`].
    AddRule(RoutingRule),
    /// Deletes a rule. In [`Domain::Routing`].
    DeleteRule(RoutingRule),
    /// Adds a route or replaces the one to the same destination in the table. In [`Domain::Routing`].
    PutRoute(Route),
    /// Deletes a route. In [`Domain::Routing`].
    DeleteRoute(Route),
    /// Records the value before us if none is recorded, then sets. In [`Domain::Sysctls`].
    SetSysctl {
        /// Which.
        key: SysctlKey,
        /// New value.
        value: String,
    },
    /// Sets the recorded value (if `value` is given) and forgets the record. In [`Domain::Sysctls`].
    ForgetSysctl {
        /// Which.
        key: SysctlKey,
        /// The value to set; absent: leave it as it is.
        value: Option<String>,
    },
    /// Changes our table of nftables. In [`Domain::Nftables`].
    Nft(NftOp),
    /// Deletes exactly one conntrack entry; no error when it is gone. In [`Domain::Flows`].
    DeleteFlow(FlowKey),
}

/// One change of our table of nftables. Whatever refers to something comes after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NftOp {
    /// Creates the table; no error when it is there and ours.
    CreateTable,
    /// Deletes the table with all that is in it.
    DeleteTable,
    /// Creates a set or map; `Exists` when there is one of the name.
    CreateSet {
        /// Its name.
        name: NftName,
        /// What it is created with.
        spec: NftSetSpec,
    },
    /// Deletes a set or map with its elements; busy while a rule refers to it.
    DeleteSet {
        /// Its name.
        name: NftName,
    },
    /// Creates a chain or replaces all its rules. Whether packets enter it by themselves, and
    /// where, can't be changed.
    PutChain {
        /// Its name.
        name: NftName,
        /// As it is from now on.
        chain: NftChain,
    },
    /// Deletes a chain with its rules; busy while a rule or an element leads to it.
    DeleteChain {
        /// Its name.
        name: NftName,
    },
    /// Adds an element; `Exists` when there is one of the key with another value, or one that
    /// overlaps. A set with a timeout gives it to the element.
    AddElement {
        /// The set or map.
        set: NftName,
        /// Its key.
        key: NftKey,
        /// The rest of it.
        element: NftElement,
    },
    /// Deletes an element; `NotFound` when it is not there.
    DeleteElement {
        /// The set or map.
        set: NftName,
        /// Its key.
        key: NftKey,
    },
}

/// Which part of the kernel a transaction goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Domain {
    /// One iptables table of one family. Atomic.
    Xtables(XtTableId),
    /// The same in iptables' other flavour.
    OtherXtables(XtTableId),
    /// ipset. Ordered; stops at the first failure.
    Sets,
    /// Our table of nftables. Atomic.
    Nftables,
    /// Routes and rules. Ordered; stops at the first failure.
    Routing,
    /// Sysctls. Ordered; stops at the first failure.
    Sysctls,
    /// Conntrack entries. Ordered; goes on past a failure and reports the first.
    Flows,
}

/// Operations of one domain that are handed to the kernel together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transaction {
    /// Where they go.
    pub domain: Domain,
    /// In this order; never empty.
    pub ops: Vec<NetworkOp>,
}

/// What kind of failure an operation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OpErrorClass {
    /// The object is not there.
    NotFound,
    /// An object of that name is there.
    Exists,
    /// Something refers to the object.
    Busy,
    /// The kernel does not accept such an object.
    Invalid,
    /// No privilege.
    Denied,
    /// It may work when tried again.
    Transient,
}

/// A failed operation. Decisions look at the class alone; the detail is for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[error("{object}: {class}: {detail}")]
pub struct OpError {
    /// What kind of failure.
    pub class: OpErrorClass,
    /// The object that failed, for example `chain nat/SMARTNAT-DNAT (IPv4)`.
    pub object: String,
    /// What the kernel or the program said.
    pub detail: String,
}

impl OpError {
    /// An error about `object`.
    pub fn new(class: OpErrorClass, object: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self { class, object: object.to_string(), detail: detail.to_string() }
    }
}

impl fmt::Display for OpErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Exists => "exists",
            Self::Busy => "busy",
            Self::Invalid => "refused as invalid",
            Self::Denied => "permission denied",
            Self::Transient => "failed for now",
        })
    }
}

/// A kernel, real or simulated.
pub trait Kernel {
    /// Everything of ours that the kernel holds now, and nothing else.
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError>;

    /// Atomic within one transaction where the domain allows it.
    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError>;

    /// The conntrack entries that `filter` selects, in no particular order.
    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError>;
}

impl fmt::Display for NftOp {
    /// The object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTable | Self::DeleteTable => write!(f, "table inet {NFT_TABLE}"),
            Self::CreateSet { name, .. } | Self::DeleteSet { name } => {
                write!(f, "set {name} of table inet {NFT_TABLE}")
            }
            Self::PutChain { name, .. } | Self::DeleteChain { name } => {
                write!(f, "chain {name} of table inet {NFT_TABLE}")
            }
            Self::AddElement { set, element, .. } => {
                write!(f, "element")?;
                if let Some(comment) = &element.comment {
                    write!(f, " of {comment}")?;
                }
                write!(f, " in set {set} of table inet {NFT_TABLE}")
            }
            Self::DeleteElement { set, .. } => {
                write!(f, "element in set {set} of table inet {NFT_TABLE}")
            }
        }
    }
}

impl NetworkOp {
    /// The object, for people: `chain nat/SMARTNAT-DNAT (IPv4)`.
    pub fn describe(&self, domain: Domain) -> String {
        let table = match domain {
            Domain::Xtables(id) => format!("{} ({})", id.table.name(), id.family),
            Domain::OtherXtables(id) => {
                format!("{} ({}, other flavour)", id.table.name(), id.family)
            }
            _ => String::new(),
        };
        match self {
            Self::PutChain { chain, .. } | Self::DeleteChain { chain } => {
                format!("chain {chain} in {table}")
            }
            Self::InsertJump { hook, .. } | Self::DeleteJump { hook, .. } => {
                format!("jump from {} in {table}", hook.name())
            }
            Self::DeleteEmptyBuiltin { hook } => format!("chain {} in {table}", hook.name()),
            Self::CreateSet { name, .. } | Self::DestroySet { name } => format!("set {name}"),
            Self::AddElement { set, element } | Self::DeleteElement { set, element } => {
                format!("element {element} of set {set}")
            }
            Self::AddRule(rule) | Self::DeleteRule(rule) => {
                format!("routing rule {} ({})", rule.priority, rule.family)
            }
            Self::PutRoute(route) | Self::DeleteRoute(route) => {
                format!("route {} in table {}", route.destination, route.table)
            }
            Self::SetSysctl { key, .. } | Self::ForgetSysctl { key, .. } => format!("sysctl {key}"),
            Self::Nft(op) => op.to_string(),
            Self::DeleteFlow(key) => format!(
                "connection {}:{} -> {}:{}",
                key.original.source,
                key.original.source_port(),
                key.original.destination,
                key.original.destination_port()
            ),
        }
    }
}
