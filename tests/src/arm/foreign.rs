//! What other programs put on a host, and what they do to ours.

use smartnat_core::model::Family;
use smartnat_core::objects::XtTableId;
use smartnat_core::ops::NftOp;

/// An object of somebody else.
#[derive(Clone, Copy, Debug)]
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
    /// A set of addresses, empty.
    Set {
        /// Its name.
        name: &'a str,
    },
}

/// What somebody does to objects that may be ours.
#[derive(Clone, Copy, Debug)]
pub enum Damage<'a> {
    /// Deletes the rules of a chain.
    FlushChain {
        /// Family and table.
        table: XtTableId,
        /// The chain.
        chain: &'a str,
    },
    /// Deletes the rules of all chains.
    FlushTable {
        /// Family and table.
        table: XtTableId,
    },
    /// Puts a rule at the head of a chain.
    InsertRule {
        /// Family and table.
        table: XtTableId,
        /// The chain.
        chain: &'a str,
        /// Its arguments, as `iptables-save` prints them.
        rule: &'a str,
    },
    /// Deletes the first rule of a chain.
    DeleteFirstRule {
        /// Family and table.
        table: XtTableId,
        /// The chain.
        chain: &'a str,
    },
    /// Deletes the elements of a set.
    FlushSet {
        /// Its name.
        name: &'a str,
    },
    /// Adds an address to a set.
    AddElement {
        /// Name of the set.
        set: &'a str,
        /// The address.
        element: &'a str,
    },
    /// Changes our table of nftables.
    Table {
        /// How, in one batch.
        changes: &'a [NftOp],
    },
    /// Deletes our rules of policy routing.
    DeleteRoutingRules {
        /// Family.
        family: Family,
    },
    /// Deletes the routes of a table.
    DeleteRoutes {
        /// Family.
        family: Family,
        /// The table.
        table: u32,
    },
}
