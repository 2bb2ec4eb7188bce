//! What a gateway's kernel holds against what a fresh start makes of the same cluster (P9, P10).

use smartnat::lab::wait_until;
use smartnat_tests::host_text::host_text_of;

use crate::fleet::{Fleet, name};
use crate::station::{PATIENCE, Run};

/// What a gateway's host held before the program's first start.
#[derive(Debug)]
pub(crate) struct Bare(Vec<String>);

impl Bare {
    /// Looks at a gateway that the program has not run on yet.
    pub(crate) fn of(fleet: &Fleet, gateway: usize) -> Self {
        Self(lines(fleet, gateway))
    }

    /// A gateway in sync holds what a fresh start makes, and a clean-up leaves nothing. Returns
    /// the run of the fresh start.
    #[track_caller]
    pub(crate) fn assert_as_fresh(&self, fleet: &Fleet, gateway: usize, run: Run) -> Run {
        run.terminate();
        let grown = lines(fleet, gateway);
        fleet.finish(gateway, fleet.station.command(&["cleanup"])).expect(0);
        assert_same(
            &lines(fleet, gateway),
            &self.0,
            "after the clean-up",
            "before the first start",
        );
        let run = fleet.serve(gateway);
        // A fresh start may be ready before its addresses are published.
        let built = wait_until(PATIENCE, || (lines(fleet, gateway) == grown).then_some(()));
        if built.is_none() {
            assert_same(&grown, &lines(fleet, gateway), "grown", "built afresh");
        }
        run
    }
}

/// What the host holds, sorted, since sets and routes are printed in the order of their creation.
fn lines(fleet: &Fleet, gateway: usize) -> Vec<String> {
    let text = host_text_of(&fleet.station.lab, &name(gateway), &fleet.station.programs());
    let mut lines: Vec<String> = text.lines().map(comparable).collect();
    lines.sort();
    lines
}

/// A set keeps the size that it once grew to, and has a random start value.
fn comparable(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for option in ["hashsize", "initval"] {
        if let Some(at) = words.iter().position(|word| *word == option) {
            words.drain(at..(at + 2).min(words.len()));
        }
    }
    words.join(" ")
}

#[track_caller]
fn assert_same(one: &[String], other: &[String], one_is: &str, other_is: &str) {
    let lacks = |from: &[String], line: &String| !from.contains(line);
    let only_one: Vec<_> = one.iter().filter(|line| lacks(other, line)).collect();
    let only_other: Vec<_> = other.iter().filter(|line| lacks(one, line)).collect();
    assert!(one == other, "only {one_is}: {only_one:#?}\nonly {other_is}: {only_other:#?}");
}
