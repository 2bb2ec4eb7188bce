//! Removing what the Go version left: exactly what was found, in an order the kernel accepts.

use std::collections::BTreeMap;

use serde::Serialize;
use smartnat_core::model::Family;
use smartnat_core::objects::{XtRule, XtTable, XtTableId, XtTarget};
use smartnat_core::ops::{NetworkOp, OpError, OpErrorClass};

use super::Leftovers;
use crate::ipset::IpsetClient;
use crate::routing::Routing;
use crate::xtables::{Flavour, Xtables, XtablesSettings};

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// How many objects are gone.
    pub removed: usize,
    /// What could not be removed, and why.
    pub failures: Vec<OpError>,
}

impl Removal {
    fn note(&mut self, objects: usize, result: Result<(), OpError>) {
        match result {
            Ok(()) => self.removed += objects,
            // Somebody else was faster.
            Err(error) if error.class == OpErrorClass::NotFound => {}
            Err(error) => self.failures.push(error),
        }
    }
}

/// Removes what was found: routing rules and their routes, jumps, chains, then sets.
/// Continues past failures and reports all of them.
pub fn remove(leftovers: &Leftovers, settings: XtablesSettings) -> Removal {
    let mut removal = Removal::default();
    remove_routing(leftovers, &mut removal);
    for flavour in Flavour::ALL {
        remove_chains(leftovers, flavour, settings, &mut removal);
    }
    remove_sets(leftovers, &mut removal);
    removal
}

fn remove_routing(leftovers: &Leftovers, removal: &mut Removal) {
    if leftovers.rules.is_empty() && leftovers.routes.is_empty() {
        return;
    }
    let mut routing = match Routing::open() {
        Ok(routing) => routing,
        Err(error) => {
            removal.failures.push(OpError::new(OpErrorClass::Denied, "netlink socket", error));
            return;
        }
    };
    let connection = routing.connection();
    for rule in &leftovers.rules {
        let result = connection.delete_rule(rule.message.clone());
        removal.note(1, result.map_err(|e| e.about(rule)));
    }
    for route in &leftovers.routes {
        let result = connection.delete_route(route.message.clone());
        removal.note(1, result.map_err(|e| e.about(route)));
    }
}

fn remove_chains(
    leftovers: &Leftovers,
    flavour: Flavour,
    settings: XtablesSettings,
    removal: &mut Removal,
) {
    let tables = operations(leftovers, flavour);
    if tables.is_empty() {
        return;
    }
    let mut xtables = match Xtables::detect(flavour.into(), settings) {
        Ok(xtables) => xtables,
        Err(error) => {
            let object = format!("iptables-{flavour}");
            removal.failures.push(OpError::new(OpErrorClass::NotFound, object, error));
            return;
        }
    };
    for (table, ops) in tables {
        let id = XtTableId { family: Family::V4, table };
        if xtables.apply(id, &ops).is_ok() {
            removal.removed += ops.len();
            continue;
        }
        // A transaction is executed whole or not at all: what stands in its way is named, the rest goes.
        for op in &ops {
            removal.note(1, xtables.apply(id, std::slice::from_ref(op)));
        }
    }
}

fn operations(leftovers: &Leftovers, flavour: Flavour) -> BTreeMap<XtTable, Vec<NetworkOp>> {
    let mut tables: BTreeMap<XtTable, Vec<NetworkOp>> = BTreeMap::new();
    for jump in leftovers.jumps.iter().filter(|jump| jump.flavour == flavour) {
        let rule = XtRule::new(XtTarget::Unknown(jump.rule.clone()));
        let op = NetworkOp::DeleteJump { hook: jump.hook, rule };
        tables.entry(jump.table).or_default().push(op);
    }
    let mut chains: Vec<_> = leftovers.chains.iter().filter(|c| c.flavour == flavour).collect();
    // Those that jump to Mappings go before these, also one by one.
    chains.sort_by_key(|chain| (!chain.name.0.starts_with("SNM-"), &chain.name));
    for chain in chains {
        let op = NetworkOp::DeleteChain { chain: chain.name.clone() };
        tables.entry(chain.table).or_default().push(op);
    }
    tables
}

fn remove_sets(leftovers: &Leftovers, removal: &mut Removal) {
    if leftovers.sets.is_empty() {
        return;
    }
    let mut sets = match IpsetClient::open() {
        Ok(sets) => sets,
        Err(error) => return removal.failures.push(error),
    };
    for name in &leftovers.sets {
        removal.note(1, sets.apply(&[NetworkOp::DestroySet { name: name.clone() }]));
    }
}
