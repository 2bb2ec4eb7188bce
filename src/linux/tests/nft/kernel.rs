//! Our table as a part of the whole kernel, beside iptables or without it.

use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use smartnat_core::model::{Backend, Family, IptablesFlavour};
use smartnat_core::objects::nft::{NftChain, NftName, NftTable};
use smartnat_core::objects::{
    ChainName, Netfilter, ObservationScope, SetKind, SetName, SetSpec, XtTable, XtTableId,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, NftOp, OpErrorClass, Transaction};
use smartnat_linux::{LinuxKernel, LinuxOptions, OpenError, StateDir};

use super::common::{in_namespace, sh};
use super::sample::put;

fn open(state: &Path, backend: Backend) -> LinuxKernel {
    let options = LinuxOptions {
        backend,
        flavour: IptablesFlavour::Nft,
        state_dir: StateDir::new(state),
        ..LinuxOptions::default()
    };
    LinuxKernel::open(options).expect("the kernel is usable")
}

fn state() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn scope(netfilter: Netfilter) -> ObservationScope {
    ObservationScope { netfilter, ..ObservationScope::default() }
}

fn nftables(ops: Vec<NftOp>) -> Transaction {
    Transaction { domain: Domain::Nftables, ops: ops.into_iter().map(NetworkOp::Nft).collect() }
}

fn one_chain() -> Transaction {
    nftables(vec![NftOp::CreateTable, put("translate", [])])
}

fn iptables_chain() -> Transaction {
    let chain = ChainName("SMARTNAT-TEST".into());
    Transaction {
        domain: Domain::Xtables(XtTableId { family: Family::V4, table: XtTable::Nat }),
        ops: vec![NetworkOp::PutChain { chain, rules: vec![] }],
    }
}

fn a_set() -> Transaction {
    let spec =
        SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 64 };
    let name = SetName("smartnat-test".into());
    Transaction { domain: Domain::Sets, ops: vec![NetworkOp::CreateSet { name, spec }] }
}

fn table_of_one_chain() -> NftTable {
    let chains = [(NftName::from("translate"), NftChain::default())].into();
    NftTable { chains, ..NftTable::default() }
}

#[test]
fn with_either_backend_what_is_ours_of_both_is_seen_and_changed() {
    for backend in [Backend::Nftables, Backend::Iptables] {
        in_namespace(|| {
            let state = state();
            let mut kernel = open(state.path(), backend);
            assert_eq!(kernel.observe(&scope(Netfilter::All)).expect("observed").nft, None);
            for transaction in [one_chain(), iptables_chain(), a_set()] {
                let before = kernel.operations();
                kernel.apply(&transaction).expect("applied");
                assert_eq!(kernel.operations(), before + 1, "{transaction:?}");
            }
            let observed = kernel.observe(&scope(Netfilter::All)).expect("observed");
            assert_eq!(observed.nft, Some(table_of_one_chain()));
            assert_eq!((observed.xtables.len(), observed.sets.len()), (1, 1));
            kernel.apply(&nftables(vec![NftOp::DeleteTable])).expect("deleted");
            assert_eq!(kernel.observe(&scope(Netfilter::All)).expect("observed").nft, None);
        });
    }
}

#[test]
fn where_netfilter_is_not_asked_for_no_process_runs() {
    in_namespace(|| {
        let state = state();
        let mut kernel = open(state.path(), Backend::Nftables);
        for transaction in [one_chain(), iptables_chain(), a_set()] {
            kernel.apply(&transaction).expect("applied");
        }
        let before = kernel.processes_started();
        let observed = kernel.observe(&scope(Netfilter::Nothing)).expect("observed");
        assert_eq!(kernel.processes_started(), before);
        assert!(observed.xtables.is_empty() && observed.sets.is_empty() && observed.nft.is_none());
        kernel.observe(&scope(Netfilter::All)).expect("observed");
        assert!(kernel.processes_started() > before);
    });
}

#[test]
fn a_table_of_somebody_else_is_in_the_way_of_its_own_backend_alone() {
    in_namespace(|| {
        sh("nft add table inet smartnat");
        let state = state();
        let mut kernel = open(state.path(), Backend::Nftables);
        let error = kernel.observe(&scope(Netfilter::All)).expect_err("not ours");
        assert_eq!(error.class, OpErrorClass::Invalid, "{error}");
        let error = kernel.apply(&one_chain()).expect_err("not ours");
        assert_eq!(error.class, OpErrorClass::Invalid, "{error}");
        let mut kernel = open(state.path(), Backend::Iptables);
        assert_eq!(kernel.observe(&scope(Netfilter::All)).expect("observed").nft, None);
    });
}

#[test]
fn tables_of_iptables_that_its_program_cannot_read_are_in_the_way_of_its_own_backend_alone() {
    in_namespace(|| {
        sh("nft add table ip nat
            nft add map ip nat m '{ type ipv4_addr : ipv4_addr ; }'
            nft add chain ip nat PREROUTING '{ type nat hook prerouting priority dstnat ; }'
            nft add rule ip nat PREROUTING meta mark set numgen inc mod 2
            nft add rule ip nat PREROUTING dnat to ip daddr map @m");
        let state = state();
        let mut kernel = open(state.path(), Backend::Nftables);
        kernel.apply(&one_chain()).expect("applied");
        let observed = kernel.observe(&scope(Netfilter::All)).expect("observed");
        assert_eq!(observed.nft, Some(table_of_one_chain()));
        let mut kernel = open(state.path(), Backend::Iptables);
        let error = kernel.observe(&scope(Netfilter::All)).expect_err("unreadable");
        assert_eq!(error.class, OpErrorClass::Invalid, "{error}");
    });
}

/// Gives the calling thread mounts of its own, which nobody else sees.
#[allow(deprecated, reason = "sound for mounts; its successor is an unsafe function")]
fn hide_mounts() {
    use rustix::thread::{UnshareFlags, unshare};

    unshare(UnshareFlags::NEWNS).expect("a mount namespace");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("private mounts");
}

#[test]
fn without_programs_of_iptables_nftables_serves_and_iptables_does_not() {
    in_namespace(|| {
        // Seen by this thread alone; what it runs finds empty directories.
        hide_mounts();
        for directory in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
            mount("none", directory, "tmpfs", MountFlags::empty(), None).expect("hidden");
        }
        let state = state();
        let mut kernel = open(state.path(), Backend::Nftables);
        kernel.apply(&one_chain()).expect("applied");
        let observed = kernel.observe(&scope(Netfilter::All)).expect("observed");
        assert_eq!(observed.nft, Some(table_of_one_chain()));
        assert!(observed.xtables.is_empty());
        assert_eq!(kernel.processes_started(), 0);
        assert_eq!(kernel.flavour(), IptablesFlavour::Auto);
        let error = kernel.apply(&iptables_chain()).expect_err("no programs");
        assert_eq!(error.class, OpErrorClass::Invalid);
        assert!(error.detail.contains("apt-get install iptables"), "{error}");
        let options = LinuxOptions {
            backend: Backend::Iptables,
            state_dir: StateDir::new(state.path()),
            ..LinuxOptions::default()
        };
        assert!(matches!(LinuxKernel::open(options), Err(OpenError::Xtables(_))));
    });
}

#[test]
fn an_operation_of_another_domain_is_refused_and_nothing_is_done() {
    in_namespace(|| {
        let state = state();
        let mut kernel = open(state.path(), Backend::Nftables);
        let ops = [one_chain().ops, a_set().ops].concat();
        let mixed = Transaction { domain: Domain::Nftables, ops };
        let error = kernel.apply(&mixed).expect_err("mixed");
        assert_eq!(error.class, OpErrorClass::Invalid, "{error}");
        assert_eq!(kernel.observe(&scope(Netfilter::All)).expect("observed").nft, None);
    });
}
