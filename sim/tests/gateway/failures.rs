//! Operations that fail: named, tried again with growing pauses, and mended when they work (P14).

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{Backend, Family, Protocol};
use smartnat_core::names::mapping_chain;
use smartnat_core::objects::{SysctlKey, XtRule, XtTable, XtTarget};
use smartnat_core::ops::OpErrorClass;
use smartnat_core::status::reason;
use smartnat_sim::SimHost;
use smartnat_sim::kernel::{Fault, OpKind, OpMatcher, XtFlavour};
use smartnat_sim::scenario::{mapping, without_mapping};
use smartnat_sim::walk::{Outcome, Packet};

use crate::common::walk::{Fate, fates};
use crate::common::*;
use crate::connections::Client;
use crate::crashes::change;
use crate::order::packets;

const CLASSES: [OpErrorClass; 6] = [
    OpErrorClass::NotFound,
    OpErrorClass::Exists,
    OpErrorClass::Busy,
    OpErrorClass::Invalid,
    OpErrorClass::Denied,
    OpErrorClass::Transient,
];

/// What operations on chains and sets of iptables are called in messages.
const OF_IPTABLES: [(OpKind, &str); 7] = [
    (OpKind::PutChain, "chain SMARTNAT-"),
    (OpKind::DeleteChain, "chain SMARTNAT-"),
    (OpKind::InsertJump, "jump from "),
    (OpKind::CreateSet, "set smartnat-"),
    (OpKind::AddElement, "of set smartnat-"),
    (OpKind::DeleteElement, "of set smartnat-"),
    (OpKind::DestroySet, "set smartnat-"),
];
/// The same of our table of nftables.
const OF_NFTABLES: [(OpKind, &str); 1] = [(OpKind::Nft, "table inet smartnat")];
/// The same of what both backends have.
const OF_HOST: [(OpKind, &str); 5] = [
    (OpKind::AddRule, "routing rule 2000"),
    (OpKind::DeleteRule, "routing rule 2000"),
    (OpKind::PutRoute, "route "),
    (OpKind::DeleteRoute, "route "),
    (OpKind::SetSysctl, "sysctl net/"),
];

/// Whatever fails and however: it is told with the object's name, and it is mended afterwards.
#[test]
fn every_kind_of_failure_is_named_and_mended() {
    on_both_backends(|| {
        let everything_changes = |driver: &mut smartnat_sim::Driver| {
            driver.cluster(change());
            driver.advance(3_000);
            driver.kernel.remove_address("ext1", ip(EXT1_B));
            driver.kernel.remove_address("ext2", ip(EXT2_V6));
            driver.host_changed();
            driver.advance(3_000);
        };
        let mut reference = settled(XtFlavour::Nft);
        everything_changes(&mut reference);
        let reference = held(&reference.kernel);
        for class in CLASSES {
            let of_backend = match backend() {
                Backend::Nftables => &OF_NFTABLES[..],
                _ => &OF_IPTABLES,
            };
            for (kind, object) in of_backend.iter().chain(&OF_HOST).copied() {
                let mut driver = smartnat_sim::Driver::new(config(), kernel(XtFlavour::Nft));
                driver.kernel.inject(Fault {
                    matcher: OpMatcher::kind(kind),
                    skip: 0,
                    times: Some(2),
                    class,
                });
                driver.start(objects());
                driver.advance(3_000);
                everything_changes(&mut driver);
                let events = driver.take_events();
                let told: Vec<&str> = events
                    .iter()
                    .filter(|e| e.kind == EventKind::KernelError)
                    .map(|e| e.message.as_str())
                    .collect();
                assert!(told.iter().all(|t| t.contains(object)), "{kind:?}, {class:?}: {told:?}");
                assert_eq!(told.len(), 2, "{kind:?}, {class:?}: {told:?}");
                assert_in_sync(&driver);
                assert_eq!(held(&driver.kernel), reference, "{kind:?}, {class:?}");
            }
        }
    });
}

/// The pauses grow to half a minute, and end with the first success.
#[test]
fn pauses_grow_up_to_a_bound() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        driver.kernel.fail_every(of_chains(OpKind::PutChain), OpErrorClass::Transient);
        driver.cluster(vec![without_mapping("echo")]);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let wait = driver.gateway.poll_timeout().expect("a retry").0 - driver.kernel.now().0;
            pauses.push(wait);
            driver.advance(wait);
        }
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[0] <= 1_000 && pauses[9] == 30_000, "{pauses:?}");
        let errors = count(&driver.take_events(), EventKind::KernelError);
        assert_eq!(errors, 11, "one attempt, one event");

        driver.kernel.clear_faults();
        driver.advance(30_000);
        assert_in_sync(&driver);
        driver.kernel.fail_nth(1, OpErrorClass::Transient);
        driver.cluster(change());
        let wait = driver.gateway.poll_timeout().expect("a retry").0 - driver.kernel.now().0;
        assert!(wait <= 1_000, "{wait}");
    });
}

/// T21: what failed is not called programmed, and the status says why.
#[test]
fn a_failure_shows_in_the_status_until_it_is_mended() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        driver.kernel.fail_every(of_chains(OpKind::PutChain), OpErrorClass::Denied);
        driver.cluster(change());
        let status = driver.status().expect("a status");
        assert!(!status.in_sync);
        assert!(
            status.degraded.iter().any(|d| d.contains("permission denied")),
            "{:?}",
            status.degraded
        );
        let key = smartnat_core::model::ObjectKey::new("default", "new");
        let programmed = |driver: &smartnat_sim::Driver| {
            let status = driver.status().expect("a status");
            let conditions = &status.mappings[&key].conditions;
            conditions.iter().find(|c| c.kind == reason::PROGRAMMED).expect("a condition").clone()
        };
        assert!(!programmed(&driver).status);
        assert_eq!(programmed(&driver).reason, reason::KERNEL_ERROR);
        driver.kernel.clear_faults();
        driver.advance(60_000);
        assert_in_sync(&driver);
        assert!(programmed(&driver).status);
        assert!(driver.status().expect("a status").degraded.is_empty());
    });
}

/// Reads fail too.
#[test]
fn reads_that_fail_are_tried_again() {
    on_both_backends(|| {
        let mut driver = smartnat_sim::Driver::new(config(), kernel(XtFlavour::Nft));
        driver.kernel.fail_reads(3, OpErrorClass::Transient);
        driver.start(objects());
        assert!(driver.kernel.log().is_empty(), "nothing is decided before the first observation");
        driver.advance(10_000);
        assert_in_sync(&driver);
        let wanted = held(&driver.kernel);
        driver.kernel.fail_reads(1, OpErrorClass::Transient);
        driver.cluster(vec![without_mapping("echo")]);
        driver.cluster(objects());
        driver.advance(10_000);
        assert_in_sync(&driver);
        assert_eq!(held(&driver.kernel), wanted);
    });
}

/// A change does not wait for the pause, and the numbers of uplinks stay through failures.
#[test]
fn a_change_is_tried_at_once_and_numbers_stay() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        driver.kernel.remove_link("ext1");
        driver.host_changed();
        assert_in_sync(&driver);
        driver.kernel.fail_nth(1, OpErrorClass::Transient);
        driver.cluster(vec![without_mapping("exit")]);
        assert!(!driver.status().expect("a status").in_sync);
        driver.kernel.add_link("ext0");
        driver.kernel.add_address("ext0", "192.0.2.130/25");
        driver.host_changed();
        assert_in_sync(&driver);
        let uplinks = &driver.status().expect("a status").uplinks;
        // Number 1 is ext1's, which may come back; connections still carry it.
        assert_eq!((uplinks["ext0"].number, uplinks["ext2"].number), (3, 2));
    });
}

/// After a round that ended half-way the kernel is read before anything else is decided.
#[test]
fn a_change_after_a_half_done_round_meets_no_leftovers() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let matcher = of_chains(OpKind::DeleteChain);
        let class = OpErrorClass::Transient;
        driver.kernel.inject(Fault { matcher, skip: 0, times: Some(1), class });
        driver.cluster(change());
        assert!(!driver.status().expect("a status").in_sync);
        driver.cluster(vec![without_mapping("echo")]);
        assert_in_sync(&driver);
        assert_eq!(count(driver.events(), EventKind::KernelError), 1, "{:?}", driver.events());
    });
}

/// One route that the kernel never takes keeps nothing else from being served, changed, ended
/// and repaired.
#[test]
fn a_route_that_is_refused_concerns_itself_alone() {
    on_both_backends(|| {
        let mut driver = smartnat_sim::Driver::new(config(), kernel(XtFlavour::Nft));
        let refused = OpMatcher::named("PutRoute route ::/0 in table 7001");
        driver.kernel.fail_every(refused, OpErrorClass::Invalid);
        driver.start(objects());
        assert_eq!(count(driver.events(), EventKind::KernelError), 1, "one attempt, then a pause");
        driver.advance(1_000);
        let mut wanted = held(&settled(XtFlavour::Nft).kernel);
        wanted.routes.retain(|r| r.table != 7001 || r.destination != net("::/0"));
        assert_eq!(held(&driver.kernel), wanted, "{}", report(&driver));
        let status = driver.status().expect("a status");
        assert!(!status.in_sync);
        assert!(
            status.degraded.iter().any(|d| d.contains("::/0 in table 7001")),
            "{:?}",
            status.degraded
        );

        Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
        driver.take_events();
        driver.cluster(vec![without_mapping("echo")]);
        assert!(driver.kernel.conntrack().is_empty(), "T10");
        assert_eq!(count(driver.events(), EventKind::KernelError), 1, "after a sweep too");
        driver.cluster(objects());
        assert_eq!(held(&driver.kernel), wanted);
        spoil(&mut driver.kernel);
        driver.kernel_changed();
        assert_eq!(held(&driver.kernel), wanted, "T17");
        let wait = driver.gateway.poll_timeout().expect("a retry").0 - driver.kernel.now().0;
        assert!(wait > 1_000, "the pauses grow all the same");

        driver.kernel.clear_faults();
        driver.advance(30_000);
        assert_in_sync(&driver);
    });
}

/// Forwarding is opened last: not before what must be set first is set.
#[test]
fn forwarding_stays_off_while_another_sysctl_is_refused() {
    on_both_backends(|| {
        let mut driver = smartnat_sim::Driver::new(config(), kernel(XtFlavour::Nft));
        let refused = OpMatcher::named("sysctl net/ipv6/conf/int0/accept_ra");
        driver.kernel.fail_every(refused, OpErrorClass::Denied);
        driver.start(objects());
        driver.advance(10_000);
        for family in Family::ALL {
            let forwarding = SysctlKey::Forwarding(family);
            assert_eq!(driver.kernel.sysctl(&forwarding).as_deref(), Some("0"), "{family}");
        }
        let rp_filter = SysctlKey::ReversePathFilter("ext2".into());
        assert_eq!(driver.kernel.sysctl(&rp_filter).as_deref(), Some("2"));
        assert!(!driver.status().expect("a status").in_sync);
        driver.kernel.clear_faults();
        driver.advance(30_000);
        assert_in_sync(&driver);
        assert_eq!(held(&driver.kernel), held(&settled(XtFlavour::Nft).kernel));
    });
}

/// A chain of ours that others jump to can't be deleted; the Mapping is withdrawn all the same.
#[test]
fn a_chain_that_others_refer_to_concerns_itself_alone() {
    let mut driver = settled(XtFlavour::Nft);
    Client::allowed().connect(&mut driver.kernel, "10.1.0.7");
    let nat = tables(XtTable::Nat)[0];
    let chain = mapping_chain(&smartnat_core::model::ObjectKey::new("default", "echo"));
    let jump = XtRule::new(XtTarget::Jump(chain.clone()));
    driver.kernel.foreign_append(nat, "KUBE-SERVICES", &jump);
    driver.cluster(vec![without_mapping("echo")]);
    driver.advance(1_000);
    let packet = packets()[0];
    assert_eq!(fates(&driver.kernel, packet), [Fate::Untouched].into());
    assert!(driver.kernel.conntrack().is_empty(), "T10");
    let left = &held(&driver.kernel).xtables[&nat].chains;
    assert_eq!(left.get(&chain), Some(&Vec::new()));
    let status = driver.status().expect("a status");
    assert!(status.degraded.iter().any(|d| d.contains(&chain.0)), "{:?}", status.degraded);

    driver.kernel.foreign_delete_rules(nat, "KUBE-SERVICES", |_| true);
    driver.advance(30_000);
    assert_in_sync(&driver);
    assert!(!held(&driver.kernel).xtables[&nat].chains.contains_key(&chain));
}

/// T13, P12: while the kernel refuses the rule that keeps inside what pods with egress send there,
/// none is let out, by whatever operation comes after it.
#[test]
fn no_pod_is_let_out_while_its_inside_is_not_kept_inside() {
    on_both_backends(|| {
        let mut driver = started_on(bare_kernel(XtFlavour::Nft), vec![]);
        let exit = mapping("exit").address(EXT2).tcp(25).egress(true);
        let inside_leaves = |driver: &smartnat_sim::Driver| {
            let packet = Packet::opening(Protocol::Udp, (ip("10.1.0.20"), 7), (ip("10.0.0.50"), 8));
            let mut host = SimHost::new(driver.kernel.clone(), 1);
            let outcome = host.receive("int0", packet).expect("all is understood").outcome;
            matches!(outcome, Outcome::Left { interface, .. } if interface.starts_with("ext"))
        };
        driver.kernel.fail_every(OpMatcher::named("routing rule 20002"), OpErrorClass::Busy);
        let pods = objects()
            .into_iter()
            .filter(|o| !matches!(o, smartnat_core::model::ClusterObject::Mapping(_)));
        driver.cluster(pods.chain([exit.build()]).collect());
        assert!(!inside_leaves(&driver));
        driver.advance(10_000);
        assert!(!inside_leaves(&driver) && !driver.status().expect("a status").in_sync);
        driver.kernel.clear_faults();
        driver.advance(120_000);
        assert_in_sync(&driver);
        assert!(!inside_leaves(&driver));
    });
}
