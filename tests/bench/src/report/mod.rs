//! The report: text around tables of what was measured, and plots.

mod control;
mod table;
#[cfg(test)]
mod tests;
mod traffic;

use std::fmt::Write as _;

use crate::cluster::ON_ONE_ADDRESS;
use crate::results::{Machine, Results, Settings};
use crate::svg::Plot;
use table::{Table, number};

/// File of the plot of new connections.
const CONNECT_PLOT: &str = "connect.svg";
/// File of the plot of one change.
const CHANGE_PLOT: &str = "change.svg";

/// The plots by name of their file.
pub(crate) fn plots(results: &Results) -> [(&'static str, String); 2] {
    let connect = Plot {
        title: "New connection",
        value: "median of connect(), relative to forwarding without NAT",
        series: traffic::connect_series(results),
    };
    let change = Plot {
        title: "One endpoint changes",
        value: "ms from the changed object to the last change of rules in the kernel, median",
        series: control::change_series(results),
    };
    [(CONNECT_PLOT, connect.svg()), (CHANGE_PLOT, change.svg())]
}

/// The whole report in Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::from("# Performance\n\n");
    text += &introduction(&results.machine, &results.settings);
    let mut section = |title: &str, body: &str| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {title}\n\n{body}");
    };
    section("New connections", &new_connections(results));
    section("Established connections", &established(results));
    section("First sync", &first_sync(results));
    section("One change", &one_change(results));
    section("A rolling update", &rolling(results));
    if !results.core.is_empty() {
        section("The core alone", &core_alone(results));
    }
    text
}

fn introduction(machine: &Machine, settings: &Settings) -> String {
    let versions: Vec<String> =
        machine.versions.iter().map(|(program, version)| format!("{program}: {version}")).collect();
    let mut text = format!(
        "Written by `make bench`; [results.json](results.json) has every figure. Client, gateway and server are network \
         namespaces of one machine, joined by veth pairs, and all traffic is IPv4. \
         The absolute figures are this machine's; what travels are the ratios, which are taken \
         within each run.\n\n\
         | | |\n|---|---|\n\
         | machine | {}, {} processors, {} MiB |\n| kernel | {} |\n| versions | {} |\n\
         | date | {} |\n| command | `{}` |\n",
        machine.processor,
        machine.processors,
        machine.memory_mib,
        machine.kernel,
        versions.join("; "),
        machine.date,
        machine.command,
    );
    if settings.debug_build {
        text += "\n**Built without optimisation: the figures show that the measurement works, and nothing else.**\n";
    }
    let _ = write!(
        text,
        "\nA Mapping has a TCP port, a Service of its own and two endpoints; {ON_ONE_ADDRESS} Mappings share an external \
         address. SmartNat runs with its defaults: guard, masquerade, marks of the uplink. \"A rule for each \
         Mapping\" is what one would write by hand: one chain of DNAT rules, one for each Mapping, and masquerade. \
         iptables is its {} flavour. \
         Each subject has networks of its own, all of them exist at the same time, and they take turns: {} runs, the \
         median counts, and the smallest and the largest are in brackets. A part gets {} s; what takes longer is told so.\n",
        settings.flavour, settings.runs, settings.limit_seconds,
    );
    text
}

fn new_connections(results: &Results) -> String {
    format!(
        "{} connections a run, one after the other, each from an address and port that were not used before \
         (a remembered connection would be translated without a look at the rules), each reset at once. The client \
         is bound to the first processor, the server to the last; what the gateway does happens on the client's. \
         Time is that of `connect()`.\n\n![Median of connect() by number of Mappings]({CONNECT_PLOT})\n\n{}",
        results.settings.connections,
        traffic::connect_table(results),
    )
}

fn established(results: &Results) -> String {
    format!(
        "One TCP stream, and UDP datagrams of 64 octets as fast as one client sends them, {} s each run; \
         counted is what arrives. The relation is to forwarding without NAT.\n\n{}",
        results.settings.stream_seconds,
        traffic::stream_table(results),
    )
}

fn first_sync(results: &Results) -> String {
    format!(
        "A process of its own programs all Mappings into an empty network and reads them back. Core is the time of \
         decisions, apply that of changing the kernel, read that of reading it. Processor time is of the process \
         and of its children. Peak memory is the most that the process had (`VmHWM`), resident memory what it has when all is \
         done (`VmRSS`) and it has handed back what is free, as the program does; the objects of the cluster are in both. \
         Median of {} runs.\n\n{}",
        results.settings.control_runs,
        control::cold_table(results),
    )
}

fn one_change(results: &Results) -> String {
    format!(
        "{} of each kind a run, in the same process. *Applied* is the time from the changed object until the kernel \
         has the last change of rules, *at rest* until the gateway has judged connections and has read back what it \
         reads back; a part of that is the list of connections, which takes the kernel a walk over its whole hash table. \
         A watch event's way from the API server is not in it.\n\n![Cost of one change by number of Mappings]({CHANGE_PLOT})\n\n{}\n\
         How the cost of one change grows:\n\n{}",
        results.settings.turns,
        control::change_table(results),
        control::slope_table(results),
    )
}

fn rolling(results: &Results) -> String {
    format!(
        "A Service with {} pods beside the others; one pod after the other is replaced, each a change of its own.\n\n{}",
        results.settings.pods,
        control::rolling_table(results),
    )
}

fn core_alone(results: &Results) -> String {
    let mut table = Table::new(&["change", "part", "Mappings", "mean, µs"]);
    for figure in &results.core {
        let (kind, part) = (figure.kind.clone(), figure.part.clone());
        table.row([kind, part, number(f64::from(figure.size)), number(figure.mean_us)]);
    }
    let lead = "`cargo bench -p smartnat-sim --bench gateway` (criterion): one change on the simulated kernel, whose own time \
                is left out.\n\n";
    format!("{lead}{table}")
}
