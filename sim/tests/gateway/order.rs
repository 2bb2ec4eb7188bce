//! Make before break (T18, P13): what happens at every point between two states.

use std::collections::BTreeSet;

use smartnat_core::gateway::{Gateway, Input};
use smartnat_core::model::{Family, Protocol, ServiceEndpoint};
use smartnat_core::names::fixed_chain;
use smartnat_core::objects::{RuleAction, XtTable, XtTableId};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::service;

use crate::common::walk::{Fate, Packet, fates};
use crate::common::*;
use crate::crashes::change;

/// First packets that meet every sort of Mapping in [`objects`] and [`change`].
pub(crate) fn packets() -> Vec<Packet<'static>> {
    let packet = |uplink, source: &str, destination: &str, protocol, port| Packet {
        uplink,
        source: ip(source),
        destination: ip(destination),
        protocol,
        port,
    };
    let (one, two) = (("ext1", 1), ("ext2", 2));
    vec![
        packet(one, "192.0.2.5", EXT1, Protocol::Tcp, 8080),
        packet(one, "192.0.2.200", EXT1, Protocol::Tcp, 8080),
        packet(one, "198.18.0.1", EXT1, Protocol::Tcp, 8080),
        packet(one, "192.0.2.5", EXT1, Protocol::Udp, 5003),
        packet(one, "192.0.2.5", EXT1, Protocol::Udp, 5011),
        packet(one, "2001:db8:c::5", EXT1_V6, Protocol::Tcp, 8080),
        packet(one, "2001:db8:d::5", EXT1_V6, Protocol::Tcp, 8080),
        packet(one, "192.0.2.200", EXT1, Protocol::Tcp, 90),
        packet(one, "192.0.2.5", EXT1_B, Protocol::Tcp, 25),
        packet(two, "192.0.2.5", EXT2, Protocol::Tcp, 443),
        packet(two, "192.0.2.5", EXT2, Protocol::Tcp, 25),
        packet(two, "2001:db8:c::5", EXT2_V6, Protocol::Tcp, 25),
        packet(two, "2001:db8:c::5", EXT2_V6, Protocol::Tcp, 90),
        packet(two, "192.0.2.5", EXT2, Protocol::Tcp, 22),
    ]
}

fn endpoint(address: &str, port: u16) -> Fate {
    Fate::Endpoint(ServiceEndpoint { address: ip(address), port })
}

/// The walk itself, against what the Mappings say.
#[test]
fn new_connections_go_where_the_mappings_say() {
    on_both_backends(|| {
        let driver = settled(XtFlavour::Nft);
        let expected: Vec<BTreeSet<Fate>> = [
            vec![endpoint("10.1.0.7", 8080), endpoint("10.1.0.8", 8080)],
            vec![endpoint("10.1.0.7", 8080), endpoint("10.1.0.8", 8080)],
            vec![Fate::Refused],
            vec![endpoint("10.1.0.7", 6003), endpoint("10.1.0.8", 6003)],
            vec![Fate::Untouched],
            vec![endpoint("fd01::7", 8080)],
            vec![Fate::Refused],
            vec![Fate::Untouched],
            vec![Fate::Untouched],
            vec![endpoint("10.1.0.9", 443), endpoint("10.1.0.10", 443)],
            vec![endpoint("10.1.0.20", 25)],
            vec![endpoint("fd01::20", 25)],
            vec![Fate::Untouched],
            vec![Fate::Untouched],
        ]
        .map(|fates| fates.into_iter().collect())
        .into();
        for (packet, expected) in packets().into_iter().zip(expected) {
            assert_eq!(fates(&driver.kernel, packet), expected, "{packet:?}");
        }
        let mut empty = driver;
        empty.cluster(service("sticky").port("", Protocol::Tcp, 443, 443).build());
        assert_eq!(fates(&empty.kernel, packets()[9]), [Fate::NobodyHome].into());
    });
}

/// P12: where packets are translated, the guard, the marks and the verdicts' rules are there.
#[track_caller]
fn assert_guarded(kernel: &SimKernel) {
    for family in Family::ALL {
        let table = |table| kernel.xtables().table(XtTableId { family, table });
        let jumps = |t: XtTable, chain: &str| {
            let hooks = table(t).into_iter().flat_map(smartnat_sim::kernel::XtTableRules::builtins);
            hooks
                .flat_map(|(_, c)| c.rules.iter())
                .filter(|r| r.jump_target() == Some(&fixed_chain(chain)))
                .count()
        };
        if jumps(XtTable::Nat, "DNAT") == 0 {
            continue;
        }
        for chain in ["MARK", "OUT", "GUARD", "TRANSIT", "LEAVE"] {
            assert_eq!(jumps(XtTable::Mangle, chain), 1, "{family}: mangle {chain}");
        }
        for chain in ["INPUT", "OUTPUT", "FORWARD"] {
            assert_eq!(jumps(XtTable::Filter, chain), 1, "{family}: filter {chain}");
        }
        assert_eq!(jumps(XtTable::Nat, "SNAT"), 1, "{family}: what is translated is masqueraded");
    }
}

/// T11: a mark that a rule looks at leads to a table with a default route.
#[track_caller]
fn assert_rules_lead_somewhere(kernel: &SimKernel) {
    let state = held(kernel);
    for rule in state.rules.iter().filter(|r| r.mark.is_some()) {
        let RuleAction::Lookup { table, .. } = rule.action else { continue };
        let found = table == 254
            || state.routes.iter().any(|r| r.table == table && r.family() == rule.family);
        assert!(found, "{rule:?} leads to an empty table");
    }
}

/// Feeds one input and looks at the kernel after every single operation.
fn watch(
    gateway: &mut Gateway,
    kernel: &mut SimKernel,
    input: Input,
    mut look: impl FnMut(&SimKernel),
) {
    gateway.handle_input(kernel.now(), input);
    run(gateway, kernel, |kernel| {
        assert_guarded(kernel);
        assert_rules_lead_somewhere(kernel);
        look(kernel);
    });
}

#[test]
fn a_cold_start_translates_only_behind_the_guard() {
    on_both_backends(|| {
        let mut kernel = kernel(XtFlavour::Nft);
        let mut gateway = Gateway::new(config());
        let after = settled(XtFlavour::Nft).kernel;
        gateway.handle_input(kernel.now(), Input::Host(kernel.host()));
        watch(&mut gateway, &mut kernel, Input::Cluster(objects()), |kernel| {
            for packet in packets() {
                let now = fates(kernel, packet);
                let wanted = fates(&after, packet);
                assert!(now == [Fate::Untouched].into() || now == wanted, "{packet:?}: {now:?}");
            }
        });
        assert_eq!(held(&kernel), held(&after));
    });
}

/// Every packet meets the old or the new verdict at any point, so one whose verdict does not
/// change keeps it (T18).
#[test]
fn a_change_shows_the_old_or_the_new_at_every_point() {
    on_both_backends(|| {
        let before = settled(XtFlavour::Nft);
        let mut after = before.clone();
        after.cluster(change());
        for (from, to, input) in [
            (&before, &after, change()),
            (&after, &before, {
                // And back again.
                let mut back = objects();
                back.push(smartnat_sim::scenario::without_mapping("new"));
                back
            }),
        ] {
            let (mut gateway, mut kernel) = (from.gateway.clone(), from.kernel.clone());
            watch(&mut gateway, &mut kernel, Input::Cluster(input), |kernel| {
                for packet in packets() {
                    let now = fates(kernel, packet);
                    let (old, new) = (fates(&from.kernel, packet), fates(&to.kernel, packet));
                    assert!(
                        now == old || now == new,
                        "{packet:?}: {now:?}, neither {old:?} nor {new:?}"
                    );
                }
            });
            assert_eq!(held(&kernel), held(&to.kernel));
        }
    });
}

/// P11, P12: down to the last rule.
#[test]
fn a_clean_up_takes_translation_away_before_the_guard() {
    on_both_backends(|| {
        let before = settled(XtFlavour::Nft);
        let (mut gateway, mut kernel) = (before.gateway.clone(), before.kernel.clone());
        let foreign = kernel.foreign();
        watch(&mut gateway, &mut kernel, Input::CleanUp, |kernel| {
            assert_eq!(kernel.foreign(), foreign);
            for packet in packets() {
                let now = fates(kernel, packet);
                let old = fates(&before.kernel, packet);
                assert!(now == old || now == [Fate::Untouched].into(), "{packet:?}: {now:?}");
            }
        });
    });
}

/// T11: what an uplink's connections need to find their way back stays through a change that
/// concerns another uplink.
#[test]
fn the_way_back_of_one_uplink_survives_changes_of_another() {
    on_both_backends(|| {
        let mut driver = settled(XtFlavour::Nft);
        let of_ext1 = |kernel: &SimKernel| {
            let state = held(kernel);
            let routes: Vec<_> =
                state.routes.into_iter().filter(|r| r.interface == "ext1").collect();
            let table = RuleAction::Lookup { table: 7001, suppress_prefix: None };
            let rules: Vec<_> = state.rules.into_iter().filter(|r| r.action == table).collect();
            (routes, rules)
        };
        let wanted = of_ext1(&driver.kernel);
        for change in 0..3 {
            match change {
                0 => driver.kernel.remove_link("ext2"),
                1 => {
                    driver.kernel.add_link("ext3");
                    driver.kernel.add_address("ext3", "198.18.5.1/24");
                }
                _ => driver.kernel.set_link_up("ext3", false),
            }
            let host = Input::Host(driver.kernel.host());
            driver.gateway.handle_input(driver.kernel.now(), host);
            run(&mut driver.gateway, &mut driver.kernel, |kernel| {
                assert_guarded(kernel);
                assert_eq!(of_ext1(kernel), wanted, "change {change}");
            });
            assert!(driver.gateway.status().expect("a status").in_sync);
        }
    });
}
