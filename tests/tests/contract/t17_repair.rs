//! T17: what somebody flushes, edits or deletes of ours is back at the next look, and an event says so.

use smartnat_core::gateway::EventKind;
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, at, both_flavours, echo_on, servers};
use smartnat_tests::host_text::{Programs, host_text};

both_flavours!(every_kind_of_object_is_put_back, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external).source(s.source));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).egress(true).build()]].concat();
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), objects);
    let _servers = servers(&rig.lab);
    let programs = Programs::of(flavour);
    let wanted = sorted(&host_text(&rig.lab, &programs));
    let (v4, v6) = (programs.v4, programs.v6);
    let damages: [&[&str]; 14] = [
        &[v4, "-t", "nat", "-F", "SMARTNAT-DNAT"],
        &[v6, "-t", "nat", "-F", "SMARTNAT-DNAT"],
        &[v4, "-t", "nat", "-F"],
        &[v4, "-t", "nat", "-F", "PREROUTING"],
        &[v4, "-t", "mangle", "-I", "SMARTNAT-TRANSIT", "-j", "ACCEPT"],
        &[v6, "-t", "mangle", "-D", "SMARTNAT-GUARD", "1"],
        &[v4, "-I", "FORWARD", "-m", "comment", "--comment", "SmartNat", "-j", "SMARTNAT-FORWARD"],
        &[v4, "-t", "nat", "-N", "SMARTNAT-STRAY"],
        &["ipset", "flush", "smartnat-x4"],
        &["ipset", "add", "smartnat-x6", "2001:db8::bad"],
        &["ipset", "create", "smartnat-stray", "hash:ip"],
        &["ip", "rule", "flush", "protocol", "83"],
        &["ip", "-6", "route", "flush", "table", "7001"],
        &["sysctl", "-qw", "net.ipv4.ip_forward=0"],
    ];
    for damage in damages {
        rig.lab.command("gateway", damage).expect("damage");
        assert_ne!(sorted(&host_text(&rig.lab, &programs)), wanted, "{damage:?}");
        let repair = rig.kernel_changed();
        assert!(
            repair.events.iter().any(|e| e.kind == EventKind::DriftRepaired),
            "{damage:?}: {:?}",
            repair.events
        );
        assert_eq!(sorted(&host_text(&rig.lab, &programs)), wanted, "{damage:?}");
    }
    for side in SIDES {
        let outcome =
            ask(&rig.lab, Protocol::Tcp, side.client, side.source, at(side.external, 8080));
        assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
    }
});

both_flavours!(another_position_among_foreign_rules_is_no_drift, |flavour| {
    let topology = standard(StandardOptions::default());
    let (mut rig, _) = Rig::start(&topology, RigOptions::new(flavour), Vec::new());
    let programs = Programs::of(flavour);
    rig.lab
        .command("gateway", &[programs.v4, "-I", "FORWARD", "-s", "192.0.2.99", "-j", "ACCEPT"])
        .expect("a foreign rule");
    let look = rig.kernel_changed();
    assert_eq!((look.transactions, look.events), (vec![], vec![]));
});

/// Sets and routes are printed in the order of their creation.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
