//! What a sync costs: processes do not grow with the number of Mappings, and a change concerns
//! the Mapping that it is about.

use std::collections::BTreeSet;

use smartnat_core::model::IptablesFlavour;

use crate::common::{SIDES, at, both_flavours, servers};
use crate::manifests::{mapping, service};
use crate::station::{Run, Station};

/// First external port.
const FIRST_PORT: u16 = 10_000;

/// A Service with two pods and a Mapping each, a hundred to a file.
fn fill(station: &Station, count: u16) {
    for (number, hundred) in (0..count).collect::<Vec<_>>().chunks(100).enumerate() {
        let texts: Vec<String> = hundred
            .iter()
            .map(|n| {
                let name = format!("s{n}");
                let addresses = [SIDES[0].external, SIDES[1].external];
                let mapping = mapping(&name, &addresses, FIRST_PORT + n, &name);
                service(&name, &["10.244.1.11", "10.244.1.12"]) + "---\n" + &mapping
            })
            .collect();
        station.write(&format!("{number}.yaml"), &texts.join("---\n"));
    }
    station.write("own.yaml", &own(&["10.244.1.11"]));
}

/// The one that changes.
fn own(pods: &[&str]) -> String {
    service("own", pods) + "---\n" + &mapping("own", &[SIDES[0].external], 9000, "own")
}

/// What a change of one endpoint did: log lines of its operations.
fn change(station: &Station, run: &Run) -> (u64, Vec<String>) {
    let before = (run.stats(), run.lines_with(&["apply"]).len());
    station.replace("own.yaml", &own(&["10.244.1.11", "10.244.1.13"]));
    run.wait_status(|status| {
        let own = status.mappings.iter().find(|(key, _)| &*key.name == "own");
        own.is_some_and(|(_, m)| {
            m.configured_addresses.values().all(|pods| pods.len() == 2)
                && m.conditions.iter().all(|condition| condition.status)
        }) && status.in_sync
    });
    // The counters follow the status.
    run.wait_line(&["in sync", &format!("mappings={}", run.status().expect("one").mappings.len())]);
    let synced = smartnat::lab::wait_until(crate::station::PATIENCE, || {
        (run.stats().syncs > before.0.syncs).then_some(())
    });
    assert!(synced.is_some(), "{}", run.log());
    let lines = run.lines_with(&["apply"]).split_off(before.1);
    (run.stats().operations - before.0.operations, lines)
}

#[derive(Debug)]
struct Cost {
    processes: u64,
    change: u64,
    lines: Vec<String>,
}

fn cost(flavour: IptablesFlavour, count: u16) -> Cost {
    let station = Station::new(flavour);
    fill(&station, count);
    let mut command = station.serving("run");
    command.args(["--log-level", "debug"]);
    let mut run = station.start(command);
    run.wait_ready();
    let processes = run.stats().processes_started;
    let _servers = servers(&station.lab);
    for port in [FIRST_PORT, FIRST_PORT + count - 1] {
        let to = at(SIDES[0].external, port);
        let outcome = smartnat::lab::traffic::connect_tcp(
            &station.lab,
            SIDES[0].client,
            None,
            to,
            smartnat::lab::traffic::PATIENT,
        );
        assert!(outcome.is_answered(), "port {port}: {outcome}");
    }
    let (operations, lines) = change(&station, &run);
    run.terminate();
    let again = station.serve();
    assert_eq!(again.stats().operations, 0, "{}", again.log());
    Cost { processes, change: operations, lines }
}

both_flavours!(a_thousand_mappings_need_no_more_processes_than_ten, |flavour| {
    let (few, many) = (cost(flavour, 10), cost(flavour, 1_000));
    assert_eq!(many.processes, few.processes);
    assert!(many.processes <= 40, "{}", many.processes);
    assert_eq!(many.change, few.change);
    assert!(!many.lines.is_empty());
    for line in &many.lines {
        let others: BTreeSet<_> = line
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '-')
            .filter(|word| word.strip_prefix("default/s").is_some())
            .collect();
        assert!(others.is_empty(), "{others:?} in {line}");
    }
    let operations = |cost: &Cost| cost.lines.len();
    assert_eq!(operations(&many), operations(&few), "{:#?}", many.lines);
});
