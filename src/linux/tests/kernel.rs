//! The whole kernel: what is done is read back, what was there before is restored.

mod common;

use std::path::Path;

use common::{add_uplink, in_namespace, sh};
use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::{
    BuiltinHook, ChainName, FlowFilter, ObservationScope, RoutingRule, RuleAction, SetElement,
    SetKind, SetName, SetSpec, SysctlKey, SysctlState, XtRule, XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, OpErrorClass, Transaction};
use smartnat_linux::{LinuxKernel, LinuxOptions, StateDir};

fn open(state: &Path, flavour: IptablesFlavour) -> LinuxKernel {
    let options =
        LinuxOptions { flavour, state_dir: StateDir::new(state), ..LinuxOptions::default() };
    LinuxKernel::open(options).expect("the kernel is usable")
}

fn scope() -> ObservationScope {
    ObservationScope {
        table_base: 7000,
        table_count: 8,
        rule_priority: 20_000,
        sysctls: Family::ALL.map(SysctlKey::Forwarding).into(),
        netfilter: smartnat_core::objects::Netfilter::All,
    }
}

fn nat(family: Family) -> XtTableId {
    XtTableId { family, table: XtTable::Nat }
}

fn chain() -> ChainName {
    ChainName("SMARTNAT-TEST".into())
}

fn put_chain_with_jump(family: Family) -> Transaction {
    let jump = XtRule::new(XtTarget::Jump(chain()));
    let ops = vec![
        NetworkOp::PutChain { chain: chain(), rules: vec![XtRule::new(XtTarget::Return)] },
        NetworkOp::InsertJump { hook: BuiltinHook::Prerouting, rule: jump },
    ];
    Transaction { domain: Domain::Xtables(nat(family)), ops }
}

fn remove_chain_with_jump(family: Family) -> Transaction {
    let jump = XtRule::new(XtTarget::Jump(chain()));
    let ops = vec![
        NetworkOp::DeleteJump { hook: BuiltinHook::Prerouting, rule: jump },
        NetworkOp::DeleteChain { chain: chain() },
    ];
    Transaction { domain: Domain::Xtables(nat(family)), ops }
}

fn sysctl(op: NetworkOp) -> Transaction {
    Transaction { domain: Domain::Sysctls, ops: vec![op] }
}

fn set(key: &SysctlKey, value: &str) -> Transaction {
    sysctl(NetworkOp::SetSysctl { key: key.clone(), value: value.into() })
}

fn read(key: &SysctlKey) -> String {
    sh(&format!("cat /proc/sys/{key}")).trim().to_owned()
}

#[test]
fn every_domain_is_executed_read_back_and_counted() {
    for flavour in [IptablesFlavour::Nft, IptablesFlavour::Legacy] {
        in_namespace(|| {
            add_uplink();
            let state = tempfile::tempdir().expect("a directory");
            let mut kernel = open(state.path(), flavour);
            assert_eq!(kernel.flavour(), Some(flavour));
            assert!(kernel.observe(&scope()).expect("observed").sets.is_empty());
            assert_eq!(kernel.operations(), 0);

            let name = SetName("smartnat-test".into());
            let element = SetElement::Ip("10.1.0.7".parse().expect("an address"));
            let spec = SetSpec {
                kind: SetKind::HashIp,
                family: Family::V4,
                timeout: None,
                max_elements: 1024,
            };
            let rule = RoutingRule {
                family: Family::V6,
                priority: 20_000,
                in_interface: Some("eth1".into()),
                mark: None,
                destination: None,
                action: RuleAction::Lookup { table: 254, suppress_prefix: None },
            };
            let ops = vec![
                NetworkOp::CreateSet { name: name.clone(), spec },
                NetworkOp::AddElement { set: name.clone(), element },
            ];
            kernel.apply(&Transaction { domain: Domain::Sets, ops }).expect("sets");
            for family in Family::ALL {
                kernel.apply(&put_chain_with_jump(family)).expect("chains");
            }
            let ops = vec![NetworkOp::AddRule(rule.clone())];
            kernel.apply(&Transaction { domain: Domain::Routing, ops }).expect("routing");
            let forwarding = SysctlKey::Forwarding(Family::V4);
            kernel.apply(&set(&forwarding, "1")).expect("sysctls");

            let operations = kernel.operations();
            assert!((5..=7).contains(&operations), "{operations}");
            let now = kernel.observe(&scope()).expect("observed");
            assert_eq!(now.sets[&name].elements, [element].into());
            assert_eq!(now.rules, [rule].into());
            for family in Family::ALL {
                let table = &now.xtables[&nat(family)];
                assert_eq!(table.chains[&chain()], [XtRule::new(XtTarget::Return)]);
                assert_eq!(table.jumps[&BuiltinHook::Prerouting].len(), 1);
            }
            let expected = SysctlState { value: "1".into(), original: Some("0".into()) };
            assert_eq!(now.sysctls[&forwarding], expected);
            let untouched = &now.sysctls[&SysctlKey::Forwarding(Family::V6)];
            assert_eq!(untouched.original, None);
            let nothing = FlowFilter { mark: 1 << 31, mask: 1 << 31 };
            assert_eq!(kernel.flows(&nothing).expect("listed"), []);
            assert_eq!(kernel.operations(), operations, "reading is no operation");
            assert!(kernel.processes_started() >= 4);
        });
    }
}

#[test]
fn built_in_chains_that_we_caused_are_told_from_those_that_were_there() {
    in_namespace(|| {
        sh("iptables-nft -t nat -A OUTPUT -p tcp --dport 9 -j RETURN");
        let builtins = || sh("nft list chains ip | grep -c hook || true");
        let state = tempfile::tempdir().expect("a directory");
        let before = sh("nft list ruleset");
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        kernel.apply(&put_chain_with_jump(Family::V4)).expect("chains");
        kernel.apply(&put_chain_with_jump(Family::V6)).expect("chains");
        // A restart reads the record.
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        let now = kernel.observe(&scope()).expect("observed");
        let created = |family| now.xtables[&nat(family)].created_builtins.clone();
        assert!(created(Family::V4).contains(&BuiltinHook::Prerouting), "{}", builtins());
        assert!(!created(Family::V4).contains(&BuiltinHook::Output));
        assert!(created(Family::V6).contains(&BuiltinHook::Prerouting));

        for family in Family::ALL {
            kernel.apply(&remove_chain_with_jump(family)).expect("removed");
            let left = kernel.observe(&scope()).expect("observed");
            let hooks = &left.xtables[&nat(family)].created_builtins;
            let ops = hooks.iter().map(|hook| NetworkOp::DeleteEmptyBuiltin { hook: *hook });
            let domain = Domain::Xtables(nat(family));
            kernel.apply(&Transaction { domain, ops: ops.collect() }).expect("deleted");
        }
        assert!(kernel.observe(&scope()).expect("observed").xtables.is_empty());
        assert_eq!(sh("nft list ruleset"), before, "T16");
    });
}

/// T16: what others use by now stays, so a clean-up must not wait for it to go.
#[test]
fn a_built_in_chain_that_others_use_by_now_is_not_told_as_ours() {
    in_namespace(|| {
        let state = tempfile::tempdir().expect("a directory");
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        kernel.apply(&put_chain_with_jump(Family::V4)).expect("chains");
        let mut created = || {
            let now = kernel.observe(&scope()).expect("observed");
            now.xtables[&nat(Family::V4)].created_builtins.contains(&BuiltinHook::Prerouting)
        };
        assert!(created());
        sh("iptables-nft -t nat -A PREROUTING -p tcp --dport 9 -j RETURN");
        assert!(!created());
        sh("iptables-nft -t nat -D PREROUTING -p tcp --dport 9 -j RETURN");
        assert!(created());
    });
}

#[test]
fn a_baseline_of_a_former_life_is_replaced() {
    in_namespace(|| {
        let state = tempfile::tempdir().expect("a directory");
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        kernel.apply(&put_chain_with_jump(Family::V4)).expect("chains");
        kernel.apply(&remove_chain_with_jump(Family::V4)).expect("removed");
        // Now somebody else uses the chain that we once caused.
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        kernel.apply(&put_chain_with_jump(Family::V4)).expect("chains");
        let now = kernel.observe(&scope()).expect("observed");
        assert!(now.xtables[&nat(Family::V4)].created_builtins.is_empty());
    });
}

#[test]
fn a_sysctl_is_recorded_once_and_restored_also_by_a_later_process() {
    in_namespace(|| {
        add_uplink();
        sh("echo 1 > /proc/sys/net/ipv4/conf/eth1/rp_filter");
        let state = tempfile::tempdir().expect("a directory");
        let key = SysctlKey::ReversePathFilter("eth1".into());
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        kernel.apply(&set(&key, "2")).expect("set");
        kernel.apply(&set(&key, "0")).expect("set");
        assert_eq!(kernel.operations(), 2);

        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        // The key is outside of the scope, but recorded.
        let now = kernel.observe(&scope()).expect("observed");
        let expected = SysctlState { value: "0".into(), original: Some("1".into()) };
        assert_eq!(now.sysctls[&key], expected);
        let value = Some("1".to_owned());
        kernel.apply(&sysctl(NetworkOp::ForgetSysctl { key: key.clone(), value })).expect("forgot");
        assert_eq!(read(&key), "1");
        assert!(!kernel.observe(&scope()).expect("observed").sysctls.contains_key(&key));
        let files = std::fs::read_dir(state.path()).expect("readable").count();
        assert_eq!(files, 0, "nothing is recorded any more");
    });
}

#[test]
fn the_record_of_a_setting_that_went_with_its_interface_can_be_forgotten() {
    in_namespace(|| {
        add_uplink();
        let state = tempfile::tempdir().expect("a directory");
        let key = SysctlKey::SourceValidMark("eth1".into());
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        kernel.apply(&set(&key, "1")).expect("set");
        sh("ip link del eth1");
        let now = kernel.observe(&scope()).expect("observed");
        assert_eq!(now.sysctls[&key].value, "");
        let value = Some("0".to_owned());
        kernel.apply(&sysctl(NetworkOp::ForgetSysctl { key: key.clone(), value })).expect("forgot");
        assert!(!kernel.observe(&scope()).expect("observed").sysctls.contains_key(&key));
        let error = kernel.apply(&set(&key, "1")).expect_err("it is gone");
        assert_eq!(error.class, OpErrorClass::NotFound);
        assert_eq!(error.object, "sysctl net/ipv4/conf/eth1/src_valid_mark");
    });
}

/// T16: a new interface of an old name has its own value before us, not that of the one that is gone.
#[test]
fn a_record_is_of_one_interface_and_not_of_its_name() {
    in_namespace(|| {
        let temporary = tempfile::tempdir().expect("a directory");
        let link = "ip link add eth1 type veth peer name eth2";
        sh(link);
        let key = SysctlKey::SourceValidMark("eth1".into());
        let mut kernel = open(temporary.path(), IptablesFlavour::Nft);
        kernel.apply(&set(&key, "1")).expect("set");
        sh("ip link del eth1");
        sh(link);
        sh("echo 0 > /proc/sys/net/ipv4/conf/eth1/src_valid_mark");
        let now = |kernel: &mut LinuxKernel| {
            let scope = ObservationScope { sysctls: [key.clone()].into(), ..scope() };
            kernel.observe(&scope).expect("observed").sysctls[&key].original.clone()
        };
        assert_eq!(now(&mut kernel), None, "of the interface that is gone");
        let files = || std::fs::read_dir(temporary.path()).expect("readable").count();
        assert_eq!(files(), 0, "nothing of it is left");
        sh("echo 5 > /proc/sys/net/ipv4/conf/eth1/src_valid_mark");
        kernel.apply(&set(&key, "1")).expect("set");
        assert_eq!(now(&mut kernel).as_deref(), Some("5"));
        drop(kernel);
        let mut later = open(temporary.path(), IptablesFlavour::Nft);
        assert_eq!(now(&mut later).as_deref(), Some("5"));
    });
}

#[test]
fn a_sysctl_is_not_touched_when_its_value_cannot_be_recorded() {
    in_namespace(|| {
        let key = SysctlKey::Forwarding(Family::V4);
        let mut kernel = open(Path::new("/proc/no/such/place"), IptablesFlavour::Nft);
        let error = kernel.apply(&set(&key, "1")).expect_err("no place for the record");
        assert!(error.detail.contains("/proc/no/such/place"), "{error}");
        assert_eq!(read(&key), "0");
        kernel.apply(&put_chain_with_jump(Family::V4)).expect_err("no place for the baseline");
        assert_eq!(kernel.operations(), 0);
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn an_operation_in_the_wrong_transaction_is_refused() {
    in_namespace(|| {
        let state = tempfile::tempdir().expect("a directory");
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        let op = NetworkOp::DestroySet { name: SetName("smartnat-x".into()) };
        for domain in [Domain::Routing, Domain::Sysctls, Domain::Flows] {
            let error = kernel.apply(&Transaction { domain, ops: vec![op.clone()] });
            assert_eq!(error.expect_err("misplaced").class, OpErrorClass::Invalid);
        }
        assert_eq!(kernel.operations(), 0);
    });
}

#[test]
fn what_the_kernel_changes_along_with_forwarding_comes_back() {
    in_namespace(|| {
        add_uplink();
        // Hardened against redirects; one interface forwards without the others.
        sh("echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects
            echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding
            echo 1 > /proc/sys/net/ipv6/conf/far1/forwarding");
        let settings = "cd /proc/sys/net; grep -r . ipv4/conf ipv6/conf ipv4/ip_forward \
                        | grep -e forwarding -e redirects -e ip_forward | sort";
        let before = sh(settings);
        let state = tempfile::tempdir().expect("a directory");
        let keys = Family::ALL.map(SysctlKey::Forwarding);
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        for key in &keys {
            kernel.apply(&set(key, "1")).expect("set");
        }
        assert_ne!(sh(settings), before);
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        for key in keys {
            let value = Some("0".to_owned());
            kernel.apply(&sysctl(NetworkOp::ForgetSysctl { key, value })).expect("forgot");
        }
        assert_eq!(sh(settings), before, "T16");
    });
}

/// T16: where forwarding stays on, what came with it stays too, and nothing is remembered.
#[test]
fn forwarding_that_stays_on_keeps_what_the_kernel_changed_along_with_it() {
    in_namespace(|| {
        add_uplink();
        sh("echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects
            echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding");
        let settings = "cd /proc/sys/net; grep -r . ipv4/conf ipv6/conf ipv4/ip_forward \
                        | grep -e forwarding -e redirects -e ip_forward | sort";
        let state = tempfile::tempdir().expect("a directory");
        let keys = Family::ALL.map(SysctlKey::Forwarding);
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        for key in &keys {
            kernel.apply(&set(key, "1")).expect("set");
        }
        let on = sh(settings);
        let mut kernel = open(state.path(), IptablesFlavour::Nft);
        for key in keys {
            kernel.apply(&sysctl(NetworkOp::ForgetSysctl { key, value: None })).expect("forgot");
        }
        assert_eq!(sh(settings), on);
        let kernel = open(state.path(), IptablesFlavour::Nft);
        assert_eq!(kernel.operations(), 0);
        let records = std::fs::read_dir(state.path()).expect("the directory").count();
        assert_eq!(records, 0, "an empty record leaves no file");
    });
}
