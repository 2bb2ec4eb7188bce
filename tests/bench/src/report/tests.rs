use std::collections::BTreeMap;

use super::*;
use crate::results::{Connects, Control, ControlRun, CoreFigure, Traffic, TrafficRun};
use crate::usage::{Memory, Processor};
use crate::worker::{Changes, Cold, Kind};

fn run(run: u32, median_us: f64) -> TrafficRun {
    let connects = Connects { count: 10, median_us, p99_us: 2.0 * median_us, per_second: 7000.0 };
    TrafficRun { run, connects, stream_gbits: 12.0, datagrams: 400_000.0 }
}

fn traffic(subject: &str, size: Option<u32>, medians: &[f64]) -> Traffic {
    let runs = (0..).zip(medians).map(|(n, median)| run(n, *median)).collect();
    Traffic { subject: subject.into(), size, runs, missing: None }
}

fn changes(median_us: f64) -> Changes {
    Changes {
        asked: 30,
        made: 12,
        applied_us: median_us / 2.0,
        median_us,
        p99_us: 3.0 * median_us,
        all_us: 12.0 * median_us,
        core_us: 100.0,
        apply_us: 200.0,
        read_us: 300.0,
        list_us: 400.0,
        operations: 4.0,
        processes: 2.0,
        bytes: None,
        own_us: 500.0,
        children_us: 600.0,
        memory: Memory { peak_kib: 2048, resident_kib: 1024 },
    }
}

fn control(size: u32, median_us: f64) -> Control {
    let cold = Cold {
        core_us: 1000.0,
        apply_us: 2000.0,
        read_us: 3000.0,
        operations: 77,
        processes: 9,
        bytes: Some(1234),
        processor: Processor { own_us: 4000, children_us: 5000 },
        memory: Memory { peak_kib: 3072, resident_kib: 2048 },
    };
    let of_kind = [Kind::Endpoint, Kind::Added, Kind::Deleted, Kind::Rolling]
        .map(|kind| (kind, changes(median_us)));
    let run = ControlRun { cold: Some(cold), changes: of_kind.into(), done: true, missing: None };
    Control { subject: "iptables".into(), size, runs: vec![run] }
}

fn results() -> Results {
    let mut late = traffic("iptables", Some(1000), &[]);
    late.missing = Some("more than 60 s".into());
    let mut never = control(1000, 1.0);
    never.runs[0] = ControlRun { missing: Some("more than 60 s".into()), ..ControlRun::default() };
    Results {
        machine: Machine { processor: "Fast one".into(), ..Machine::default() },
        settings: Settings {
            sizes: vec![1, 100, 1000],
            runs: 3,
            control_runs: 1,
            connections: 10,
            stream_seconds: 0.4,
            turns: 30,
            pods: 500,
            limit_seconds: 60,
            flavour: "nft".into(),
            debug_build: false,
        },
        traffic: vec![
            traffic("forwarding", None, &[50.0, 100.0, 60.0]),
            traffic("iptables", Some(1), &[60.0, 120.0, 66.0]),
            traffic("iptables", Some(100), &[90.0, 180.0, 99.0]),
            late,
        ],
        control: vec![control(1, 1000.0), control(100, 3000.0), never],
        core: vec![CoreFigure {
            kind: "endpoint".into(),
            part: "all".into(),
            size: 100,
            mean_us: 27.0,
        }],
    }
}

/// The row of the first table under `title` whose first cells are these.
fn row(text: &str, title: &str, cells: &str) -> String {
    let section = text.split("\n## ").find(|s| s.starts_with(title)).expect("the section");
    let found = section.lines().find(|line| line.starts_with(&format!("| {cells} |")));
    found.unwrap_or_else(|| panic!("no row {cells} in:\n{section}")).to_owned()
}

#[test]
fn relations_are_taken_within_a_run() {
    let text = markdown(&results());
    assert_eq!(
        row(&text, "New connections", "SmartNat, iptables | 100"),
        "| SmartNat, iptables | 100 | 99 (90–180) | 1.80 (1.65–1.80) | 1.50 (1.50–1.50) | 198 (180–360) | \
         7,000 (7,000–7,000) |  |"
    );
    let forwarding = row(&text, "New connections", "forwarding without NAT | –");
    assert!(forwarding.contains("| 60 (50–100) | 1.00 (1.00–1.00) |  |"), "{forwarding}");
}

#[test]
fn what_took_too_long_says_so_in_every_table() {
    let text = markdown(&results());
    let expected = "not measured: more than 60 s";
    for title in ["New connections", "Established", "First sync", "A rolling"] {
        let row = row(&text, title, "SmartNat, iptables | 1,000");
        assert!(row.contains(expected), "{row}");
    }
    let row = row(&text, "One change", "one Mapping added | SmartNat, iptables | 1,000");
    assert!(row.contains(expected), "{row}");
}

#[test]
fn the_cost_of_a_change_and_its_growth_are_told() {
    let text = markdown(&results());
    let cold = row(&text, "First sync", "SmartNat, iptables | 1");
    assert_eq!(
        cold,
        "| SmartNat, iptables | 1 | 6 (6–6) | 1 | 2 | 3 | 77 | 9 | 1,234 | 4 | 5 | 3 | 2 |  |"
    );
    let one = row(&text, "One change", "one endpoint replaced | SmartNat, iptables | 100");
    assert!(
        one.contains(
            "| 1.5 (1.5–1.5) | 3 (3–3) | 9 | 0.1 | 0.2 | 0.3 | 0.4 | 4 | 2 |  | 0.5 | 0.6 | 12 of 30 |"
        ),
        "{one}"
    );
    // 1,000 and 2,000 µs more with 99 Mappings more.
    let growth = row(&text, "One change", "one endpoint replaced | SmartNat, iptables | 10,101");
    assert!(
        growth.ends_with("| 10,101 | 3.00 (1 to 100) | 20,202 | 3.00 (1 to 100) |"),
        "{growth}"
    );
    row(&text, "The core alone", "endpoint | all | 100 | 27");
}

#[test]
fn a_debug_build_is_not_taken_for_a_result() {
    let mut results = results();
    assert!(!markdown(&results).contains("without optimisation"));
    results.settings.debug_build = true;
    assert!(markdown(&results).contains("without optimisation"));
}

#[test]
fn plots_show_what_was_measured_and_the_report_shows_the_plots() {
    let results = results();
    let plots: BTreeMap<&str, String> = plots(&results).into();
    // Forwarding at three sizes, iptables at two.
    assert_eq!(plots[CONNECT_PLOT].matches("<circle").count(), 5);
    assert_eq!(plots[CHANGE_PLOT].matches("<circle").count(), 2);
    let text = markdown(&results);
    assert!(plots.keys().all(|name| text.contains(&format!("]({name})"))));
}

#[test]
fn results_survive_their_file() {
    let results = results();
    let text = serde_json::to_string(&results).unwrap();
    assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    // A measured figure has all its digits; one that is off by the last may be rounded otherwise.
    let figures: Vec<f64> = (1..2000).map(|n| f64::from(n) * 1234.567 / 7.3).collect();
    let text = serde_json::to_string(&figures).unwrap();
    assert_eq!(serde_json::from_str::<Vec<f64>>(&text).unwrap(), figures);
}
