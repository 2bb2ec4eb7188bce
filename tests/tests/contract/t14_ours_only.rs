//! T14: nothing that is not ours is ever changed. T16: clean-up leaves what was before the first start.

use smartnat::lab::{Lab, traffic};
use smartnat_core::gateway::EventKind;
use smartnat_core::model::{IptablesFlavour, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, at, both_flavours, echo_on, ip, servers};
use super::snapshot::{Programs, foreign_objects, host_text};

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
