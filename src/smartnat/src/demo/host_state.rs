//! Everything of a host that the controller may touch, as text that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use smartnat_core::compile::sysctl_scope;
use smartnat_core::model::GatewayConfig;
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::{Policy, XtFlavour};

use super::DemoError;
use crate::lab::Lab;

/// Programs that print the state, where they are there.
const LISTINGS: [&[&str]; 10] = [
    &["nft", "list", "table", "inet", "smartnat"],
    &["iptables-nft-save"],
    &["ip6tables-nft-save"],
    &["iptables-legacy-save"],
    &["ip6tables-legacy-save"],
    &["ipset", "save"],
    &["ip", "-4", "rule", "show"],
    &["ip", "-6", "rule", "show"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
];

/// Sysctls that are compared.
const SYSCTLS: [&str; 2] = ["/proc/sys/net/ipv4", "/proc/sys/net/ipv6"];

/// Deepest directory of them.
const DEPTH_MAX: u32 = 8;

/// The state of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostState {
    /// Lines by where they come from.
    lines: BTreeMap<String, Vec<String>>,
}

impl HostState {
    /// Reads it.
    pub(super) fn read(lab: &Lab, host: &str) -> Result<Self, DemoError> {
        let mut lines = BTreeMap::new();
        for words in LISTINGS {
            let name = words.join(" ");
            // A flavour of iptables that is not installed has no state.
            let Ok(output) = lab.output(host, words) else { continue };
            let text = String::from_utf8_lossy(&output.stdout);
            let without_empty = name.contains("legacy");
            lines.insert(name, comparable(&text, without_empty));
        }
        let sysctls = lab.run(host, || {
            let mut found = Vec::new();
            for root in SYSCTLS {
                read_below(Path::new(root), DEPTH_MAX, &mut found);
            }
            found
        })?;
        lines.insert("sysctl".into(), sysctls);
        Ok(Self { lines })
    }

    /// That of a simulated host.
    pub(super) fn of_simulated(kernel: &SimKernel, config: &GatewayConfig) -> Self {
        let (xtables, sets) = (iptables_lines(kernel), format!("{:#?}", kernel.sets()));
        let routing = format!("{:#?}", kernel.routing());
        let sysctls = sysctl_lines(kernel, config);
        let places =
            [("iptables", xtables), ("ipset", sets), ("routing", routing), ("sysctl", sysctls)];
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        Self { lines: places.map(|(place, text)| (place.to_owned(), lines(text))).into() }
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }

    /// What is here and not in `before`, and the other way round.
    pub(super) fn differences(&self, before: &Self) -> Vec<String> {
        let places: BTreeSet<&String> = self.lines.keys().chain(before.lines.keys()).collect();
        let of = |state: &Self, place: &String| -> BTreeSet<String> {
            state.lines.get(place).into_iter().flatten().cloned().collect()
        };
        let mut found = Vec::new();
        for place in places {
            let (now, then) = (of(self, place), of(before, place));
            found.extend(now.difference(&then).map(|line| format!("{place}: + {line}")));
            found.extend(then.difference(&now).map(|line| format!("{place}: - {line}")));
        }
        found
    }
}

/// Every sysctl that the controller may change, and the values before ours that are still recorded.
fn sysctl_lines(kernel: &SimKernel, config: &GatewayConfig) -> String {
    let mut lines = String::new();
    for key in sysctl_scope(&kernel.host(), config) {
        let _ = writeln!(lines, "{key} = {:?}", kernel.sysctl(&key));
    }
    for (key, (value, _)) in kernel.sysctls().originals() {
        let _ = writeln!(lines, "{key} was {value:?}");
    }
    lines
}

/// Chains and rules of a simulated host, with the table of each. Empty built-in chains of the legacy
/// flavour are passed over, as on Linux (T16).
fn iptables_lines(kernel: &SimKernel) -> String {
    let is_legacy = kernel.xtables().flavour() == XtFlavour::Legacy;
    let mut lines = String::new();
    for table in kernel.xtables().tables() {
        for (hook, chain) in table.builtins() {
            if !(is_legacy && chain.rules.is_empty() && chain.policy == Policy::Accept) {
                let _ = writeln!(lines, "{:?} {hook:?} {chain:?}", table.id());
            }
        }
        for (name, rules) in table.chains() {
            let _ = writeln!(lines, "{:?} {name:?} {rules:?}", table.id());
        }
    }
    lines
}

/// Without dates and counters; without tables of the legacy flavour that hold nothing, which the
/// kernel keeps once they were used (T16).
fn comparable(text: &str, without_empty_tables: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut table: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let line = line.split(" [").next().unwrap_or(line).to_owned();
        if line.starts_with('*') {
            table = vec![line];
        } else if table.is_empty() {
            lines.push(line);
        } else {
            let ends = line == "COMMIT";
            table.push(line);
            if ends {
                let table = std::mem::take(&mut table);
                let empty = table[1..table.len() - 1].iter().all(|l| l.ends_with(" ACCEPT"));
                if !(without_empty_tables && empty) {
                    lines.extend(table.iter().map(|l| format!("{} {l}", table[0])));
                }
            }
        }
    }
    lines
}

fn read_below(directory: &Path, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && depth > 0 {
            read_below(&path, depth - 1, found);
        } else if let Ok(value) = fs::read_to_string(&path) {
            // What can't be read, such as a trigger, has no value to compare.
            found.push(format!("{} = {}", path.display(), value.trim()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVE: &str = "\
# Generated by somebody
*filter
:INPUT ACCEPT [1:2]
-A INPUT -j DROP
COMMIT
# Completed
*nat
:PREROUTING ACCEPT [0:0]
COMMIT
";

    #[test]
    fn only_empty_tables_of_the_legacy_flavour_are_passed_over() {
        let filter = ["*filter *filter", "*filter :INPUT ACCEPT", "*filter -A INPUT -j DROP"];
        let filter = filter.iter().chain(&["*filter COMMIT"]).map(|l| (*l).to_owned());
        assert_eq!(comparable(SAVE, true), filter.collect::<Vec<_>>());
        assert_eq!(comparable(SAVE, false).len(), 7);
    }

    #[test]
    fn differences_name_place_and_direction() {
        let state = |line: &str| HostState {
            lines: BTreeMap::from([("ipset save".into(), vec![line.into()])]),
        };
        assert_eq!(state("a").differences(&state("a")), [""; 0]);
        assert_eq!(state("a").differences(&state("b")), ["ipset save: + a", "ipset save: - b"]);
    }
}
