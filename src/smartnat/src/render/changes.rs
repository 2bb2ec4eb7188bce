//! What differs between two states of a kernel, line by line.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use similar::{Algorithm, ChangeTag, TextDiff};
use smartnat_core::objects::KernelState;

use super::listing::listing;

/// Lines of one object that are shown: a set may hold some of each Mapping.
const MAX_LINES: usize = 100;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is made.
    Add,
    /// Its lines change.
    Change,
    /// It goes.
    Remove,
}

/// One object that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What kind of object, in the words of the tool that shows it: `iptables nat`.
    pub section: String,
    /// Which object.
    pub object: String,
    /// What happens to it.
    pub change: ChangeKind,
    /// Its lines that go and come, in order.
    pub lines: Vec<LineChange>,
}

/// One line that goes or comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineChange {
    /// It comes.
    Add(String),
    /// It goes.
    Remove(String),
}

/// All objects that change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes(pub Vec<Change>);

/// What differs of ours between two states of a kernel.
pub fn changes(before: &KernelState, after: &KernelState) -> Changes {
    let (before, after) = (listing(before), listing(after));
    let objects: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for object in objects {
        let (old, new) = (before.get(object), after.get(object));
        if old == new {
            continue;
        }
        let change = match (old, new) {
            (None, _) => ChangeKind::Add,
            (Some(_), None) => ChangeKind::Remove,
            (Some(_), Some(_)) => ChangeKind::Change,
        };
        let lines = |side: Option<&'_ Vec<String>>| side.cloned().unwrap_or_default();
        let (section, object) = object.clone();
        let lines = line_changes(&lines(old), &lines(new));
        changes.push(Change { section, object, change, lines });
    }
    Changes(changes)
}

fn line_changes(old: &[String], new: &[String]) -> Vec<LineChange> {
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let diff = TextDiff::configure().algorithm(Algorithm::Patience).diff_slices(&old, &new);
    diff.iter_all_changes()
        .filter_map(|change| match change.tag() {
            ChangeTag::Equal => None,
            ChangeTag::Delete => Some(LineChange::Remove(change.value().to_owned())),
            ChangeTag::Insert => Some(LineChange::Add(change.value().to_owned())),
        })
        .collect()
}

impl Changes {
    /// How many objects change in this way.
    pub fn count(&self, kind: ChangeKind) -> usize {
        self.0.iter().filter(|change| change.change == kind).count()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for change in &self.0 {
            if change.section != section {
                section = &change.section;
                writeln!(f, "{section}")?;
            }
            let sign = match change.change {
                ChangeKind::Add => '+',
                ChangeKind::Change => '~',
                ChangeKind::Remove => '-',
            };
            writeln!(f, "{sign} {}", change.object)?;
            for line in change.lines.iter().take(MAX_LINES) {
                match line {
                    LineChange::Add(line) => writeln!(f, "+     {line}")?,
                    LineChange::Remove(line) => writeln!(f, "-     {line}")?,
                }
            }
            let more = change.lines.len().saturating_sub(MAX_LINES);
            if more > 0 {
                writeln!(f, "      … and {more} more lines (-o json has them)")?;
            }
        }
        if self.0.is_empty() {
            return writeln!(f, "Nothing would change.");
        }
        let count = |kind| self.count(kind);
        writeln!(
            f,
            "{} objects would be added, {} changed, {} removed.",
            count(ChangeKind::Add),
            count(ChangeKind::Change),
            count(ChangeKind::Remove)
        )
    }
}

#[cfg(test)]
mod tests;
