//! What changes cost.

use std::collections::BTreeSet;

use crate::results::{Control, Results};
use crate::stats::{Spread, median, slope};
use crate::subjects::Subject;
use crate::svg::Series;
use crate::worker::{Changes, Cold, Kind};

use super::table::{Table, number, spread};

const MILLI: f64 = 1e-3;

/// A part of what was measured, and the factor to the unit of its column.
type Figure<T> = (fn(&T) -> Option<f64>, f64);

fn name(control: &Control) -> String {
    Subject::find(&control.subject).map_or(control.subject.as_str(), |s| s.name).into()
}

/// Why a part is missing that no run has.
fn why(control: &Control) -> String {
    let reasons: BTreeSet<&str> =
        control.runs.iter().filter_map(|run| run.missing.as_deref()).collect();
    let text = reasons.into_iter().collect::<Vec<_>>().join("; ");
    if text.is_empty() { text } else { format!("not measured: {text}") }
}

fn of_cold(control: &Control, part: fn(&Cold) -> Option<f64>, unit: f64) -> Option<Spread> {
    let runs = control.runs.iter().filter_map(|run| run.cold.as_ref());
    Spread::of(runs.filter_map(part).map(|value| value * unit))
}

fn of_changes(
    control: &Control,
    kind: Kind,
    part: fn(&Changes) -> Option<f64>,
    unit: f64,
) -> Option<Spread> {
    let changes = control.runs.iter().filter_map(|run| run.changes.get(&kind));
    Spread::of(changes.filter_map(part).map(|value| value * unit))
}

fn middle(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| number(s.median))
}

#[allow(clippy::cast_precision_loss, reason = "counts and times stay far below 2^52")]
pub(super) fn cold_table(results: &Results) -> String {
    let head = [
        "",
        "Mappings",
        "time, ms",
        "core, ms",
        "apply, ms",
        "read, ms",
        "operations",
        "processes",
        "netlink, bytes",
        "processor, ms",
        "of children, ms",
        "peak memory, MiB",
        "resident memory, MiB",
        "",
    ];
    let parts: [Figure<Cold>; 11] = [
        (|c| Some(c.core_us), MILLI),
        (|c| Some(c.apply_us), MILLI),
        (|c| Some(c.read_us), MILLI),
        (|c| Some(c.operations as f64), 1.0),
        (|c| Some(c.processes as f64), 1.0),
        (|c| c.bytes.map(|bytes| bytes as f64), 1.0),
        (|c| Some(c.processor.own_us as f64), MILLI),
        (|c| Some(c.processor.children_us as f64), MILLI),
        (|c| Some(c.memory.peak_kib as f64), 1.0 / 1024.0),
        (|c| Some(c.memory.resident_kib as f64), 1.0 / 1024.0),
        (|c| Some(c.total_us()), MILLI),
    ];
    let mut table = Table::new(&head);
    for control in &results.control {
        let (total, rest) = parts.split_last().expect("a constant list");
        let lead = [name(control), number(f64::from(control.size))];
        let first = spread(of_cold(control, total.0, total.1));
        let cells = rest.iter().map(|(part, unit)| middle(of_cold(control, *part, *unit)));
        let missing = first.is_empty().then(|| why(control));
        table.row(lead.into_iter().chain([first]).chain(cells).chain(missing));
    }
    table.to_string()
}

#[allow(clippy::cast_precision_loss, reason = "memory stays far below 2^52 KiB")]
#[allow(
    clippy::unnecessary_wraps,
    reason = "one of several measures, of which others may be missing"
)]
fn memory(changes: &Changes) -> Option<f64> {
    Some(changes.memory.peak_kib as f64)
}

/// Kinds of single changes, for people.
const SINGLE: [(Kind, &str); 3] = [
    (Kind::Endpoint, "one endpoint replaced"),
    (Kind::Added, "one Mapping added"),
    (Kind::Deleted, "one Mapping deleted"),
];

pub(super) fn change_table(results: &Results) -> String {
    let head = [
        "change",
        "",
        "Mappings",
        "applied, ms",
        "at rest, ms",
        "p99, ms",
        "core, ms",
        "apply, ms",
        "read, ms",
        "connections, ms",
        "operations",
        "processes",
        "netlink, bytes",
        "processor, ms",
        "of children, ms",
        "made",
    ];
    let parts: [Figure<Changes>; 10] = [
        (|c| Some(c.p99_us), MILLI),
        (|c| Some(c.core_us), MILLI),
        (|c| Some(c.apply_us), MILLI),
        (|c| Some(c.read_us), MILLI),
        (|c| Some(c.list_us), MILLI),
        (|c| Some(c.operations), 1.0),
        (|c| Some(c.processes), 1.0),
        (|c| c.bytes, 1.0),
        (|c| Some(c.own_us), MILLI),
        (|c| Some(c.children_us), MILLI),
    ];
    let mut table = Table::new(&head);
    for (kind, told) in SINGLE {
        for control in &results.control {
            let lead = [told.to_owned(), name(control), number(f64::from(control.size))];
            let applied = of_changes(control, kind, |c| Some(c.applied_us), MILLI);
            if applied.is_none() {
                table.row(lead.into_iter().chain([why(control)]));
                continue;
            }
            let times =
                [applied, of_changes(control, kind, |c| Some(c.median_us), MILLI)].map(spread);
            let cells = parts.iter().map(|(p, unit)| middle(of_changes(control, kind, *p, *unit)));
            let made = made(control, kind);
            table.row(lead.into_iter().chain(times).chain(cells).chain([made]));
        }
    }
    table.to_string()
}

/// How many of all that were asked for.
fn made(control: &Control, kind: Kind) -> String {
    let all = || control.runs.iter().filter_map(|run| run.changes.get(&kind));
    let (made, asked): (u32, u32) = (all().map(|c| c.made).sum(), all().map(|c| c.asked).sum());
    format!("{made} of {asked}")
}

pub(super) fn rolling_table(results: &Results) -> String {
    let head = [
        "",
        "Mappings",
        "a pod applied, ms",
        "at rest, ms",
        "p99, ms",
        "all, s",
        "processor, ms a pod",
        "of children, ms a pod",
        "peak memory, MiB",
        "made",
    ];
    let mut table = Table::new(&head);
    for control in &results.control {
        let lead = [name(control), number(f64::from(control.size))];
        let of = |part, unit| of_changes(control, Kind::Rolling, part, unit);
        let applied = of(|c| Some(c.applied_us), MILLI);
        if applied.is_none() {
            table.row(lead.into_iter().chain([why(control)]));
            continue;
        }
        let cells = [
            spread(applied),
            middle(of(|c| Some(c.median_us), MILLI)),
            middle(of(|c| Some(c.p99_us), MILLI)),
            spread(of(|c| Some(c.all_us), 1e-6)),
            middle(of(|c| Some(c.own_us), MILLI)),
            middle(of(|c| Some(c.children_us), MILLI)),
            middle(of(memory, 1.0 / 1024.0)),
            made(control, Kind::Rolling),
        ];
        table.row(lead.into_iter().chain(cells));
    }
    table.to_string()
}

/// Subjects in the order of the results.
fn subjects(results: &Results) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for control in &results.control {
        if !keys.contains(&control.subject.as_str()) {
            keys.push(&control.subject);
        }
    }
    keys
}

/// Number of Mappings and median of a time of a change in microseconds.
fn points(
    results: &Results,
    subject: &str,
    kind: Kind,
    time: fn(&Changes) -> f64,
) -> Vec<(f64, f64)> {
    let own = results.control.iter().filter(|control| control.subject == subject);
    let point = |control: &Control| {
        let medians = control.runs.iter().filter_map(|run| run.changes.get(&kind));
        Some((f64::from(control.size), median(medians.map(time))?))
    };
    own.filter_map(point).collect()
}

/// What each further thousand of Mappings adds, and how often the time of the smallest size the largest takes.
fn growth(points: &[(f64, f64)]) -> [String; 2] {
    let by_thousand = slope(points).map(|by_one| number(by_one * 1000.0)).unwrap_or_default();
    let ends = points.first().zip(points.last()).filter(|(a, b)| a != b);
    let ratio = ends.map(|((from, few), (to, many))| {
        format!("{:.2} ({} to {})", many / few, number(*from), number(*to))
    });
    [by_thousand, ratio.unwrap_or_default()]
}

pub(super) fn slope_table(results: &Results) -> String {
    let head = [
        "change",
        "",
        "applied: µs for each 1,000 Mappings more",
        "largest to smallest",
        "at rest: µs for each 1,000 Mappings more",
        "largest to smallest",
    ];
    let mut table = Table::new(&head);
    for (kind, told) in SINGLE {
        for subject in subjects(results) {
            let name = Subject::find(subject).map_or(subject, |s| s.name);
            let times: [fn(&Changes) -> f64; 2] = [|c| c.applied_us, |c| c.median_us];
            let cells = times.into_iter().flat_map(|t| growth(&points(results, subject, kind, t)));
            table.row([told.into(), name.into()].into_iter().chain(cells));
        }
    }
    table.to_string()
}

/// Milliseconds until one replaced endpoint is in the kernel by size, a line a subject.
pub(super) fn change_series(results: &Results) -> Vec<Series> {
    let line = |subject| {
        let points = points(results, subject, Kind::Endpoint, |c| c.applied_us).into_iter();
        let name = Subject::find(subject).map_or(subject, |s| s.name);
        let style = Subject::place(subject);
        Series { name: name.into(), style, points: points.map(|(x, y)| (x, y * MILLI)).collect() }
    };
    subjects(results).into_iter().map(line).collect()
}
