//! A gateway with two uplinks on a host that others use too, and what tests ask of it.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod walk;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use smartnat_core::compile::sysctl_scope;
use smartnat_core::gateway::{Event, EventKind, Gateway, Input, Output};
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{
    Backend, ClusterObject, ClusterState, Family, GatewayConfig, PortRange, Protocol,
};
use smartnat_core::objects::nft::{NFT_TABLE, NftChain};
use smartnat_core::objects::{
    BuiltinHook, ChainName, KernelState, ObservationScope, Route, RoutingRule, RuleAction,
    SetElement, SetKind, SetSpec, SysctlKey, XtMatch, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, NftOp, Transaction};
use smartnat_sim::kernel::{ForeignObjects, OpKind, OpMatcher, Policy, XtFlavour};
use smartnat_sim::scenario::{MappingBuilder, mapping, service};
use smartnat_sim::{Driver, SimKernel};

/// First external address, on `ext1`.
pub(crate) const EXT1: &str = "203.0.113.10";
/// Second address of `ext1`.
pub(crate) const EXT1_B: &str = "203.0.113.11";
/// IPv6 address of `ext1`.
pub(crate) const EXT1_V6: &str = "2001:db8:1::10";
/// Address of `ext2`.
pub(crate) const EXT2: &str = "198.51.100.10";
/// IPv6 address of `ext2`.
pub(crate) const EXT2_V6: &str = "2001:db8:2::10";

thread_local! {
    /// The backend of [`config`] in the test of this thread.
    static BACKEND: Cell<Backend> = const { Cell::new(Backend::Iptables) };
}

/// Runs a test once with each backend.
pub(crate) fn on_both_backends(test: impl Fn()) {
    for backend in [Backend::Iptables, Backend::Nftables] {
        // Shown where the test fails.
        println!("with {backend:?}");
        on_backend(backend, &test);
    }
}

/// Runs a test with nftables alone.
pub(crate) fn on_nftables(test: impl FnOnce()) {
    on_backend(Backend::Nftables, test);
}

/// Runs a test with this backend.
pub(crate) fn on_backend<R>(backend: Backend, test: impl FnOnce() -> R) -> R {
    BACKEND.set(backend);
    test()
}

/// The backend of [`config`].
pub(crate) fn backend() -> Backend {
    BACKEND.get()
}

/// Every operation that changes chains or what they look into; with nftables all are of one sort.
pub(crate) fn of_chains(kind: OpKind) -> OpMatcher {
    OpMatcher::kind(if backend() == Backend::Nftables { OpKind::Nft } else { kind })
}

/// Somebody else empties a chain of ours that every new connection comes to.
pub(crate) fn flush_by_others(kernel: &mut SimKernel) {
    if backend() == Backend::Nftables {
        let flushed = NftOp::PutChain { name: "services".into(), chain: NftChain::default() };
        kernel.foreign_nft(NFT_TABLE, &[flushed]);
    } else {
        kernel.foreign_delete_rules(tables(XtTable::Nat)[0], "SMARTNAT-DNAT", |_| true);
    }
}

/// Uplinks are `ext1`, `ext2`, …; everything else as by default.
pub(crate) fn config() -> GatewayConfig {
    GatewayConfig {
        uplink_pattern: "ext[0-9]+".into(),
        backend: backend(),
        ..GatewayConfig::default()
    }
}

/// Two uplinks of both families and a cluster side with the default route; nothing of others.
pub(crate) fn bare_kernel(flavour: XtFlavour) -> SimKernel {
    let mut kernel = SimKernel::new(flavour);
    for (name, addresses) in [
        ("ext1", &["203.0.113.10/24", "203.0.113.11/24", "2001:db8:1::10/64"][..]),
        ("ext2", &["198.51.100.10/24", "2001:db8:2::10/64"]),
        ("int0", &["10.0.0.2/24", "fd00::2/64"]),
    ] {
        kernel.add_link(name);
        for address in addresses {
            kernel.add_address(name, address);
        }
    }
    kernel.add_host_route("0.0.0.0/0", Some("10.0.0.1"), "int0");
    kernel.add_host_route("::/0", Some("fd00::1"), "int0");
    kernel
}

/// The same with chains, rules, sets, routing rules, routes and sysctls of others.
pub(crate) fn kernel(flavour: XtFlavour) -> SimKernel {
    let mut kernel = bare_kernel(flavour);
    let filter = |family| XtTableId { family, table: XtTable::Filter };
    let nat = XtTableId { family: Family::V4, table: XtTable::Nat };
    kernel
        .interfere(&Transaction {
            domain: Domain::Xtables(nat),
            ops: vec![NetworkOp::PutChain {
                chain: ChainName("KUBE-SERVICES".into()),
                rules: Vec::new(),
            }],
        })
        .expect("others may have chains");
    let to_kube = XtRule::new(XtTarget::Jump(ChainName("KUBE-SERVICES".into())));
    kernel.foreign_append(nat, "PREROUTING", &to_kube);
    kernel.foreign_append(nat, "POSTROUTING", &XtRule::new(XtTarget::Masquerade));
    kernel.foreign_policy(filter(Family::V4), "FORWARD", Policy::Drop);
    kernel.foreign_append(filter(Family::V6), "INPUT", &XtRule::new(XtTarget::Accept));
    let spec =
        SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 100 };
    kernel.foreign_set("others", spec, &[SetElement::Ip(ip("192.0.2.1"))]);
    kernel.foreign_rule(lookup(Family::V4, 100, 100), 4);
    // One of our priorities, but not ours.
    kernel.foreign_rule(lookup(Family::V4, 20_001, 100), 4);
    kernel.foreign_route(
        Route {
            table: 100,
            destination: net("192.0.2.0/24"),
            gateway: Some(ip("10.0.0.9")),
            interface: "int0".into(),
            onlink: false,
        },
        4,
    );
    kernel
        .write_sysctl(&SysctlKey::ReversePathFilter("ext1".into()), "1")
        .expect("the link exists");
    kernel
}

/// `ip rule … lookup TABLE` without a condition.
pub(crate) fn lookup(family: Family, priority: u32, table: u32) -> RoutingRule {
    RoutingRule {
        family,
        priority,
        in_interface: None,
        mark: None,
        destination: None,
        action: RuleAction::Lookup { table, suppress_prefix: None },
    }
}

/// Mappings of every sort: a range, sources, affinity, egress, both uplinks, both families.
pub(crate) fn objects() -> Vec<ClusterObject> {
    let echo = service("echo")
        .port("http", Protocol::Tcp, 80, 8080)
        .port("", Protocol::Udp, 5000, 6000)
        .ready("10.1.0.7")
        .ready("10.1.0.8")
        .ready("fd01::7");
    let sticky = service("sticky")
        .port("", Protocol::Tcp, 443, 443)
        .affinity(60)
        .ready("10.1.0.9")
        .ready("10.1.0.10");
    let exit = service("exit").port("", Protocol::Tcp, 25, 25).ready("10.1.0.20").ready("fd01::20");
    let mappings = [
        mapping("echo")
            .created(1)
            .address(EXT1)
            .address(EXT1_V6)
            .source("192.0.2.0/24")
            .source("2001:db8:c::/48")
            .port(Protocol::Tcp, 8080, None, Some("http"))
            .port(Protocol::Udp, 5000, Some(5010), None),
        mapping("sticky").created(2).address(EXT2).tcp(443),
        mapping("exit")
            .created(3)
            .address(EXT2)
            .address(EXT2_V6)
            .tcp(25)
            .egress(true)
            .masquerade(false),
    ];
    [echo.build(), sticky.build(), exit.build(), mappings.map(MappingBuilder::build).to_vec()]
        .concat()
}

/// A gateway that has taken in `objects` on `kernel`.
pub(crate) fn started_on(kernel: SimKernel, objects: Vec<ClusterObject>) -> Driver {
    let mut driver = Driver::new(config(), kernel);
    driver.start(objects);
    driver
}

/// A gateway in sync with [`objects`] on [`kernel`], with an empty log and no events.
pub(crate) fn settled(flavour: XtFlavour) -> Driver {
    let mut driver = started_on(kernel(flavour), objects());
    assert_in_sync(&driver);
    driver.kernel.take_log();
    driver.take_events();
    driver
}

/// Fails with the log unless the gateway reports that all is as wanted.
#[track_caller]
pub(crate) fn assert_in_sync(driver: &Driver) {
    assert!(driver.status().is_some_and(|s| s.in_sync), "{}", report(driver));
}

/// What a failing test shows of a gateway.
pub(crate) fn report(driver: &Driver) -> String {
    let degraded = driver.status().map(|s| s.degraded.clone());
    let mut log = String::new();
    for record in driver.kernel.log() {
        let _ = writeln!(log, "  {:?}\n    {}", record.outcome, record.ops.join("\n    "));
    }
    format!("degraded: {degraded:?}\nevents: {:?}\n{log}", driver.events())
}

/// What an observation of this gateway covers.
pub(crate) fn scope(kernel: &SimKernel) -> ObservationScope {
    let config = config();
    ObservationScope {
        table_base: config.table_base,
        table_count: MarkLayout::new(config.mark_mask).max_uplinks(),
        rule_priority: config.rule_priority,
        sysctls: sysctl_scope(&kernel.host(), &config),
        netfilter: smartnat_core::objects::Netfilter::All,
    }
}

/// Everything of ours in the kernel.
pub(crate) fn held(kernel: &SimKernel) -> KernelState {
    let scope = scope(kernel);
    let mut reader = kernel.clone();
    reader.recover();
    reader.clear_faults();
    reader.observe(&scope).expect("no fault is injected")
}

/// Somebody deletes rules of ours that every packet meets.
pub(crate) fn spoil(kernel: &mut SimKernel) {
    if backend() == Backend::Iptables {
        let nat = XtTableId { family: Family::V4, table: XtTable::Nat };
        kernel.foreign_delete_rules(nat, "SMARTNAT-DNAT", |_| true);
        return;
    }
    let chains = held(kernel).nft.expect("our table").chains;
    let (name, chain) = chains.iter().find(|(_, c)| c.base.is_some()).expect("a base chain");
    let chain = NftChain { base: chain.base, rules: Vec::new() };
    kernel.foreign_nft(NFT_TABLE, &[NftOp::PutChain { name: name.clone(), chain }]);
}

/// What clean-up must leave as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    foreign: ForeignObjects,
    sysctls: BTreeMap<SysctlKey, Option<String>>,
}

impl Surroundings {
    /// As they are now.
    pub(crate) fn of(kernel: &SimKernel) -> Self {
        let keys = scope(kernel).sysctls.into_iter();
        Self {
            foreign: kernel.foreign(),
            sysctls: keys.map(|key| (key.clone(), kernel.sysctl(&key))).collect(),
        }
    }
}

/// Fails unless nothing of ours is left and the rest is as `before`.
#[track_caller]
pub(crate) fn assert_clean(kernel: &SimKernel, before: &Surroundings) {
    let left = held(kernel);
    let (sysctls, contested) = Default::default();
    let ours = KernelState { sysctls, contested, ..left.clone() };
    assert_eq!(ours, KernelState::default(), "P10: something of ours is left");
    let recorded: Vec<_> = left.sysctls.iter().filter(|(_, s)| s.original.is_some()).collect();
    assert!(recorded.is_empty(), "P10: values before ours are still recorded: {recorded:?}");
    assert_eq!(Surroundings::of(kernel), *before, "T16: the surroundings are not restored");
}

/// How many events of a kind there were.
pub(crate) fn count(events: &[Event], kind: EventKind) -> usize {
    events.iter().filter(|e| e.kind == kind).count()
}

/// All operations in the kernel's log, as the log names them.
pub(crate) fn logged(driver: &Driver) -> Vec<String> {
    driver.kernel.log().iter().flat_map(|r| r.ops.iter().cloned()).collect()
}

/// One answer of the kernel to one request of the gateway; `None` when there is nothing to do.
/// Transactions that are not atomic are applied one operation at a time, with `between` after each.
pub(crate) fn step(
    gateway: &mut Gateway,
    kernel: &mut SimKernel,
    between: impl FnMut(&SimKernel),
) -> Option<Output> {
    let output = gateway.poll_output()?;
    answer(gateway, kernel, &output, between);
    Some(output)
}

/// Does what the gateway asks for.
pub(crate) fn answer(
    gateway: &mut Gateway,
    kernel: &mut SimKernel,
    output: &Output,
    mut between: impl FnMut(&SimKernel),
) {
    let now = kernel.now();
    let input = match output {
        Output::Observe(scope) => Input::Observed(kernel.observe(scope).map(Box::new)),
        Output::Apply(transaction) => {
            Input::Applied(apply_slowly(kernel, transaction, &mut between))
        }
        Output::ListFlows(filter) => Input::Flows(kernel.flows(filter)),
        Output::Status(_) | Output::Event(_) => return,
    };
    gateway.handle_input(now, input);
}

fn apply_slowly(
    kernel: &mut SimKernel,
    transaction: &Transaction,
    between: &mut impl FnMut(&SimKernel),
) -> Result<(), smartnat_core::ops::OpError> {
    if matches!(transaction.domain, Domain::Xtables(_) | Domain::Nftables) {
        let outcome = kernel.apply(transaction);
        between(kernel);
        return outcome;
    }
    for op in &transaction.ops {
        kernel.apply(&Transaction { domain: transaction.domain, ops: vec![op.clone()] })?;
        between(kernel);
    }
    Ok(())
}

/// Steps until there is nothing to do, and returns what was asked for.
pub(crate) fn run(
    gateway: &mut Gateway,
    kernel: &mut SimKernel,
    mut between: impl FnMut(&SimKernel),
) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(output) = step(gateway, kernel, &mut between) {
        outputs.push(output);
        assert!(outputs.len() < 10_000, "the gateway does not come to rest");
    }
    outputs
}

/// The fold of changes.
pub(crate) fn cluster(objects: &[ClusterObject]) -> ClusterState {
    let mut state = ClusterState::default();
    objects.iter().cloned().for_each(|object| state.update(object));
    state
}

/// A rule that is none of ours in a chain of ours, or anywhere.
pub(crate) fn stray_rule() -> XtRule {
    XtRule::new(XtTarget::Accept).with(XtMatch::Comment("stray".into()))
}

/// Each family's table.
pub(crate) fn tables(table: XtTable) -> [XtTableId; 2] {
    Family::ALL.map(|family| XtTableId { family, table })
}

/// Hooks at which others' rules in front of ours are no drift.
pub(crate) const HOOKS: [BuiltinHook; 5] = BuiltinHook::ALL;

/// An address.
pub(crate) fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("a test's address parses")
}

/// A network.
pub(crate) fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a test's network parses")
}

/// A port.
pub(crate) fn port(number: u16) -> PortRange {
    PortRange::single(number).expect("a test's port is not 0")
}
