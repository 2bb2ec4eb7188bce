//! T14: nothing that is not ours is ever changed. T16: clean-up leaves what was before the first start.

use smartnat::lab::{Lab, traffic};
use smartnat_core::gateway::EventKind;
use smartnat_core::model::{IptablesFlavour, Protocol};
use smartnat_sim::scenario::{mapping, without_mapping};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, at, both_flavours, echo_on, ip, servers};
use smartnat_tests::host_text::{Programs, foreign_objects, host_text};

fn objects() -> Vec<smartnat_core::model::ClusterObject> {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external).source(s.source));
    [echo_on(&[1, 2]), vec![all.tcp(8080).udp(5353).egress(true).build()]].concat()
}

both_flavours!(clean_up_restores_every_line_beside_foreign_objects, |flavour| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let programs = Programs::of(flavour);
    foreign_objects(&lab, &programs);
    let before = host_text(&lab, &programs);
    let (mut rig, first) = Rig::start_in(lab, RigOptions::new(flavour), objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    assert_ne!(host_text(&rig.lab, &programs), before);
    let _servers = servers(&rig.lab);
    let side = SIDES[0];
    let from = Some(std::net::SocketAddr::new(ip(side.source), 0));
    let mut lasting = traffic::open(
        &rig.lab,
        side.client,
        Protocol::Tcp,
        from,
        at(side.external, 8080),
        traffic::PATIENT,
    )
    .expect("the lab")
    .expect("a connection");
    assert!(lasting.ask("1", traffic::PATIENT).is_answered());

    let end = rig.clean_up();
    assert!(end.events.iter().any(|e| e.kind == EventKind::CleanedUp), "{:?}", end.events);
    assert_eq!(host_text(&rig.lab, &programs), before);
    assert!(!lasting.ask("2", traffic::BRIEF).is_answered(), "a translated connection lives on");
});

both_flavours!(clean_up_of_a_bare_host_leaves_a_bare_host, |flavour| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let programs = Programs::of(flavour);
    let before = host_text(&lab, &programs);
    let (mut rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects());
    // The instance that cleans up is another one than that which set up.
    rig.restart(objects());
    rig.clean_up();
    let after = host_text(&rig.lab, &programs);
    if flavour == IptablesFlavour::Legacy {
        // The kernel keeps a legacy table once it was used.
        let filled = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|l| l.starts_with("-A") || l.contains("smartnat"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(filled(&after), filled(&before));
    } else {
        assert_eq!(after, before);
    }
});

both_flavours!(foreign_objects_stay_while_we_work, |flavour| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let programs = Programs::of(flavour);
    foreign_objects(&lab, &programs);
    let before = host_text(&lab, &programs);
    let (mut rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects());
    for change in [echo_on(&[3]), vec![without_mapping("echo")], objects()] {
        rig.sync(change);
        let now = host_text(&rig.lab, &programs);
        let lines: Vec<&str> = now.lines().collect();
        // Sysctls are ours to change; everything else of before is still there.
        let gone = before.lines().filter(|l| !l.contains(" = ")).find(|l| !lines.contains(l));
        assert_eq!(gone, None);
    }
});

/// How many packets the n-th rule of a foreign chain has counted.
fn counted(lab: &Lab, iptables: &str, chain: &str, rule: &str) -> u64 {
    let listed = lab.command("gateway", &[iptables, "-t", "mangle", "-nvxL", chain, rule]);
    let listed = listed.expect("a counter");
    let packets = listed.split_whitespace().next().and_then(|w| w.parse().ok());
    packets.unwrap_or_else(|| panic!("no counter: {listed}"))
}

both_flavours!(foreign_bits_of_marks_survive, |flavour| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    let programs = Programs::of(flavour);
    for iptables in [programs.v4, programs.v6] {
        let rules = [
            "-A PREROUTING -j MARK --set-xmark 0x4000/0x4000",
            "-A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x1/0x1",
            "-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -m conntrack --ctdir REPLY -j ACCEPT",
            "-A POSTROUTING -m connmark ! --mark 0x1/0x1 -j ACCEPT",
            "-A POSTROUTING -m mark --mark 0x4000/0x4000 -m connmark --mark 0x1/0x1 -j ACCEPT",
        ];
        for rule in rules {
            let words: Vec<&str> =
                [iptables, "-t", "mangle"].into_iter().chain(rule.split(' ')).collect();
            lab.command("gateway", &words).expect("a foreign rule");
        }
    }
    let (rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects());
    let _servers = servers(&rig.lab);
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let outcome =
                ask(&rig.lab, protocol, side.client, side.source, at(side.external, port));
            assert!(outcome.is_answered(), "{side:?} {protocol}: {outcome}");
        }
    }
    for iptables in [programs.v4, programs.v6] {
        // Our jump is the first rule; nothing lost a bit, and there was something to lose.
        let [unmarked, unmarked_connection, both] =
            ["2", "3", "4"].map(|rule| counted(&rig.lab, iptables, "POSTROUTING", rule));
        assert_eq!((unmarked, unmarked_connection), (0, 0), "{iptables}");
        assert!(both > 20, "{iptables}: {both}");
    }
});

both_flavours!(a_sysctl_that_somebody_set_since_keeps_its_value, |flavour| {
    let lab = Lab::build(&standard(StandardOptions::default())).expect("the lab is built");
    lab.set_sysctl("gateway", "net.ipv4.conf.ext1.rp_filter", "1").expect("a sysctl");
    let (mut rig, _) = Rig::start_in(lab, RigOptions::new(flavour), objects());
    let read = |rig: &Rig, key| rig.lab.sysctl("gateway", key).expect("a sysctl");
    let keys =
        ["net.ipv4.conf.ext1.rp_filter", "net.ipv4.conf.ext2.rp_filter", "net.ipv4.ip_forward"];
    assert_eq!(keys.map(|key| read(&rig, key)), ["2", "2", "1"]);
    rig.kill();
    rig.lab.set_sysctl("gateway", keys[1], "1").expect("a sysctl");
    let end = rig.clean_up_anew();
    assert!(end.events.iter().any(|e| e.kind == EventKind::CleanedUp), "{:?}", end.events);
    assert_eq!(keys.map(|key| read(&rig, key)), ["1", "1", "0"]);
});
