//! Which requirement is shown by what kind of test. Run with `--nocapture` to see the table.
//!
//! A test names the requirements that it shows, by number, in its name or a comment. A requirement
//! that is due and that nothing names fails here, as does a number that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A promise, by number.
type Id = (char, u32);

/// Whether something must show it by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Now,
    NotYet,
}

use Due::{NotYet, Now};

/// What traffic, the host and the cluster may rely on, and what holds in every history.
const REQUIREMENTS: &[(Id, &str, Due)] = &[
    (('T', 1), "an allowed client reaches one endpoint and gets its answers", Now),
    (('T', 2), "any other source is dropped in silence", Now),
    (('T', 3), "the guard drops what nobody asked for", Now),
    (('T', 4), "nobody is let through from uplink to uplink or inside", Now),
    (('T', 5), "ports by number, name and range; TCP, UDP, SCTP", Now),
    (('T', 6), "nobody home is answered at once", Now),
    (('T', 7), "pods see the gateway's address or the client's", Now),
    (('T', 8), "new connections spread evenly, with affinity where asked for", Now),
    (('T', 9), "endpoints that end get no new connections", Now),
    (('T', 10), "what is withdrawn ends its connections, and only those", Now),
    (('T', 11), "answers leave where the question came in", Now),
    (('T', 12), "pods and the host reach external addresses too", Now),
    (('T', 13), "pods leave with their Mapping's address", Now),
    (('T', 14), "nothing of others is changed", Now),
    (('T', 15), "a restart does nothing and loses nothing", Now),
    (('T', 16), "clean-up restores what was before", Now),
    (('T', 17), "what others spoil is back soon", Now),
    (('T', 18), "a change leaves the rest in peace", Now),
    (('T', 19), "one owner of an external endpoint in the whole cluster", NotYet),
    (('T', 20), "a deleted Mapping goes when all instances have let go", NotYet),
    (('T', 21), "the status tells what was read back", NotYet),
    (('T', 22), "old news never replace newer ones", NotYet),
    (('T', 23), "an outage of the API server stops nothing", NotYet),
    (('P', 1), "isolation of Mappings", Now),
    (('P', 2), "translated exactly when the source is allowed", Now),
    (('P', 3), "one owner, whatever the order", Now),
    (('P', 4), "answers by the uplink of the question", Now),
    (('P', 5), "no mark combines into another's", Now),
    (('P', 6), "a second diff is empty", Now),
    (('P', 7), "a diff leaves other Mappings' objects alone", Now),
    (('P', 8), "the order of events does not matter", Now),
    (('P', 9), "any history equals a fresh build", Now),
    (('P', 10), "nothing leaks", Now),
    (('P', 11), "what is foreign is never modified", Now),
    (('P', 12), "a crash anywhere is recovered from", Now),
    (('P', 13), "make before break", Now),
    (('P', 14), "calm follows when faults stop", Now),
    (('P', 15), "the status is true in every history", NotYet),
];

/// Kinds of tests, in the order of the ladder.
const KINDS: [&str; 8] =
    ["unit", "golden", "property", "simulated", "fuzz", "kernel", "packets", "program"];

/// Folders that hold tests, alone or beside what they test.
const ROOTS: [&str; 7] =
    ["src/core", "src/linux", "src/cluster", "src/smartnat", "sim/src", "sim/tests", "tests/tests"];

#[test]
fn every_requirement_that_is_due_is_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut shown: BTreeMap<Id, BTreeSet<&str>> = BTreeMap::new();
    for file in ROOTS.iter().flat_map(|folder| rust_files(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let relative = file.strip_prefix(&root).expect("it lies below the root");
        let Some((kinds, tests)) = tests_in(relative, &text) else { continue };
        for id in cited(tests) {
            shown.entry(id).or_default().extend(&kinds);
        }
    }
    println!("{}", table(&shown));
    let known: BTreeSet<Id> = REQUIREMENTS.iter().map(|(id, ..)| *id).collect();
    let unknown: Vec<_> = shown.keys().filter(|id| !known.contains(id)).collect();
    assert!(unknown.is_empty(), "there are no such requirements: {unknown:?}");
    let missing: Vec<_> = REQUIREMENTS
        .iter()
        .filter(|(id, _, due)| *due == Now && !shown.contains_key(id))
        .map(|((letter, number), name, _)| format!("{letter}{number} ({name})"))
        .collect();
    assert!(missing.is_empty(), "no test shows {}", missing.join(", "));
}

/// All Rust files below a folder, but this one, in order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder is readable") {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with(file!()) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The part of a file that is tests, and of which kinds they are.
fn tests_in<'a>(path: &Path, text: &'a str) -> Option<(Vec<&'static str>, &'a str)> {
    let fuzz = path.starts_with("sim/src/fuzz_targets");
    let tests = ["#[test]", "proptest!", "both_flavours!(", "on_both_arms!("];
    if !fuzz && !tests.iter().any(|mark| text.contains(mark)) {
        return None;
    }
    let whole = fuzz
        || path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|n| n.to_string_lossy().ends_with("tests"));
    let tests = if whole { text } else { &text[text.find("#[cfg(test)]")?..] };
    let kind = if fuzz {
        "fuzz"
    } else if path.starts_with("tests/tests/contract") {
        "packets"
    } else if path.starts_with("tests/tests") || path.starts_with("src/smartnat/tests") {
        "program"
    } else if path.starts_with("src/linux/tests") {
        "kernel"
    } else if path.starts_with("sim/tests/properties") || tests.contains("proptest!") {
        "property"
    } else if tests.contains("insta::") || tests.contains("assert_snapshot!") {
        "golden"
    } else if path.starts_with("sim") {
        "simulated"
    } else {
        "unit"
    };
    // Such a description runs on the simulated kernel as well.
    let simulated = tests.contains("on_both_arms!(").then_some("simulated");
    Some((std::iter::once(kind).chain(simulated).collect(), tests))
}

/// Requirements that a text names one by one. A span like T1–T18 shows none of them.
fn cited(text: &str) -> BTreeSet<Id> {
    let mut found = BTreeSet::new();
    let is_span = |c: Option<char>| matches!(c, Some('–' | '-'));
    for (at, letter) in text.char_indices().filter(|(_, c)| matches!(c, 'T' | 'P')) {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = after.split_at(digits);
        let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let (previous, next) = (before.chars().next_back(), rest.chars().next());
        let apart = !in_word(previous) && !in_word(next) && !is_span(previous) && !is_span(next);
        // T0 and P0 are names of other things.
        if let (true, 1..=2, Ok(number @ 1..)) = (apart, digits, number.parse()) {
            found.insert((letter, number));
        }
    }
    found
}

fn table(shown: &BTreeMap<Id, BTreeSet<&str>>) -> String {
    let mut text = String::from("requirement, shown by kinds of tests\n");
    for (id, name, due) in REQUIREMENTS {
        let kinds: Vec<&str> = KINDS
            .into_iter()
            .filter(|kind| shown.get(id).is_some_and(|kinds| kinds.contains(kind)))
            .collect();
        let due = if *due == NotYet { " (not yet due)" } else { "" };
        let number = format!("{}{}", id.0, id.1);
        let _ = writeln!(text, "{number:<4} {name:<66} {}{due}", kinds.join(", "));
    }
    text
}

#[test]
fn spans_and_parts_of_words_show_nothing() {
    let named = |text| cited(text).into_iter().collect::<Vec<_>>();
    assert_eq!(named("T1–T18, T14-T18, xT1, T1x, T123, IP4, t7, T0"), []);
    assert_eq!(named("(T3, P10): T16"), [('P', 10), ('T', 3), ('T', 16)]);
}
