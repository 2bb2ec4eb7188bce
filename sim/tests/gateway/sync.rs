//! In sync from a cold start, quiet afterwards, and no more work than a change asks for.

use smartnat_core::compile::compile;
use smartnat_core::gateway::EventKind;
use smartnat_core::lower::lower;
use smartnat_core::model::{Backend, ClusterObject, Family, ObjectKey, Protocol};
use smartnat_core::names;
use smartnat_core::objects::nft::fields;
use smartnat_core::objects::{KernelState, SysctlKey};
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service, without_mapping, without_service};

use crate::common::*;

/// P9: what the kernel holds is what the snapshot asks for, and nothing else.
#[test]
fn a_cold_start_reaches_what_the_snapshot_asks_for() {
    on_both_backends(|| {
        for flavour in [XtFlavour::Nft, XtFlavour::Legacy] {
            let driver = settled(flavour);
            let observed = held(&driver.kernel);
            let host = driver.kernel.host();
            let numbers = [("ext1".to_owned(), 1), ("ext2".to_owned(), 2)].into();
            let compiled = compile(&cluster(&objects()), &host, &config(), &numbers, &observed);
            let wanted = lower(&compiled.dataplane, config().backend);
            assert_eq!(observed.sets, wanted.sets);
            assert_eq!(observed.rules, wanted.rules);
            assert_eq!(observed.routes, wanted.routes);
            for (id, table) in &wanted.xtables {
                assert_eq!(observed.xtables[id].chains, table.chains, "{id:?}");
                assert_eq!(observed.xtables[id].jumps, table.jumps, "{id:?}");
            }
            for (key, value) in &wanted.sysctls {
                assert_eq!(&observed.sysctls[key].value, value, "{key}");
            }
            assert!(driver.kernel.trespasses().is_empty(), "{:?}", driver.kernel.trespasses());
        }
    });
}

/// P6.
#[test]
fn a_second_look_asks_for_nothing() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let before = driver.kernel.applied_ops();
        let status = driver.status().cloned();
        driver.kernel_changed();
        driver.host_changed();
        driver.cluster(objects());
        driver.advance(60_000);
        assert_eq!(driver.kernel.applied_ops(), before, "{:#?}", driver.kernel.log());
        assert!(driver.kernel.log().is_empty(), "not even a transaction without effect");
        assert_eq!(driver.status().cloned(), status);
        assert!(driver.events().is_empty(), "{:?}", driver.events());
    });
}

/// T15, and the numbers of uplinks are adopted from the kernel (P9).
#[test]
fn a_restart_that_changes_nothing_issues_nothing() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        // ext1 got its number after ext2, which no order of names would give.
        driver.kernel.remove_link("ext1");
        driver.host_changed();
        driver.restart(config(), objects());
        driver.kernel.add_link("ext0");
        driver.kernel.add_address("ext0", "192.0.2.77/24");
        driver.host_changed();
        driver.kernel.add_link("ext1");
        driver.kernel.add_address("ext1", "203.0.113.10/24");
        driver.host_changed();
        assert_in_sync(&driver);
        let numbers = |driver: &smartnat_sim::Driver| -> Vec<(String, u32)> {
            let status = driver.status().expect("a status");
            status.uplinks.iter().map(|(name, u)| (name.clone(), u.number)).collect()
        };
        let before = numbers(&driver);
        assert_eq!(before, [("ext0".into(), 1), ("ext1".into(), 3), ("ext2".into(), 2)]);

        driver.kernel.take_log();
        driver.restart(config(), objects());
        driver.advance(10_000);
        assert_in_sync(&driver);
        assert!(driver.kernel.log().is_empty(), "{:#?}", driver.kernel.log());
        assert_eq!(numbers(&driver), before);
    });
}

/// P7: among 1,000 Mappings one changed endpoint concerns that Mapping's objects alone.
#[test]
fn one_changed_endpoint_touches_one_mapping() {
    let chain = names::port_chain(&ObjectKey::new("default", "m500"), Protocol::Tcp, port(10_500));
    let external = fields::join([
        &fields::address(ip(EXT1)),
        &[Protocol::Tcp.number()],
        &10_500_u16.to_be_bytes(),
    ]);
    let of_others = |mut state: KernelState| {
        for table in state.xtables.values_mut() {
            table.chains.retain(|name, _| *name != chain);
        }
        for set in state.nft.iter_mut().flat_map(|table| table.sets.values_mut()) {
            set.elements
                .retain(|key, _| !key.first.windows(external.len()).any(|at| at == &*external));
        }
        state
    };
    let with = |number: u16, pod: &str| {
        let port = 10_000 + number;
        service(&format!("m{number}")).port("", Protocol::Tcp, port, 80).ready(pod).build()
    };
    let many = |number: u16| {
        let mapping = mapping(&format!("m{number}")).address(EXT1).tcp(10_000 + number);
        [with(number, "10.1.0.7"), vec![mapping.build()]].concat()
    };
    on_both_backends(|| {
        let mut driver = started_on(kernel(XtFlavour::Nft), (0..1000).flat_map(many).collect());
        assert_in_sync(&driver);
        driver.kernel.take_log();
        let before = held(&driver.kernel);
        driver.cluster(with(500, "10.1.0.8"));
        assert_in_sync(&driver);
        let after = held(&driver.kernel);
        assert_ne!(after, before);
        assert_eq!(of_others(after), of_others(before));
        let expected = match backend() {
            // The old endpoint's, and the new one's.
            Backend::Nftables => ["Nft element in set endpoints4 of table inet smartnat"; 2]
                .map(str::to_owned)
                .to_vec(),
            _ => vec![format!("PutChain chain {chain} in nat (IPv4)")],
        };
        assert_eq!(logged(&driver), expected);
    });
}

/// A Mapping that comes and goes leaves the objects of the others alone.
#[test]
fn a_mapping_comes_and_goes_by_its_own_objects() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let before = held(&driver.kernel);
        let guest = service("guest").port("", Protocol::Tcp, 90, 90).ready("10.1.0.30");
        driver.cluster(guest.build());
        driver.cluster(vec![mapping("guest").address(EXT1_B).tcp(90).build()]);
        assert_in_sync(&driver);
        let with_guest = held(&driver.kernel);
        assert_ne!(with_guest, before);
        for (id, table) in &before.xtables {
            for (name, rules) in &table.chains {
                let now = &with_guest.xtables[id].chains[name];
                assert!(now == rules || name.0 == "SMARTNAT-DNAT", "{name} of {id:?} changed");
            }
        }
        driver.cluster(vec![without_mapping("guest")]);
        driver.cluster(without_service("guest"));
        assert_in_sync(&driver);
        assert_eq!(held(&driver.kernel), before);
    });
}

/// P8: the order of events makes no difference.
#[test]
fn permuted_events_give_the_same_bytes() {
    on_both_backends(|| {
        let reference = settled(XtFlavour::Nft);
        let all = objects();
        for shift in 1..all.len() {
            let mut driver = started_on(kernel(XtFlavour::Nft), Vec::new());
            for i in 0..all.len() {
                // A stride that is coprime with the length visits all of them.
                driver.cluster(vec![all[(i * 7 + shift) % all.len()].clone()]);
            }
            assert!(!all.len().is_multiple_of(7), "the stride visits every object");
            assert_in_sync(&driver);
            assert_eq!(held(&driver.kernel), held(&reference.kernel), "shift {shift}");
            assert_eq!(driver.status(), reference.status(), "shift {shift}");
        }
    });
}

/// Names are checked where objects are read; here none of them may harm the others.
#[test]
fn no_name_of_a_mapping_keeps_the_others_from_being_served() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let names = [
            "\u{fc}".repeat(300),
            "a \"quote\" \\ and\na line".into(),
            "x".repeat(253),
            String::new(),
        ];
        let hosts: Vec<ClusterObject> = names
            .iter()
            .zip(700..)
            .map(|(name, port)| {
                let namespace = name.chars().take(63).collect::<String>();
                mapping(name).namespace(&namespace).service("echo").address(EXT1).tcp(port).build()
            })
            .collect();
        driver.cluster(hosts);
        assert_in_sync(&driver);
        assert_eq!(driver.status().expect("a status").mappings.len(), 3 + names.len());
    });
}

/// The first input says that all sources are synced: before it nothing is decided.
#[test]
fn nothing_happens_before_all_sources_have_synced() {
    on_both_backends(|| {
        let mut driver = smartnat_sim::Driver::new(config(), kernel(XtFlavour::Nft));
        driver.host_changed();
        driver.kernel_changed();
        driver.advance(60_000);
        assert!(driver.kernel.log().is_empty());
        assert_eq!(driver.status(), None);
        driver.cluster(Vec::new());
        assert_in_sync(&driver);
    });
}

#[test]
fn a_host_without_uplinks_is_left_alone_and_says_so() {
    on_both_backends(|| {
        let mut driver = started_on(smartnat_sim::SimKernel::new(XtFlavour::Nft), objects());
        driver.advance(60_000);
        assert!(driver.kernel.log().is_empty());
        let status = driver.status().expect("a status");
        assert!(!status.in_sync);
        assert!(status.degraded.iter().any(|d| d.contains("no uplink")), "{:?}", status.degraded);
    });
}

#[test]
fn a_link_that_flaps_gets_its_routes_back() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let before = held(&driver.kernel);
        driver.kernel.set_link_up("ext1", false);
        driver.host_changed();
        assert_in_sync(&driver);
        assert!(held(&driver.kernel).routes.iter().all(|r| r.interface != "ext1"));
        driver.kernel.set_link_up("ext1", true);
        driver.kernel.add_address("ext1", "2001:db8:1::10/64");
        driver.host_changed();
        assert_in_sync(&driver);
        assert_eq!(held(&driver.kernel), before);
        assert_eq!(count(driver.events(), EventKind::KernelError), 0, "{:?}", driver.events());
    });
}

/// Section 5: with `accept_ra=1` a learned default route would go when forwarding is switched
/// on, so it becomes 2 first, on links too that come together with the first uplink.
#[test]
fn learned_default_routes_survive_forwarding() {
    on_both_backends(|| {
        let mut driver = started_on(smartnat_sim::SimKernel::new(XtFlavour::Nft), objects());
        for (name, address) in [("int0", "fd00::2/64"), ("ext1", "2001:db8:1::10/64")] {
            driver.kernel.add_link(name);
            driver.kernel.add_address(name, address);
        }
        driver.kernel.learn_default_route("fe80::1", "int0");
        driver.host_changed();
        assert_in_sync(&driver);
        let forwarding = SysctlKey::Forwarding(Family::V6);
        assert_eq!(driver.kernel.sysctl(&forwarding).as_deref(), Some("1"));
        let default = driver.kernel.host().default_interface(Family::V6).map(str::to_owned);
        assert_eq!(default.as_deref(), Some("int0"), "the learned route is gone");
    });
}

/// What others set meanwhile is taken into account at the next look, and is no drift of ours.
#[test]
fn an_interface_that_listens_from_now_on_keeps_listening() {
    on_both_backends(|| {
        let listens = SysctlKey::AcceptRouterAdvertisements("int0".into());
        let mut kernel = kernel(XtFlavour::Nft);
        kernel.write_sysctl(&listens, "0").expect("it exists");
        let mut driver = started_on(kernel, objects());
        assert_eq!(driver.kernel.sysctl(&listens).as_deref(), Some("0"));
        driver.take_events();
        driver.kernel.write_sysctl(&listens, "1").expect("it exists");
        driver.advance(4_000);
        assert_eq!(driver.kernel.sysctl(&listens).as_deref(), Some("2"));
        assert!(driver.events().is_empty(), "{:?}", driver.events());
        driver.clean_up();
        assert_eq!(driver.kernel.sysctl(&listens).as_deref(), Some("1"));
    });
}

/// A family that the kernel lacks gets no object.
#[test]
fn a_kernel_without_ipv6_is_served_over_ipv4() {
    on_both_backends(|| {
        let mut kernel = smartnat_sim::SimKernel::new(XtFlavour::Nft);
        kernel.set_families([Family::V4]);
        kernel.add_link("ext1");
        kernel.add_address("ext1", "203.0.113.10/24");
        let driver = started_on(kernel, objects());
        assert_in_sync(&driver);
        let KernelState { xtables, sets, rules, .. } = held(&driver.kernel);
        assert!(xtables.keys().all(|id| id.family == Family::V4));
        assert!(sets.values().all(|s| s.spec.family == Family::V4));
        assert!(rules.iter().all(|r| r.family == Family::V4));
    });
}
