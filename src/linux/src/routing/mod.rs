//! Policy routing through rtnetlink: rules and routes of ours, and dumps for the host's view.

mod connection;
mod errno;
mod wire;

#[cfg(test)]
mod wire_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use rtnetlink::packet_route::route::RouteMessage;
use smartnat_core::model::Family;
use smartnat_core::objects::{ObservationScope, Route, RoutingRule};
use smartnat_core::ops::{NetworkOp, OpError, OpErrorClass};

pub(crate) use connection::{Connection, RequestError};
pub(crate) use errno::class_of_errno;
pub(crate) use wire::{
    MAIN_TABLE, NextHop, destination, interface_names, main_routes_filter, next_hops,
    routes_of_table_filter, table_of,
};

/// The routing side of the kernel, in the network namespace of the thread that opened it.
///
/// All calls block; they may be made inside an asynchronous runtime.
#[derive(Debug)]
pub struct Routing {
    connection: Connection,
    operations: u64,
}

impl Routing {
    /// Opens a netlink socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self { connection: Connection::open()?, operations: 0 })
    }

    /// Changes begun so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Rules of ours: our protocol number and a priority in scope.
    pub fn rules(&mut self, scope: &ObservationScope) -> Result<BTreeSet<RoutingRule>, OpError> {
        let priorities = scope.rule_priorities();
        let mut found = BTreeSet::new();
        for family in available_families() {
            let rules = self.connection.rules(family).map_err(observing("rules", family))?;
            found.extend(
                rules
                    .iter()
                    .filter_map(|m| wire::decode_rule(family, m))
                    .filter(|r| priorities.contains(&r.priority)),
            );
        }
        Ok(found)
    }

    /// Routes of ours: our protocol number and a table in scope.
    pub fn routes(&mut self, scope: &ObservationScope) -> Result<BTreeSet<Route>, OpError> {
        let tables = our_tables(scope);
        let names = self.names()?;
        let mut found = BTreeSet::new();
        for family in available_families() {
            let filter = wire::our_routes_filter(family);
            let routes = self.connection.routes(filter).map_err(observing("routes", family))?;
            found.extend(
                routes
                    .iter()
                    .filter(|m| tables.contains(&table_of(m)))
                    .filter_map(|m| wire::decode_route(family, m, &names)),
            );
        }
        Ok(found)
    }

    /// Executes operations in order and stops at the first failure.
    pub fn apply(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        let uses_routes =
            |op: &NetworkOp| matches!(op, NetworkOp::PutRoute(_) | NetworkOp::DeleteRoute(_));
        let names = if ops.iter().any(uses_routes) { self.names()? } else { BTreeMap::default() };
        ops.iter().try_for_each(|op| match op {
            NetworkOp::AddRule(rule) => self.add_rule(rule),
            NetworkOp::DeleteRule(rule) => self.delete_rule(rule),
            NetworkOp::PutRoute(route) => self.put_route(route, &names),
            NetworkOp::DeleteRoute(route) => self.delete_route(route, &names),
            other => Err(OpError::new(
                OpErrorClass::Invalid,
                "transaction of routes and rules",
                format!("holds an operation of another domain: {other:?}"),
            )),
        })
    }

    fn names(&mut self) -> Result<BTreeMap<u32, String>, OpError> {
        let links = self.connection.links().map_err(|e| e.about("list of links"))?;
        Ok(interface_names(&links))
    }

    fn add_rule(&mut self, rule: &RoutingRule) -> Result<(), OpError> {
        self.operations += 1;
        let request = wire::encode_rule(rule);
        self.connection.add_rule(request).map_err(|e| e.about(wire::describe_rule(rule)))
    }

    fn delete_rule(&mut self, rule: &RoutingRule) -> Result<(), OpError> {
        let name = wire::describe_rule(rule);
        // The kernel takes what a request does not mention for a wildcard: a more
        // specific rule would be deleted in the place of one that is not there.
        let rules = self.connection.rules(rule.family).map_err(|e| e.about(&name))?;
        if !rules.iter().any(|m| wire::decode_rule(rule.family, m).as_ref() == Some(rule)) {
            return Err(OpError::new(OpErrorClass::NotFound, name, "no such rule"));
        }
        self.operations += 1;
        self.connection.delete_rule(wire::encode_rule(rule)).map_err(|e| e.about(name))
    }

    fn put_route(&mut self, route: &Route, names: &BTreeMap<u32, String>) -> Result<(), OpError> {
        let request = encode_route(route, names)?;
        self.operations += 1;
        self.connection.put_route(request).map_err(|e| e.about(wire::describe_route(route)))
    }

    fn delete_route(
        &mut self,
        route: &Route,
        names: &BTreeMap<u32, String>,
    ) -> Result<(), OpError> {
        let request = encode_route(route, names)?;
        self.operations += 1;
        self.connection.delete_route(request).map_err(|e| e.about(wire::describe_route(route)))
    }
}

fn encode_route(route: &Route, names: &BTreeMap<u32, String>) -> Result<RouteMessage, OpError> {
    let failure = |class, detail: &str| OpError::new(class, wire::describe_route(route), detail);
    let index = names.iter().find(|(_, name)| **name == route.interface).map(|(i, _)| *i);
    let index = index.ok_or_else(|| {
        failure(OpErrorClass::NotFound, &format!("there is no interface {}", route.interface))
    })?;
    wire::encode_route(route, index).map_err(|detail| failure(OpErrorClass::Invalid, detail))
}

/// Families that the kernel has. IPv6 may be compiled out or switched off at boot.
pub(crate) fn available_families() -> Vec<Family> {
    let has_v6 = std::path::Path::new("/proc/thread-self/net/if_inet6").exists();
    if has_v6 { Family::ALL.to_vec() } else { vec![Family::V4] }
}

fn our_tables(scope: &ObservationScope) -> Range<u32> {
    let first = scope.table_base.saturating_add(1);
    first..first.saturating_add(scope.table_count)
}

fn observing(what: &str, family: Family) -> impl Fn(RequestError) -> OpError {
    move |error| error.about(format!("list of {what} ({family})"))
}
