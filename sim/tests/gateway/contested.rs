//! With nftables, our connections are accepted in the chains of iptables in which others judge
//! packets, and only there.

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{Family, Protocol};
use smartnat_core::names::fixed_chain;
use smartnat_core::objects::{BuiltinHook, XtTable, XtTableId, XtTarget};
use smartnat_core::ops::{Domain, NetworkOp, Transaction};
use smartnat_sim::Driver;
use smartnat_sim::kernel::{Policy, XtFlavour};
use smartnat_sim::scenario::service;

use crate::common::*;

const FILTER4: XtTableId = XtTableId { family: Family::V4, table: XtTable::Filter };
const FILTER6: XtTableId = XtTableId { family: Family::V6, table: XtTable::Filter };

/// The built-in chains that have a jump of ours, by table.
fn accepting(driver: &Driver) -> Vec<(XtTableId, BuiltinHook)> {
    let held = held(&driver.kernel);
    let hooks = held.xtables.iter().flat_map(|(id, table)| {
        table.jumps.iter().filter(|(_, jumps)| !jumps.is_empty()).map(|(hook, _)| (*id, *hook))
    });
    hooks.collect()
}

/// The kernel's others have a policy in one family and a rule in the other.
#[test]
fn ours_are_accepted_where_others_have_a_policy_or_a_rule() {
    on_nftables(|| {
        for flavour in [XtFlavour::Nft, XtFlavour::Legacy] {
            let driver = settled(flavour);
            let expected = [(FILTER4, BuiltinHook::Forward), (FILTER6, BuiltinHook::Input)];
            assert_eq!(accepting(&driver), expected);
            let state = held(&driver.kernel);
            assert!(state.sets.is_empty());
            let rules = state.xtables.values().flat_map(|table| table.chains.values().flatten());
            assert!(
                rules.clone().count() > 2
                    && rules.into_iter().all(|r| r.target == XtTarget::Accept)
            );
        }
    });
}

#[test]
fn what_others_change_there_is_followed() {
    on_nftables(|| {
        let mut driver = settled(XtFlavour::Nft);
        let before = held(&driver.kernel);
        driver.kernel.foreign_policy(FILTER4, "FORWARD", Policy::Accept);
        driver.kernel_changed();
        assert_in_sync(&driver);
        assert_eq!(accepting(&driver), [(FILTER6, BuiltinHook::Input)]);
        driver.kernel.foreign_policy(FILTER4, "FORWARD", Policy::Drop);
        driver.kernel_changed();
        assert_in_sync(&driver);
        assert_eq!(held(&driver.kernel), before);
        assert_eq!(count(driver.events(), EventKind::DriftRepaired), 0, "{:?}", driver.events());
        let chain = fixed_chain("FORWARD");
        let ops = vec![NetworkOp::PutChain { chain, rules: Vec::new() }];
        let flush = Transaction { domain: Domain::Xtables(FILTER4), ops };
        driver.kernel.interfere(&flush).expect("others may do so");
        driver.kernel_changed();
        assert_eq!(held(&driver.kernel), before);
        assert_eq!(count(driver.events(), EventKind::DriftRepaired), 1, "{:?}", driver.events());
    });
}

/// A changed endpoint is a matter of the table of nftables alone.
#[test]
fn a_change_of_the_cluster_touches_nothing_of_iptables() {
    on_nftables(|| {
        let mut driver = settled(XtFlavour::Nft);
        let sticky = service("sticky").port("", Protocol::Tcp, 443, 443).affinity(60);
        driver.cluster(sticky.ready("10.1.0.9").ready("10.1.0.11").build());
        assert_in_sync(&driver);
        let log = driver.kernel.log();
        assert!(!log.is_empty());
        let iptables = |domain| matches!(domain, Domain::Xtables(_) | Domain::Sets);
        assert!(!log.iter().any(|record| iptables(record.domain)), "{}", report(&driver));
    });
}
