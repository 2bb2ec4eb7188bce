//! T16: clean-up switches forwarding off where we had switched it on, unless others need it. On Linux
//! alone: who needs it is found by a survey of the real host.

use smartnat::lab::Lab;
use smartnat::lab::traffic::{Outcome, Server};
use smartnat_core::gateway::{Event, EventKind};
use smartnat_core::model::{Family, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::Ruleset;
use smartnat_tests::{Rig, RigOptions, Step};

use super::common::{SIDES, ask, ask_briefly, at, echo_on};
use super::rulesets::all_rulesets;
use smartnat_tests::host_text::Programs;

const FORWARDING: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
/// A pod, and what the gateway's default route leads to.
const WAYS: [(&str, &str); 2] = [("10.244.1.11", "172.31.0.1"), ("fd00:244:1::11", "fd00:31::1")];

fn lab() -> Lab {
    Lab::build(&standard(StandardOptions { office: true })).expect("the lab is built")
}

/// Pods reach the office with an address of the gateway.
fn masquerade(lab: &Lab, iptables: &str, family: Family) {
    let office = if family == Family::V4 { "172.31.0.0/16" } else { "fd00:31::/64" };
    let rule = ["-t", "nat", "-A", "POSTROUTING", "-d", office, "-j", "MASQUERADE"];
    lab.command("gateway", &[&[iptables][..], &rule].concat()).expect("a foreign rule");
}

fn start(lab: Lab, options: RigOptions) -> Rig {
    let all = SIDES.iter().fold(mapping("echo"), |m, side| m.address(side.external));
    let (rig, first) =
        Rig::start_in(lab, options, [echo_on(&[1]), vec![all.tcp(8080).build()]].concat());
    assert!(first.status.in_sync, "{:?}", first.events);
    rig
}

fn forwarding(rig: &Rig) -> [String; 2] {
    FORWARDING.map(|key| rig.lab.sysctl("gateway", key).expect("a sysctl"))
}

fn kept(step: &Step) -> Vec<&Event> {
    assert!(step.events.iter().any(|e| e.kind == EventKind::CleanedUp), "{:?}", step.events);
    step.events.iter().filter(|e| e.kind == EventKind::ForwardingKept).collect()
}

all_rulesets!(
    where_others_translate_forwarding_stays_on_and_their_traffic_flows,
    |ruleset: Ruleset| {
        let programs = Programs::of(ruleset.flavour());
        let lab = lab();
        masquerade(&lab, programs.v4, Family::V4);
        masquerade(&lab, programs.v6, Family::V6);
        let mut rig = start(lab, RigOptions::new(ruleset));
        let step = rig.clean_up_beside_others();
        let kept = kept(&step);
        assert_eq!(kept.len(), 2, "{:?}", step.events);
        for (event, family) in kept.iter().zip(Family::ALL) {
            assert!(event.message.contains(&family.to_string()), "{event:?}");
            assert!(event.message.contains("MASQUERADE in nat/POSTROUTING"), "{event:?}");
        }
        assert_eq!(forwarding(&rig), ["1", "1"]);
        let _office = Server::start(&rig.lab, "office", &[8080], &[5353]).expect("a server");
        for (from, to) in WAYS {
            for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
                let outcome = ask(&rig.lab, protocol, "pod1", from, at(to, port));
                assert_eq!(outcome.server(), Some("office"), "{to} {protocol}: {outcome}");
            }
        }
        // Nothing remembers that it was ever off.
        let mut again = rig.clean_up_beside_others();
        again.events.retain(|e| e.kind != EventKind::CleanedUp);
        assert_eq!(again.operations, 0);
        assert!(again.events.is_empty(), "{:?}", again.events);
    }
);

all_rulesets!(only_the_family_that_others_need_stays_on, |ruleset: Ruleset| {
    let lab = lab();
    masquerade(&lab, Programs::of(ruleset.flavour()).v4, Family::V4);
    let mut rig = start(lab, RigOptions::new(ruleset));
    assert_eq!(forwarding(&rig), ["1", "1"]);
    let step = rig.clean_up_beside_others();
    assert_eq!(kept(&step).len(), 1, "{:?}", step.events);
    assert_eq!(forwarding(&rig), ["1", "0"]);
});

all_rulesets!(a_bridge_with_a_port_needs_both_families, |ruleset| {
    let mut rig = start(lab(), RigOptions::new(ruleset));
    for words in [
        "ip link add br9 type bridge",
        "ip link add guest9 type veth peer name port9",
        "ip link set port9 master br9",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        rig.lab.command("gateway", &words).expect("a link");
    }
    let step = rig.clean_up_beside_others();
    let kept = kept(&step);
    assert_eq!(kept.len(), 2, "{:?}", step.events);
    assert!(kept.iter().all(|event| event.message.contains("bridge br9")), "{kept:?}");
    assert_eq!(forwarding(&rig), ["1", "1"]);
});

all_rulesets!(where_nobody_needs_it_forwarding_goes_off_again, |ruleset| {
    let mut rig = start(lab(), RigOptions::new(ruleset));
    assert_eq!(forwarding(&rig), ["1", "1"]);
    let step = rig.clean_up_beside_others();
    assert!(kept(&step).is_empty(), "{:?}", step.events);
    assert_eq!(forwarding(&rig), ["0", "0"]);
    let _office = Server::start(&rig.lab, "office", &[8080], &[5353]).expect("a server");
    for (from, to) in WAYS {
        let outcome = ask_briefly(&rig.lab, Protocol::Tcp, "pod1", from, at(to, 8080));
        assert_eq!(outcome, Outcome::TimedOut, "{to}");
    }
});
