//! T17 with the running program: what somebody changes of ours is back within 5 s, and a line
//! of the log says so.

use smartnat::lab::wait_until;
use smartnat_core::model::Protocol;

use crate::common::{SIDES, ask, at, both_flavours, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{GATEWAY, REPAIR, Station};

both_flavours!(whatever_is_damaged_is_back_within_five_seconds_and_told, |flavour| {
    let station = Station::new(flavour);
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    let all = [SIDES[0].external, SIDES[1].external];
    station.write("mapping.yaml", &(echo_mapping(&all) + "  egress: true\n"));
    station.write(
        "restricted.yaml",
        &(mapping("restricted", &all, 9000, "echo") + "  allowedSources: [192.0.2.0/24]\n"),
    );
    let run = station.serve();
    let _servers = servers(&station.lab);
    let wanted = station.host_lines();
    let (v4, v6) = (station.programs().v4, station.programs().v6);
    let damages = [
        format!("{v4} -t nat -F SMARTNAT-DNAT"),
        format!("{v4} -t nat -F PREROUTING"),
        format!("{v4} -t mangle -F"),
        format!("{v6} -t mangle -F SMARTNAT-GUARD"),
        format!("{v4} -t mangle -I SMARTNAT-TRANSIT -j ACCEPT"),
        "ipset flush smartnat-x4".into(),
        "ipset add smartnat-x6 2001:db8::bad".into(),
        "ip rule flush protocol 83".into(),
        "ip rule del pref 20000".into(),
        "ip -6 rule flush protocol 83".into(),
        "ip route flush table 7001".into(),
        "sysctl -qw net.ipv4.ip_forward=0".into(),
        "sysctl -qw net.ipv4.conf.ext1.rp_filter=1".into(),
        "sysctl -qw net.ipv6.conf.all.forwarding=0".into(),
    ];
    for damage in &damages {
        let told = run.lines_with(&["WARN", "put back"]).len();
        let words: Vec<&str> = damage.split_ascii_whitespace().collect();
        station.lab.command(GATEWAY, &words).expect("damage");
        let back = wait_until(REPAIR, || {
            let event = run.lines_with(&["WARN", "put back"]).len() > told;
            (event && station.host_lines() == wanted).then_some(())
        });
        let difference = difference(&wanted, &station.host_lines());
        assert!(back.is_some(), "{damage}: {difference:#?}\n{}", run.log());
    }
    for side in &SIDES[..2] {
        let to = at(side.external, 8080);
        let outcome = ask(&station.lab, Protocol::Tcp, side.client, side.source, to);
        assert_eq!(outcome.server(), Some("pod1"), "{side:?}: {outcome}");
    }
    assert!(run.status().is_some_and(|status| status.in_sync));
    // Each repair is told once.
    let told = run.lines_with(&["WARN", "put back"]).len();
    assert_eq!(told, damages.len(), "{}", run.log());
    run.terminate();
});

fn difference(wanted: &[String], found: &[String]) -> Vec<String> {
    let missing = wanted.iter().filter(|line| !found.contains(line)).map(|l| format!("- {l}"));
    let extra = found.iter().filter(|line| !wanted.contains(line)).map(|l| format!("+ {l}"));
    missing.chain(extra).collect()
}

both_flavours!(changes_of_others_are_no_damage_and_cost_no_operation, |flavour| {
    let station = Station::new(flavour);
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
    let run = station.serve();
    let before = run.stats();
    let programs = station.programs();
    smartnat_tests::host_text::foreign_objects(&station.lab, &programs);
    station.sh(&format!("{} -I FORWARD -s 192.0.2.99 -j ACCEPT", programs.v4));
    // A damage afterwards shows that all of that has been looked at.
    station.sh("ip rule del pref 20000");
    run.wait_line(&["WARN", "put back"]);
    let repair = wait_until(REPAIR, || {
        let operations = run.stats().operations - before.operations;
        (operations > 0).then_some(operations)
    });
    let others = run.lines_with(&["put back"]);
    let named = others.iter().all(|line| line.contains("20000") || line.contains("rp_filter"));
    assert!(named && repair.is_some_and(|n| n <= 6), "{repair:?} {others:?}");
    run.terminate();
});
