//! Typed kernel objects: what a kernel, real or simulated, holds of ours.

mod flow;
mod ipset;
pub mod nft;
mod routing;
mod state;
mod sysctl;
mod xtables;

pub use flow::{Flow, FlowFilter, FlowKey, FlowTuple, Layer4};
pub use ipset::{IpSet, SetElement, SetKind, SetName, SetSpec};
pub use routing::{Route, RoutingRule, RuleAction};
pub(crate) use state::pairs;
pub use state::{KernelState, Netfilter, ObservationScope, SysctlState};
pub use sysctl::SysctlKey;
pub use xtables::{
    BuiltinChain, BuiltinHook, ChainName, ConnectionStates, InterfaceMatch, L4Match, PortMapping,
    RejectWith, SetDirection, XtMatch, XtRule, XtTable, XtTableId, XtTableState, XtTarget,
};

/// Prefix of every iptables chain of ours.
pub const CHAIN_PREFIX: &str = "SMARTNAT-";
/// Prefix of every ipset of ours.
pub const SET_PREFIX: &str = "smartnat-";
/// Routing protocol number of our routes and rules (`rtm_protocol`, `FRA_PROTOCOL`).
pub const ROUTE_PROTOCOL: u8 = 83;
