//! What happens to a kernel other than by our operations: the host's links, addresses and
//! routes, other programs' objects, packets' traces. For tests: what cannot happen, panics.

use std::net::IpAddr;

use smartnat_core::model::{Family, HostRoute, HostState, InterfaceAddress, Link};
use smartnat_core::objects::{
    FlowKey, FlowTuple, ROUTE_PROTOCOL, Route, RoutingRule, SetElement, SetName, SetSpec,
    SysctlKey, XtRule, XtTableId,
};
use smartnat_core::ops::{NftOp, OpError, Transaction};

use super::foreign::{hook_of, user_chain};
use super::nft::Batch;
use super::routing::{HeldRoute, HeldRule, RuleBody, TABLE_MAIN, default_metric};
use super::xtables::{Policy, Staged};
use super::{Actor, SimKernel};

/// `RTPROT_STATIC`, `RTPROT_RA`.
const PROTOCOL_STATIC: u8 = 4;
const PROTOCOL_RA: u8 = 9;
/// `IP6_RT_PRIO_ADDRCONF`.
const METRIC_CONNECTED_V6: u32 = 256;
/// `accept_ra` value with which forwarding does not matter.
const ACCEPT_RA_ALWAYS: &str = "2";

/// The host.
impl SimKernel {
    /// Links, addresses and routes of table main as a host reports them.
    pub fn host(&self) -> HostState {
        let links = self.links.iter().map(|(name, link)| {
            let up = link.up && link.carrier;
            let addresses = link.addresses.clone();
            (name.to_owned(), Link { index: link.index, up, addresses })
        });
        HostState {
            links: links.collect(),
            routes: self.main_routes(),
            families: self.links.families().to_vec(),
        }
    }

    fn main_routes(&self) -> Vec<HostRoute> {
        let connected = self.links.connected().map(|(name, destination)| HostRoute {
            destination,
            gateway: None,
            interface: name.to_owned(),
            metric: match Family::of(&destination.addr()) {
                Family::V4 => 0,
                Family::V6 => METRIC_CONNECTED_V6,
            },
        });
        let added = self
            .routing
            .routes()
            .iter()
            .filter(|r| r.route.table == TABLE_MAIN && r.protocol != ROUTE_PROTOCOL)
            .map(|r| HostRoute {
                destination: r.route.destination,
                gateway: r.route.gateway,
                interface: r.route.interface.clone(),
                metric: r.metric,
            });
        let mut routes: Vec<_> = connected.chain(added).collect();
        routes.sort_by_key(|r| (Family::of(&r.destination.addr()), r.destination, r.metric));
        routes
    }

    /// Which families the kernel has from now on.
    pub fn set_families(&mut self, families: impl IntoIterator<Item = Family>) {
        self.links.set_families(families.into_iter().collect());
    }

    /// A new link, up and with carrier.
    pub fn add_link(&mut self, name: &str) {
        self.links.add(name);
    }

    /// A link goes, with its routes and settings; rules that name it stay.
    pub fn remove_link(&mut self, name: &str) {
        self.links.remove(name);
        self.drop_routes_over(name, None);
        self.sysctls.link_removed(name);
    }

    /// Administratively up or down. Down takes all its routes and its IPv6 addresses away, for good.
    pub fn set_link_up(&mut self, name: &str, up: bool) {
        let link = self.links.link_mut(name);
        link.up = up;
        if !up {
            link.addresses.retain(|a| a.address.addr().is_ipv4());
            self.drop_routes_over(name, None);
        }
    }

    /// Carrier comes or goes. Routes stay (and are marked linkdown).
    pub fn set_carrier(&mut self, name: &str, carrier: bool) {
        self.links.link_mut(name).carrier = carrier;
    }

    /// Adds an address, for example `192.0.2.1/24`; a link-local one gets that scope.
    pub fn add_address(&mut self, name: &str, address: &str) {
        let address: ipnet::IpNet =
            address.parse().unwrap_or_else(|e| panic!("{address:?} is no address: {e}"));
        let link_local = match address.addr() {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let link = self.links.link_mut(name);
        assert!(!link.addresses.iter().any(|a| a.address == address), "{name} has {address}");
        link.addresses.push(InterfaceAddress { address, link_local });
    }

    /// Removes an address. With the last IPv4 one all IPv4 routes over the link go;
    /// for IPv6 the connected route alone.
    pub fn remove_address(&mut self, name: &str, address: IpAddr) {
        let link = self.links.link_mut(name);
        let before = link.addresses.len();
        link.addresses.retain(|a| a.address.addr() != address);
        assert!(link.addresses.len() < before, "{name} does not have {address}");
        let v4_left = link.addresses.iter().any(|a| a.address.addr().is_ipv4());
        if address.is_ipv4() && !v4_left {
            self.drop_routes_over(name, Some(Family::V4));
        }
    }

    /// A route of table main that somebody configured; metric 0 means the kernel's default.
    pub fn add_host_route(&mut self, destination: &str, gateway: Option<&str>, interface: &str) {
        self.insert_main_route(destination, gateway, interface, PROTOCOL_STATIC);
    }

    /// An IPv6 default route by router advertisement.
    pub fn learn_default_route(&mut self, gateway: &str, interface: &str) {
        self.insert_main_route("::/0", Some(gateway), interface, PROTOCOL_RA);
    }

    fn insert_main_route(
        &mut self,
        destination: &str,
        gateway: Option<&str>,
        interface: &str,
        protocol: u8,
    ) {
        assert!(
            self.links.get(interface).is_some_and(|l| l.up),
            "a route needs a link that is up: {interface}"
        );
        let route = Route {
            table: TABLE_MAIN,
            destination: destination
                .parse()
                .unwrap_or_else(|e| panic!("{destination:?} is no network: {e}")),
            gateway: gateway
                .map(|g| g.parse().unwrap_or_else(|e| panic!("{g:?} is no address: {e}"))),
            interface: interface.into(),
            onlink: false,
        };
        let metric = default_metric(route.family());
        let learned = protocol == PROTOCOL_RA;
        self.routing.insert_route(HeldRoute { route, protocol, metric, learned });
    }

    /// Removes the routes of table main to `destination`, whoever configured them.
    pub fn remove_host_route(&mut self, destination: &str) {
        let destination: ipnet::IpNet =
            destination.parse().unwrap_or_else(|e| panic!("{destination:?} is no network: {e}"));
        self.routing
            .drop_routes(|r| r.route.table == TABLE_MAIN && r.route.destination == destination);
    }

    fn drop_routes_over(&mut self, name: &str, family: Option<Family>) {
        self.routing.drop_routes(|r| {
            r.route.interface == name && family.is_none_or(|f| f == r.route.family())
        });
    }

    /// The value of a sysctl; `None` when it does not exist.
    pub fn sysctl(&self, key: &SysctlKey) -> Option<String> {
        self.sysctls.get(&self.links, key)
    }

    /// Writes a sysctl, as an operation of ours or anybody does. Switching IPv6 forwarding on
    /// drops learned default routes, but for links with `accept_ra=2` (`rt6_purge_dflt_routers`).
    pub fn write_sysctl(&mut self, key: &SysctlKey, value: &str) -> Result<(), OpError> {
        let before = self.sysctl(key);
        self.sysctls.write(&self.links, key, value)?;
        let switched_on =
            before.as_deref() == Some("0") && self.sysctl(key).as_deref() != Some("0");
        if *key == SysctlKey::Forwarding(Family::V6) && switched_on {
            let (sysctls, links) = (&self.sysctls, &self.links);
            self.routing.drop_routes(|r| {
                let accepts = SysctlKey::AcceptRouterAdvertisements(r.route.interface.clone());
                r.learned && sysctls.get(links, &accepts).as_deref() != Some(ACCEPT_RA_ALWAYS)
            });
        }
        Ok(())
    }
}

/// Other programs.
impl SimKernel {
    /// The same operations by somebody else: no fault hits them, nothing is logged.
    pub fn interfere(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        self.execute(transaction, Actor::Others, |_, _| Ok(())).1
    }

    fn as_others(
        &mut self,
        table: XtTableId,
        change: impl FnOnce(&mut Staged, &Self) -> Result<(), OpError>,
    ) {
        let mut staged = self.xtables.stage(table, Actor::Others);
        change(&mut staged, self)
            .and_then(|()| self.commit(staged))
            .unwrap_or_else(|e| panic!("not even somebody else can do that: {e}"));
    }

    /// Appends a rule to a chain, built-in or not.
    pub fn foreign_append(&mut self, table: XtTableId, chain: &str, rule: &XtRule) {
        self.as_others(table, |staged, kernel| match hook_of(chain) {
            Some(hook) => staged.insert(hook, usize::MAX, rule, &kernel.sets),
            None => staged.append(&user_chain(chain), rule, &kernel.sets),
        });
    }

    /// Inserts a rule at the head of a built-in chain.
    pub fn foreign_insert(&mut self, table: XtTableId, chain: &str, rule: &XtRule) {
        let hook = hook_of(chain).unwrap_or_else(|| panic!("{chain} is no built-in chain"));
        self.as_others(table, |staged, kernel| staged.insert(hook, 0, rule, &kernel.sets));
    }

    /// Deletes the rules of a chain that `gone` names, for example all of them.
    pub fn foreign_delete_rules(
        &mut self,
        table: XtTableId,
        chain: &str,
        gone: impl Fn(&XtRule) -> bool,
    ) {
        self.as_others(table, |staged, _| {
            staged.drop_rules(chain, gone);
            Ok(())
        });
    }

    /// Sets the policy of a built-in chain.
    pub fn foreign_policy(&mut self, table: XtTableId, chain: &str, policy: Policy) {
        let hook = hook_of(chain).unwrap_or_else(|| panic!("{chain} is no built-in chain"));
        self.as_others(table, |staged, _| staged.set_policy(hook, policy));
    }

    /// Creates a set with elements.
    pub fn foreign_set(&mut self, name: &str, spec: SetSpec, elements: &[SetElement]) {
        let name = SetName(name.into());
        let filled = self.sets.create(&name, &spec).and_then(|()| {
            elements.iter().try_for_each(|element| self.sets.add(&name, *element, self.now))
        });
        filled.unwrap_or_else(|e| panic!("not even somebody else can do that: {e}"));
    }

    /// Changes a table of family inet of nftables, which may be none of ours.
    pub fn foreign_nft(&mut self, table: &str, ops: &[NftOp]) {
        let mut batch = Batch::on(table);
        let outcome = ops.iter().try_for_each(|op| self.nft.apply(op, self.now, &mut batch));
        self.commit_nft(batch, outcome)
            .unwrap_or_else(|e| panic!("not even somebody else can do that: {e}"));
    }

    /// Adds a rule of policy routing with another protocol number than ours.
    pub fn foreign_rule(&mut self, rule: RoutingRule, protocol: u8) {
        self.routing.insert_rule(HeldRule::known(rule, protocol));
    }

    /// Adds a rule that the simulation does not understand, as `ip rule` prints it.
    pub fn foreign_opaque_rule(&mut self, family: Family, priority: u32, text: &str) {
        let body = RuleBody::Opaque(text.into());
        self.routing.insert_rule(HeldRule { family, priority, protocol: 0, body });
    }

    /// Deletes rules of policy routing, ours or not.
    pub fn foreign_delete_routing_rules(&mut self, gone: impl Fn(&HeldRule) -> bool) {
        self.routing.drop_rules(gone);
    }

    /// Adds a route of a table other than main with another protocol number than ours.
    pub fn foreign_route(&mut self, route: Route, protocol: u8) {
        let metric = default_metric(route.family());
        self.routing.insert_route(HeldRoute { route, protocol, metric, learned: false });
    }

    /// Deletes routes, ours or not.
    pub fn foreign_delete_routes(&mut self, gone: impl Fn(&HeldRoute) -> bool) {
        self.routing.drop_routes(gone);
    }

    /// Forgets all connections, as `conntrack -F` does.
    pub fn forget_connections(&mut self) {
        self.conntrack = super::Conntrack::default();
    }

    /// A conntrack entry, as a packet makes one.
    pub fn add_flow(&mut self, original: FlowTuple, reply: FlowTuple, mark: u32) -> FlowKey {
        self.conntrack.add(original, reply, mark)
    }
}
