//! Hosts in all circumstances, and the scene of an explanation on one.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;
use smartnat_core::compile::adopt_numbers;
use smartnat_core::explain::{Foreign, Scene};
use smartnat_core::model::{Backend, ClusterObject, Family, GatewayConfig, Protocol};
use smartnat_core::objects::{
    BuiltinHook, ChainName, ConnectionStates, InterfaceMatch, L4Match, SysctlKey, XtMatch, XtRule,
    XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_core::xtables_text::{parse_save, render_rule};
use smartnat_sim::kernel::{Policy, XtFlavour};
use smartnat_sim::{Driver, SimKernel};

use crate::common::*;

/// A chain of others, in table filter.
const THEIRS: &str = "THEIRS";

/// What else is so on a host.
#[allow(clippy::struct_excessive_bools, reason = "independent circumstances")]
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    masquerade: bool,
    guard: bool,
    /// Beyond the IPv4 subnets: no gateway; negative: none of IPv6.
    gateway_offset: i32,
    link_down: Option<(&'static str, bool)>,
    forwards_before: bool,
    /// `int0` is an uplink too, of the default route.
    one_for_everything: bool,
    default_route: bool,
    policy: Option<(Family, BuiltinHook)>,
    rules: Vec<ForeignRule>,
}

/// A rule of others.
#[derive(Clone, Debug)]
struct ForeignRule {
    family: Family,
    table: XtTable,
    hook: BuiltinHook,
    /// Before ours, after ours, or in a chain of theirs that is jumped to before ours.
    place: Place,
    rule: XtRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    After,
    Chain,
}

fn a_rule() -> impl Strategy<Value = ForeignRule> {
    let hooks = select(vec![
        (XtTable::Filter, BuiltinHook::Forward),
        (XtTable::Filter, BuiltinHook::Forward),
        (XtTable::Filter, BuiltinHook::Input),
        (XtTable::Mangle, BuiltinHook::Forward),
        (XtTable::Mangle, BuiltinHook::Prerouting),
    ]);
    let v4 = ["192.0.2.0/24", "192.0.2.5/32", "10.1.0.0/31", "10.1.0.8/32", "203.0.113.0/24"];
    let v6 = ["2001:db8:c::/48", "fd01::/16", "fd01::2/128", "2001:db8:1::/64"];
    let interfaces = select(vec!["ext1", "ext2", "int0"]);
    let ports = select(vec![80, 8080, 6000, 40_000]);
    let states = select(vec![(true, false), (false, true), (true, true)]);
    (
        (
            any::<bool>(),
            hooks,
            select(vec![Place::Before, Place::Before, Place::After, Place::Chain]),
        ),
        proptest::option::weighted(0.4, (select(v4.to_vec()), select(v6.to_vec()))),
        proptest::option::weighted(0.3, (select(v4.to_vec()), select(v6.to_vec()))),
        proptest::option::weighted(0.3, (interfaces.clone(), any::<bool>())),
        proptest::option::weighted(0.3, interfaces),
        proptest::option::weighted(0.4, (select(Protocol::ALL.to_vec()), ports)),
        proptest::option::weighted(0.3, states),
        select(vec![XtTarget::Drop, XtTarget::Drop, XtTarget::Accept, XtTarget::Return]),
    )
        .prop_map(
            |(
                (is_v4, (table, hook), place),
                source,
                destination,
                input,
                output,
                l4,
                states,
                target,
            )| {
                let family = if is_v4 { Family::V4 } else { Family::V6 };
                let of_family = |(v4, v6): (&str, &str)| net(if is_v4 { v4 } else { v6 });
                // Before our marks and drops an ACCEPT takes a packet past them; explain calls that a perhaps.
                let passes_ours = table == XtTable::Mangle && place != Place::After;
                let mut rule = XtRule::new(if passes_ours { XtTarget::Drop } else { target });
                rule.source = source.map(of_family);
                rule.destination = destination.map(of_family);
                rule.in_interface =
                    input.map(|(name, negated)| InterfaceMatch { name: name.into(), negated });
                if hook == BuiltinHook::Forward {
                    rule.out_interface =
                        output.map(|name| InterfaceMatch { name: name.into(), negated: false });
                }
                if let Some((protocol, number)) = l4 {
                    rule.protocol = Some(L4Match::Transport(protocol));
                    rule.matches.push(XtMatch::DestinationPorts(vec![port(number)]));
                }
                if let Some((new, established)) = states {
                    let states = ConnectionStates { new, established, ..Default::default() };
                    rule.matches.push(XtMatch::State { states, negated: false });
                }
                ForeignRule { family, table, hook, place, rule }
            },
        )
}

pub(crate) fn circumstances() -> impl Strategy<Value = Circumstances> {
    let links = select(vec![
        ("ext1", true),
        ("ext1", false),
        ("ext2", true),
        ("ext2", false),
        ("int0", true),
    ]);
    let hooks = select(vec![BuiltinHook::Forward, BuiltinHook::Forward, BuiltinHook::Input]);
    let policy = (select(Family::ALL.to_vec()), hooks);
    (
        (any::<bool>(), any::<bool>(), any::<bool>()),
        select(vec![1, 1, -1, 300]),
        proptest::option::weighted(0.3, links),
        (proptest::bool::weighted(0.15), proptest::bool::weighted(0.9)),
        proptest::option::weighted(0.4, policy),
        proptest::collection::vec(a_rule(), 0..4),
    )
        .prop_map(
            |(
                (masquerade, guard, forwards_before),
                gateway_offset,
                link_down,
                (one, route),
                policy,
                rules,
            )| {
                Circumstances {
                    masquerade,
                    guard,
                    gateway_offset,
                    link_down,
                    forwards_before,
                    one_for_everything: one,
                    default_route: route,
                    policy,
                    rules,
                }
            },
        )
}

impl Circumstances {
    fn config(&self) -> GatewayConfig {
        let mut config = GatewayConfig {
            masquerade: self.masquerade,
            guard: self.guard,
            gateway_offset: self.gateway_offset,
            ..config()
        };
        if self.one_for_everything {
            config.uplink_names = vec!["int0".into()];
        }
        config
    }

    fn kernel(&self) -> SimKernel {
        let mut kernel = bare_kernel(XtFlavour::Legacy);
        if !self.default_route {
            kernel.remove_host_route("0.0.0.0/0");
            kernel.add_host_route("10.1.0.0/24", Some("10.0.0.1"), "int0");
        }
        if self.forwards_before {
            for family in Family::ALL {
                kernel.write_sysctl(&SysctlKey::Forwarding(family), "1").expect("it exists");
            }
        }
        match self.link_down {
            Some((name, true)) => kernel.set_carrier(name, false),
            Some((name, false)) => kernel.set_link_up(name, false),
            None => {}
        }
        kernel
    }

    /// A gateway in sync, and then what others do.
    pub(crate) fn gateway(&self, objects: &[ClusterObject]) -> Driver {
        let mut driver = Driver::new(self.config(), self.kernel());
        driver.start(objects.to_vec());
        if let Some((family, hook)) = self.policy {
            let table = XtTableId { family, table: XtTable::Filter };
            driver.kernel.foreign_policy(table, hook.name(), Policy::Drop);
        }
        for foreign in &self.rules {
            foreign.put_into(&mut driver.kernel);
        }
        // With nftables ours are accepted where others judge, once that is seen.
        driver.kernel_changed();
        driver
    }

    pub(crate) fn scene(&self, objects: &[ClusterObject], kernel: &SimKernel) -> Scene {
        let held = held(kernel);
        let config = self.config();
        Scene {
            cluster: cluster(objects),
            host: kernel.host(),
            numbers: adopt_numbers(&held, &config),
            config,
            sysctls: held.sysctls,
            foreign: foreign(kernel),
        }
    }
}

impl ForeignRule {
    fn put_into(&self, kernel: &mut SimKernel) {
        let id = XtTableId { family: self.family, table: self.table };
        match self.place {
            Place::Before => kernel.foreign_insert(id, self.hook.name(), &self.rule),
            Place::After => kernel.foreign_append(id, self.hook.name(), &self.rule),
            Place::Chain => {
                let chain = ChainName(THEIRS.into());
                let there = kernel.xtables().table(id).and_then(|t| t.chain(&chain)).is_some();
                if !there {
                    let put = NetworkOp::PutChain { chain: chain.clone(), rules: Vec::new() };
                    kernel
                        .interfere(&Transaction { domain: Domain::Xtables(id), ops: vec![put] })
                        .expect("others may have chains");
                    let jump = XtRule::new(XtTarget::Jump(chain));
                    kernel.foreign_insert(id, self.hook.name(), &jump);
                }
                kernel.foreign_append(id, THEIRS, &self.rule);
            }
        }
    }
}

/// What is foreign, by way of the text that `iptables-save` prints.
fn foreign(kernel: &SimKernel) -> Foreign {
    let mut found = Foreign::default();
    for family in Family::ALL {
        let mut text = String::new();
        for table in kernel.xtables().tables().filter(|table| table.id().family == family) {
            let mut rules = String::new();
            let _ = writeln!(text, "*{}", table.id().table.name());
            for (hook, builtin) in table.builtins() {
                let policy = if builtin.policy == Policy::Drop { "DROP" } else { "ACCEPT" };
                let _ = writeln!(text, ":{} {policy} [0:0]", hook.name());
                for rule in builtin.rules.iter() {
                    let _ = writeln!(rules, "-A {} {}", hook.name(), render_rule(family, rule));
                }
            }
            for (chain, held) in table.chains() {
                let _ = writeln!(text, ":{chain} - [0:0]");
                for rule in held {
                    let _ = writeln!(rules, "-A {chain} {}", render_rule(family, rule));
                }
            }
            let _ = writeln!(text, "{rules}COMMIT");
        }
        let saved = parse_save(family, &text).expect("the output of iptables-save");
        let iptables = backend() == Backend::Iptables;
        let beside_ours = |table: &str| iptables || table == "filter";
        found.add_tables("iptables-legacy", family, beside_ours, &saved);
    }
    found
}
