//! What the simulation refuses to decide.

use smartnat_core::objects::XtTableId;
use thiserror::Error;

/// A packet met something that the simulation does not understand. What the packet changed
/// before that stays changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// An iptables rule that is known by its text alone.
    #[error("rule {index} of chain {chain} in {} ({}) is not understood: {text}", .table.table.name(), .table.family)]
    Rule {
        /// Family and table.
        table: XtTableId,
        /// Chain.
        chain: String,
        /// Position in the chain, from 1.
        index: usize,
        /// The rule as the kernel printed it.
        text: String,
    },
    /// A rule of nftables with an expression that is known by its name alone.
    #[error("rule {index} of chain {chain} in table inet {table} is not understood: {text}")]
    NftRule {
        /// Table.
        table: String,
        /// Chain.
        chain: String,
        /// Position in the chain, from 1.
        index: usize,
        /// The expression.
        text: String,
    },
    /// A rule of policy routing that is known by its text alone.
    #[error("routing rule {priority} is not understood: {text}")]
    RoutingRule {
        /// Priority.
        priority: u32,
        /// The rule as `ip rule` prints it.
        text: String,
    },
    /// Something about the packet that is not modelled.
    #[error("not modelled: {0}")]
    NotModelled(String),
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// There is no such host in the network.
    #[error("there is no host {0}")]
    NoHost(String),
    /// A packet that causes packets without end.
    #[error("more than {0} packets or hops follow from one")]
    Endless(usize),
}

impl Refusal {
    pub(crate) fn not_modelled<T>(what: impl Into<String>) -> Result<T, Self> {
        Err(Self::NotModelled(what.into()))
    }
}
