//! iptables: per packet a constant number of rules in mangle and filter, and in nat, which
//! only the first packet of a connection sees, one chain per external address, Mapping and port.

mod filter;
mod mangle;
mod nat;
mod rules;

pub use mangle::mark_chain_uplinks;
pub(super) use mangle::table as mangle;
pub(super) use nat::{chains_of_mapping, dispatch, jumps_to_mapping, source_translation};

use std::collections::{BTreeMap, BTreeSet};

use crate::dataplane::Dataplane;
use crate::objects::{
    BuiltinChain, BuiltinHook, ChainName, XtMatch, XtRule, XtTable, XtTableId, XtTableState,
    XtTarget,
};

/// All tables of all families.
pub(super) fn tables(dataplane: &Dataplane) -> BTreeMap<XtTableId, XtTableState> {
    let mut tables = BTreeMap::new();
    for family in dataplane.families.iter().copied() {
        for (table, state) in [
            (XtTable::Mangle, mangle::table(dataplane, family)),
            (XtTable::Filter, filter::table(dataplane)),
            (XtTable::Nat, nat::table(dataplane, family)),
        ] {
            tables.insert(XtTableId { family, table }, state);
        }
    }
    tables
}

/// The tables of a dataplane in nftables: acceptance in these built-in chains of table filter.
pub(super) fn acceptance(
    dataplane: &Dataplane,
    contested: &BTreeSet<BuiltinChain>,
) -> BTreeMap<XtTableId, XtTableState> {
    let ids = dataplane
        .families
        .iter()
        .map(|family| XtTableId { family: *family, table: XtTable::Filter });
    let of = |id: XtTableId| {
        let hooks = contested.iter().filter(move |chain| chain.table == id).map(|c| c.hook);
        (id, filter::acceptance(dataplane, hooks))
    };
    ids.map(of).filter(|(_, table)| !table.is_empty()).collect()
}

/// A table under construction.
#[derive(Default)]
struct TableBuilder(XtTableState);

impl TableBuilder {
    /// Adds a chain.
    fn chain(&mut self, name: ChainName, rules: Vec<XtRule>) {
        let previous = self.0.chains.insert(name, rules);
        assert!(previous.is_none(), "a chain is lowered once");
    }

    /// Adds a chain that a built-in chain jumps to.
    fn hooked_chain(&mut self, hooks: &[BuiltinHook], name: ChainName, rules: Vec<XtRule>) {
        for hook in hooks {
            let jump =
                XtRule::new(XtTarget::Jump(name.clone())).with(XtMatch::Comment("SmartNat".into()));
            self.0.jumps.insert(*hook, vec![jump]);
        }
        self.chain(name, rules);
    }
}
