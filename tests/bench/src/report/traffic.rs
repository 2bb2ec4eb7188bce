//! What traffic costs.

use crate::results::{Results, Traffic, TrafficRun};
use crate::stats::{Spread, ratios};
use crate::subjects::{BASELINE, SUBJECTS, Subject};
use crate::svg::Series;

use super::table::{Table, number, relation, spread};

type Part = fn(&TrafficRun) -> f64;

const MEDIAN: Part = |run| run.connects.median_us;
const P99: Part = |run| run.connects.p99_us;
const PER_SECOND: Part = |run| run.connects.per_second;
const STREAM: Part = |run| run.stream_gbits;
const DATAGRAMS: Part = |run| run.datagrams;

/// One value a run, of the runs that another line has as well: what stopped early stays comparable.
fn paired(of: &Traffic, with: &Traffic, part: Part) -> (Vec<f64>, Vec<f64>) {
    let partner = |run: &TrafficRun| with.runs.iter().find(|other| other.run == run.run);
    let pairs = of.runs.iter().filter_map(|run| Some((part(run), part(partner(run)?))));
    pairs.unzip()
}

fn relative(of: &Traffic, to: Option<&Traffic>, part: Part) -> Option<Spread> {
    let (values, base) = paired(of, to?, part);
    Spread::of(ratios(&values, &base))
}

fn all(of: &Traffic, part: Part) -> Option<Spread> {
    Spread::of(of.runs.iter().map(part))
}

fn baseline(results: &Results) -> Option<&Traffic> {
    results.traffic.iter().find(|traffic| traffic.subject == BASELINE)
}

/// The same subject with the fewest Mappings.
fn smallest<'a>(results: &'a Results, of: &Traffic) -> Option<&'a Traffic> {
    let same = results.traffic.iter().filter(|t| t.subject == of.subject && t.size.is_some());
    same.min_by_key(|traffic| traffic.size)
}

fn lead(traffic: &Traffic) -> [String; 2] {
    let name = Subject::find(&traffic.subject).map_or(traffic.subject.as_str(), |s| s.name);
    let size = traffic.size.map_or_else(|| "–".into(), |size| number(f64::from(size)));
    [name.into(), size]
}

/// One row a line, or why there is none.
fn rows(results: &Results, table: &mut Table, cells: impl Fn(&Traffic) -> Vec<String>) {
    for traffic in &results.traffic {
        let measured = if traffic.runs.is_empty() { Vec::new() } else { cells(traffic) };
        let missing = traffic.missing.iter().map(|why| format!("not measured: {why}"));
        table.row(lead(traffic).into_iter().chain(measured).chain(missing));
    }
}

pub(super) fn connect_table(results: &Results) -> String {
    let first = results.settings.sizes.first().copied().unwrap_or(1);
    let head = [
        "",
        "Mappings",
        "median, µs",
        "to forwarding",
        &format!("to {first} Mapping{}", if first == 1 { "" } else { "s" }),
        "p99, µs",
        "connections/s",
        "",
    ];
    let mut table = Table::new(&head);
    rows(results, &mut table, |traffic| {
        vec![
            spread(all(traffic, MEDIAN)),
            relation(relative(traffic, baseline(results), MEDIAN)),
            relation(relative(traffic, smallest(results, traffic), MEDIAN)),
            spread(all(traffic, P99)),
            spread(all(traffic, PER_SECOND)),
        ]
    });
    table.to_string()
}

pub(super) fn stream_table(results: &Results) -> String {
    let head =
        ["", "Mappings", "TCP, Gbit/s", "to forwarding", "UDP, packets/s", "to forwarding", ""];
    let mut table = Table::new(&head);
    rows(results, &mut table, |traffic| {
        vec![
            spread(all(traffic, STREAM)),
            relation(relative(traffic, baseline(results), STREAM)),
            spread(all(traffic, DATAGRAMS)),
            relation(relative(traffic, baseline(results), DATAGRAMS)),
        ]
    });
    table.to_string()
}

/// Relation to forwarding by size, a line a subject; forwarding itself is the line at 1.
pub(super) fn connect_series(results: &Results) -> Vec<Series> {
    let sizes = || results.settings.sizes.iter().copied().map(f64::from);
    let line = |subject: &Subject| {
        let points = if subject.key == BASELINE {
            sizes().map(|size| (size, 1.0)).collect()
        } else {
            let own = results.traffic.iter().filter(|t| t.subject == subject.key);
            let point = |t: &Traffic| {
                let value = relative(t, baseline(results), MEDIAN)?.median;
                Some((f64::from(t.size?), value))
            };
            own.filter_map(point).collect()
        };
        Series { name: subject.name.into(), style: Subject::place(subject.key), points }
    };
    SUBJECTS.iter().map(line).collect()
}
