//! T14: nothing that is not ours is ever changed. T16: clean-up leaves what was before the first start.

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{ClusterObject, Family, Protocol};
use smartnat_core::objects::{SysctlKey, XtTable, XtTableId};
use smartnat_sim::scenario::without_mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::arm::{Foreign, config};
use smartnat_tests::on_both_arms;

use super::common::{SIDES, USUAL, at, echo_on, on_all_sides, serve_in_pods};

fn objects() -> Vec<ClusterObject> {
    let all = SIDES.iter().fold(on_all_sides("echo"), |m, s| m.source(s.source));
    [echo_on(&[1, 2]), vec![all.tcp(8080).udp(5353).egress(true).build()]].concat()
}

// T16
on_both_arms!(clean_up_restores_every_line_beside_foreign_objects, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    arm.put_foreign_objects();
    let before = arm.host_lines();
    let first = arm.start(config(), objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    assert_ne!(arm.host_lines(), before);
    serve_in_pods(&mut arm);
    let side = SIDES[0];
    let (from, to) = (at(side.source, 0), at(side.external, 8080));
    let mut lasting = arm.converse(Protocol::Tcp, side.client, from, to);

    let end = arm.clean_up();
    assert!(end.events.iter().any(|e| e.kind == EventKind::CleanedUp), "{:?}", end.events);
    assert_eq!(arm.host_lines(), before);
    let outcome = arm.ask_on_briefly(&mut lasting);
    assert!(!outcome.is_answered(), "a translated connection lives on");
});

// T16
on_both_arms!(clean_up_of_a_bare_host_leaves_a_bare_host, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    let before = arm.host_lines();
    arm.start(config(), objects());
    // The instance that cleans up is another one than that which set up.
    arm.restart(objects());
    arm.clean_up();
    assert_eq!(arm.host_lines(), before);
});

on_both_arms!(foreign_objects_stay_while_we_work, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    arm.put_foreign_objects();
    let before = arm.host_lines();
    arm.start(config(), objects());
    for change in [echo_on(&[3]), vec![without_mapping("echo")], objects()] {
        arm.sync(change);
        let now = arm.host_lines();
        // Sysctls are ours to change; everything else of before is still there.
        let gone = before.iter().filter(|l| !l.contains(" = ")).find(|l| !now.contains(l));
        assert_eq!(gone, None);
    }
});

on_both_arms!(foreign_bits_of_marks_survive, |arms| {
    let mut arm = arms.build(&standard(StandardOptions::default()));
    for family in Family::ALL {
        let table = XtTableId { family, table: XtTable::Mangle };
        // Whatever comes in gets its bits; whatever lost one on its way through is dropped.
        for (chain, rule) in [
            ("PREROUTING", "-j MARK --set-xmark 0x4000/0x4000"),
            ("PREROUTING", "-m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x1/0x1"),
            ("POSTROUTING", "-m conntrack --ctdir REPLY -m mark ! --mark 0x4000/0x4000 -j DROP"),
            ("POSTROUTING", "-m connmark ! --mark 0x1/0x1 -j DROP"),
        ] {
            arm.put(&Foreign::Rule { table, chain, rule });
        }
    }
    let first = arm.start(config(), objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    serve_in_pods(&mut arm);
    for side in SIDES {
        for (protocol, port) in USUAL {
            let outcome = arm.ask((protocol, side.client, side.source, at(side.external, port)));
            assert!(outcome.is_answered(), "{side:?} {protocol}: {outcome}");
        }
    }
});

// T16
on_both_arms!(a_sysctl_that_somebody_set_since_keeps_its_value, |arms| {
    let filter = |uplink: &str| SysctlKey::ReversePathFilter(uplink.into());
    let keys = [filter("ext1"), filter("ext2"), SysctlKey::Forwarding(Family::V4)];
    let mut arm = arms.build(&standard(StandardOptions::default()));
    arm.set_sysctl("gateway", &keys[0], "1");
    arm.start(config(), objects());
    assert_eq!(keys.each_ref().map(|key| arm.sysctl("gateway", key)), ["2", "2", "1"]);
    arm.set_sysctl("gateway", &keys[1], "1");
    let end = arm.clean_up_anew();
    assert!(end.events.iter().any(|e| e.kind == EventKind::CleanedUp), "{:?}", end.events);
    assert_eq!(keys.each_ref().map(|key| arm.sysctl("gateway", key)), ["1", "1", "0"]);
});
