//! What other programs put on a host.

use smartnat_core::model::Family;
use smartnat_core::objects::{RoutingRule, XtTableId};

/// An object of somebody else.
#[derive(Clone, Debug)]
pub enum Foreign<'a> {
    /// A chain of iptables.
    Chain {
        /// Family and table.
        table: XtTableId,
        /// Its name.
        name: &'a str,
    },
    /// A rule at the end of a chain.
    Rule {
        /// Family and table.
        table: XtTableId,
        /// The chain.
        chain: &'a str,
        /// Its arguments, as `iptables-save` prints them.
        rule: &'a str,
    },
    /// A set of addresses.
    Set {
        /// Its name.
        name: &'a str,
        /// Family of its addresses.
        family: Family,
        /// The addresses.
        elements: &'a [&'a str],
    },
    /// A rule of policy routing.
    RoutingRule(RoutingRule),
    /// A rule of policy routing by its text, which no simulated packet may meet.
    RoutingText {
        /// Family.
        family: Family,
        /// Its priority.
        priority: u32,
        /// Selector and action, as `ip rule` takes them.
        text: &'a str,
    },
    /// A route of a table other than main, without a next hop.
    Route {
        /// The table.
        table: u32,
        /// Destination.
        destination: &'a str,
        /// Output interface.
        interface: &'a str,
    },
}
