//! Histories: what happens to a gateway, its cluster and its host, and what must hold afterwards.

use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use smartnat_core::compile::{Compiled, adopt_numbers, compile};
use smartnat_core::flows::Permissions;
use smartnat_core::gateway::EventKind;
use smartnat_core::lint::lint;
use smartnat_core::lower::lower;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{ClusterObject, Family};
use smartnat_core::objects::{
    FlowKey, FlowTuple, KernelState, Layer4, ROUTE_PROTOCOL, SetElement, XtTableId,
};
use smartnat_core::ops::{Domain, NetworkOp, OpErrorClass, Transaction};
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{without_mapping, without_service};
use smartnat_sim::{Driver, SimKernel};

use crate::common::walk::Fate;
use crate::common::*;
use crate::oracle;
use crate::world::{MAPPINGS, SERVICES, a_mapping, a_service};

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Objects of the cluster change.
    Cluster(Vec<ClusterObject>),
    /// A link goes down or up, with its IPv6 addresses.
    Flap(&'static str),
    /// An address comes or goes.
    Address(&'static str, &'static str),
    /// A link comes or goes.
    Link(&'static str),
    /// Others change what is ours.
    Interfere(Interference, Index),
    /// A client connects, if it is let in.
    Connect(Index),
    /// The n-th operation from now fails.
    Fail(u64, OpErrorClass),
    /// So many reads fail.
    FailReads(usize),
    /// The program dies after so many operations.
    Crash(u64),
    /// It starts anew.
    Restart,
    /// The kernel tells of changes.
    Notify,
    /// Time passes.
    Wait(u64),
}

/// How others change what is ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interference {
    FlushChain,
    AppendRule,
    DeleteJumps,
    DeleteRules,
    DeleteRoutes,
    DeleteElement,
}

const LINKS: [(&str, &[&str]); 3] = [
    ("ext1", &["203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64"]),
    ("ext2", &["198.51.100.10/24", "2001:db8:2::10/64"]),
    ("ext3", &["203.0.113.30/24"]),
];

pub(crate) fn steps(number: Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let class = select(vec![
        OpErrorClass::NotFound,
        OpErrorClass::Exists,
        OpErrorClass::Busy,
        OpErrorClass::Invalid,
        OpErrorClass::Transient,
    ]);
    let interference = select(vec![
        Interference::FlushChain,
        Interference::AppendRule,
        Interference::DeleteJumps,
        Interference::DeleteRules,
        Interference::DeleteRoutes,
        Interference::DeleteElement,
    ]);
    let address = select(
        LINKS
            .iter()
            .flat_map(|(link, addresses)| addresses.iter().map(move |a| (*link, *a)))
            .collect::<Vec<_>>(),
    );
    let link = || select(LINKS.map(|(name, _)| name).to_vec());
    let step = prop_oneof![
        6 => a_mapping().prop_map(|m| Step::Cluster(vec![m])),
        6 => a_service().prop_map(Step::Cluster),
        1 => (0..MAPPINGS).prop_map(|n| Step::Cluster(vec![without_mapping(&format!("m{n}"))])),
        1 => (0..SERVICES).prop_map(|n| Step::Cluster(without_service(&format!("s{n}")))),
        1 => link().prop_map(Step::Flap),
        1 => address.prop_map(|(link, address)| Step::Address(link, address)),
        1 => link().prop_map(Step::Link),
        2 => (interference, any::<Index>()).prop_map(|(what, at)| Step::Interfere(what, at)),
        4 => any::<Index>().prop_map(Step::Connect),
        2 => (1..30_u64, class).prop_map(|(n, class)| Step::Fail(n, class)),
        1 => (1..3_usize).prop_map(Step::FailReads),
        2 => (0..40_u64).prop_map(Step::Crash),
        1 => Just(Step::Restart),
        2 => Just(Step::Notify),
        2 => (1..9_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, number)
}

/// A connection that was let in.
struct Connection {
    key: FlowKey,
    /// The snapshots since have all permitted it.
    permitted_ever_since: bool,
}

/// A gateway with its cluster, and the same host without a gateway.
pub(crate) struct World {
    driver: Driver,
    /// Undergoes what happens to the host, but no gateway.
    untouched: SimKernel,
    /// All objects in the order in which they came.
    objects: Vec<ClusterObject>,
    connections: Vec<Connection>,
}

impl World {
    pub(crate) fn new() -> Self {
        let kernel = kernel(XtFlavour::Nft);
        Self {
            driver: started_on(kernel.clone(), Vec::new()),
            untouched: kernel,
            objects: Vec::new(),
            connections: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Cluster(objects) => {
                self.objects.extend(objects.iter().cloned());
                self.driver.cluster(objects.clone());
            }
            Step::Flap(link) => self.on_host(|kernel| flap(kernel, link)),
            Step::Address(link, address) => self.on_host(|kernel| toggle(kernel, link, address)),
            Step::Link(link) => self.on_host(|kernel| plug(kernel, link)),
            Step::Interfere(what, at) => interfere(&mut self.driver.kernel, *what, *at),
            Step::Connect(at) => self.connect(*at),
            Step::Fail(n, class) => self.driver.kernel.fail_nth(*n, *class),
            Step::FailReads(times) => {
                self.driver.kernel.fail_reads(*times, OpErrorClass::Transient);
            }
            Step::Crash(n) => self.driver.kernel.crash_after(*n),
            Step::Restart => self.driver.restart(config(), self.objects.clone()),
            Step::Notify => self.driver.kernel_changed(),
            Step::Wait(millis) => self.driver.advance(*millis),
        }
        self.judge();
    }

    fn on_host(&mut self, change: impl Fn(&mut SimKernel)) {
        change(&mut self.driver.kernel);
        change(&mut self.untouched);
        self.driver.host_changed();
    }

    /// Opens a connection to where the kernel sends it now.
    fn connect(&mut self, at: Index) {
        let kernel = &mut self.driver.kernel;
        let all = oracle::all_fates(kernel);
        let open: Vec<_> = all
            .into_iter()
            .flat_map(|(probe, fates)| fates.into_iter().map(move |fate| (probe, fate)))
            .filter_map(|(probe, fate)| match fate {
                Fate::Endpoint(endpoint) => Some((probe, endpoint)),
                _ => None,
            })
            .collect();
        if open.is_empty() {
            return;
        }
        let ((client, address, protocol, port), endpoint) = open[at.index(open.len())];
        let marks = MarkLayout::new(config().mark_mask);
        let number = u16::try_from(40_000 + self.connections.len()).expect("a few connections");
        let tuple = |source, from, destination, to| FlowTuple {
            source,
            destination,
            protocol: protocol.number(),
            layer4: Layer4::Ports { source: from, destination: to },
        };
        let key = kernel.add_flow(
            tuple(client, number, address, port),
            tuple(endpoint.address, endpoint.port, client, number),
            marks.ours | marks.uplink_mark(1),
        );
        self.connections.push(Connection { key, permitted_ever_since: true });
    }

    fn compiled(&self) -> Compiled {
        let observed = held(&self.driver.kernel);
        let numbers = adopt_numbers(&observed, &config());
        let host = self.driver.kernel.host();
        compile(&cluster(&self.objects), &host, &config(), &numbers, &observed)
    }

    /// Notes which connections the snapshot of now does not permit.
    fn judge(&mut self) {
        let compiled = self.compiled();
        let permissions = Permissions::new(&compiled.dataplane);
        let flows: Vec<_> = self.driver.kernel.conntrack().iter().copied().collect();
        for connection in &mut self.connections {
            let flow = flows.iter().find(|f| f.key == connection.key);
            connection.permitted_ever_since &= flow.is_some_and(|f| permissions.permits(f))
                || (flow.is_none() && !connection.permitted_ever_since);
            if flow.is_none() {
                assert!(!connection.permitted_ever_since, "T10: {:?} ended", connection.key);
            }
        }
    }

    pub(crate) fn forget_cluster(&mut self) {
        self.objects.clear();
        self.driver.restart(config(), Vec::new());
    }

    /// The faults stop (P14).
    pub(crate) fn come_to_rest(&mut self) {
        self.driver.kernel.clear_faults();
        if self.driver.kernel.is_crashed() {
            self.driver.restart(config(), self.objects.clone());
        } else {
            self.driver.kernel.recover();
        }
        self.driver.advance(40_000);
    }

    pub(crate) fn assert_as_asked(&self) {
        let compiled = self.compiled();
        assert!(lint(&compiled.dataplane).is_empty());
        let wanted = lower(&compiled.dataplane);
        let observed = held(&self.driver.kernel);
        assert_eq!(observed.sets, wanted.sets, "{}", report(&self.driver));
        assert_eq!(observed.rules, wanted.rules, "{}", report(&self.driver));
        assert_eq!(observed.routes, wanted.routes, "{}", report(&self.driver));
        let tables: Vec<&XtTableId> =
            observed.xtables.iter().filter(|(_, t)| !t.is_empty()).map(|(id, _)| id).collect();
        assert_eq!(tables, wanted.xtables.keys().collect::<Vec<_>>());
        for (id, table) in &wanted.xtables {
            assert_eq!(observed.xtables[id].chains, table.chains, "{}", report(&self.driver));
            assert_eq!(observed.xtables[id].jumps, table.jumps, "{}", report(&self.driver));
        }
        for (key, value) in &wanted.sysctls {
            assert_eq!(&observed.sysctls[key].value, value, "{key}");
        }
        let status = self.driver.status().expect("a status");
        assert_eq!(status.degraded, compiled.warnings, "{}", report(&self.driver));
    }

    /// P6.
    pub(crate) fn assert_quiet(&mut self) {
        self.driver.kernel.take_log();
        self.driver.take_events();
        self.driver.kernel_changed();
        self.driver.host_changed();
        self.driver.advance(20_000);
        let objects = self.objects.clone();
        self.driver.restart(config(), objects);
        assert!(self.driver.kernel.log().is_empty(), "{}", report(&self.driver));
    }

    /// T10: what is left is permitted, and what was permitted all along is left.
    pub(crate) fn assert_connections(&self) {
        let compiled = self.compiled();
        let permissions = Permissions::new(&compiled.dataplane);
        let flows: Vec<_> = self.driver.kernel.conntrack().iter().collect();
        for flow in &flows {
            assert!(permissions.permits(flow), "{flow:?} lives on");
        }
        for connection in self.connections.iter().filter(|c| c.permitted_ever_since) {
            assert!(flows.iter().any(|f| f.key == connection.key), "{:?} ended", connection.key);
        }
    }

    /// P1, P2.
    pub(crate) fn assert_fates(&self) {
        let compiled = self.compiled();
        let external = oracle::external(&self.driver.kernel.host());
        for (probe, fates) in oracle::all_fates(&self.driver.kernel) {
            assert_eq!(fates, oracle::expected(&compiled, &external, probe), "{probe:?}");
        }
    }

    pub(crate) fn assert_foreign_untouched(&self) {
        assert_eq!(self.driver.kernel.foreign(), self.untouched.foreign(), "P11");
        assert!(
            self.driver.kernel.trespasses().is_empty(),
            "{:?}",
            self.driver.kernel.trespasses()
        );
    }

    /// By a program of its own, which knows nothing.
    pub(crate) fn clean_up(&mut self) {
        self.driver.kernel.clear_faults();
        self.driver.kernel.recover();
        self.driver = Driver::new(config(), self.driver.kernel.clone());
        self.driver.clean_up();
        assert_eq!(
            count(self.driver.events(), EventKind::CleanedUp),
            1,
            "{}",
            report(&self.driver)
        );
    }

    pub(crate) fn assert_gone(&self) {
        assert_clean(&self.driver.kernel, &Surroundings::of(&self.untouched));
        assert!(self.driver.kernel.conntrack().is_empty());
    }
}

fn flap(kernel: &mut SimKernel, name: &str) {
    let Some(link) = kernel.links().get(name) else { return };
    let up = !link.up;
    kernel.set_link_up(name, up);
    if up {
        for address in addresses_of(name).filter(|a| net(a).addr().is_ipv6()) {
            kernel.add_address(name, address);
        }
    }
}

fn toggle(kernel: &mut SimKernel, name: &str, address: &str) {
    let Some(link) = kernel.links().get(name) else { return };
    let v6 = net(address).addr().is_ipv6();
    if link.addresses.iter().any(|a| a.address == net(address)) {
        kernel.remove_address(name, net(address).addr());
    } else if link.up || !v6 {
        kernel.add_address(name, address);
    }
}

fn plug(kernel: &mut SimKernel, name: &str) {
    if kernel.links().get(name).is_some() {
        kernel.remove_link(name);
        return;
    }
    kernel.add_link(name);
    for address in addresses_of(name) {
        kernel.add_address(name, address);
    }
}

fn addresses_of(name: &str) -> impl Iterator<Item = &'static str> {
    let found = LINKS.iter().find(|(link, _)| *link == name);
    found.into_iter().flat_map(|(_, addresses)| addresses.iter().copied())
}

fn interfere(kernel: &mut SimKernel, what: Interference, at: Index) {
    let KernelState { xtables, sets, .. } = held(kernel);
    let chains: Vec<_> = xtables
        .iter()
        .flat_map(|(id, table)| table.chains.keys().map(move |chain| (*id, chain.0.clone())))
        .collect();
    match what {
        Interference::FlushChain | Interference::AppendRule if chains.is_empty() => {}
        Interference::FlushChain => {
            let (id, chain) = &chains[at.index(chains.len())];
            kernel.foreign_delete_rules(*id, chain, |_| true);
        }
        Interference::AppendRule => {
            let (id, chain) = &chains[at.index(chains.len())];
            kernel.foreign_append(*id, chain, &stray_rule());
        }
        Interference::DeleteJumps => {
            for (id, table) in &xtables {
                for hook in table.jumps.keys() {
                    kernel.foreign_delete_rules(*id, hook.name(), |rule| {
                        rule.jump_target().is_some_and(|t| t.0.starts_with("SMARTNAT-"))
                    });
                }
            }
        }
        Interference::DeleteRules => {
            let family = Family::ALL[at.index(2)];
            kernel.foreign_delete_routing_rules(|r| {
                r.protocol == ROUTE_PROTOCOL && r.family == family
            });
        }
        Interference::DeleteRoutes => {
            kernel.foreign_delete_routes(|r| r.protocol == ROUTE_PROTOCOL);
        }
        Interference::DeleteElement => {
            let elements: Vec<(_, SetElement)> = sets
                .iter()
                .flat_map(|(name, set)| set.elements.iter().map(move |e| (name.clone(), *e)))
                .collect();
            if let Some((set, element)) = elements.get(at.index(elements.len().max(1))) {
                let op = NetworkOp::DeleteElement { set: set.clone(), element: *element };
                let by_others = Transaction { domain: Domain::Sets, ops: vec![op] };
                kernel.interfere(&by_others).expect("the set is there");
            }
        }
    }
}
