//! Which requirement is shown by what kind of test. Run with `--nocapture` to see the table.
//!
//! A test names the requirements that it shows, by number, in its name or a comment of its own; a file
//! that is about one says so in its name or first line. A requirement that no test names
//! fails here, as does a number that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A promise, by number.
type Id = (char, u32);

/// What traffic, the host and the cluster may rely on, and what holds in every history.
const REQUIREMENTS: &[(Id, &str)] = &[
    (('T', 1), "an allowed client reaches one endpoint and gets its answers"),
    (('T', 2), "any other source is dropped in silence"),
    (('T', 3), "the guard drops what nobody asked for"),
    (('T', 4), "nobody is let through from uplink to uplink or inside"),
    (('T', 5), "ports by number, name and range; TCP, UDP, SCTP"),
    (('T', 6), "nobody home is answered at once"),
    (('T', 7), "pods see the gateway's address or the client's"),
    (('T', 8), "new connections spread evenly, with affinity where asked for"),
    (('T', 9), "endpoints that end get no new connections"),
    (('T', 10), "what is withdrawn ends its connections, and only those"),
    (('T', 11), "answers leave where the question came in"),
    (('T', 12), "pods and the host reach external addresses too"),
    (('T', 13), "pods leave with their Mapping's address"),
    (('T', 14), "nothing of others is changed"),
    (('T', 15), "a restart does nothing and loses nothing"),
    (('T', 16), "clean-up restores what was before"),
    (('T', 17), "what others spoil is back soon"),
    (('T', 18), "a change leaves the rest in peace"),
    (('T', 19), "one owner of an external endpoint in the whole cluster"),
    (('T', 20), "a deleted Mapping goes when all instances have let go"),
    (('T', 21), "the status tells what was read back"),
    (('T', 22), "old news never replace newer ones"),
    (('T', 23), "an outage of the API server stops nothing"),
    (('P', 1), "isolation of Mappings"),
    (('P', 2), "translated exactly when the source is allowed"),
    (('P', 3), "one owner, whatever the order"),
    (('P', 4), "answers by the uplink of the question"),
    (('P', 5), "no mark combines into another's"),
    (('P', 6), "a second diff is empty"),
    (('P', 7), "a diff leaves other Mappings' objects alone"),
    (('P', 8), "the order of events does not matter"),
    (('P', 9), "any history equals a fresh build"),
    (('P', 10), "nothing leaks"),
    (('P', 11), "what is foreign is never modified"),
    (('P', 12), "a crash anywhere is recovered from"),
    (('P', 13), "make before break"),
    (('P', 14), "calm follows when faults stop"),
    (('P', 15), "the status is true in every history"),
];

/// Kinds of tests, in the order of the ladder.
const KINDS: [&str; 10] = [
    "unit",
    "golden",
    "property",
    "simulated",
    "fuzz",
    "kernel",
    "parity",
    "packets",
    "program",
    "cluster",
];

/// Folders that hold tests, alone or beside what they test.
const ROOTS: [&str; 7] =
    ["src/core", "src/linux", "src/cluster", "src/smartnat", "sim/src", "sim/tests", "tests/tests"];

/// How many tests of each kind show a requirement.
type Shown = BTreeMap<Id, BTreeMap<&'static str, usize>>;

#[test]
fn every_requirement_is_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut shown = Shown::new();
    for file in ROOTS.iter().flat_map(|folder| rust_files(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let relative = file.strip_prefix(&root).expect("it lies below the root");
        for test in tests_in(relative, &text) {
            for id in test.cited {
                for kind in &test.kinds {
                    *shown.entry(id).or_default().entry(kind).or_default() += 1;
                }
            }
        }
    }
    println!("{}", table(&shown));
    let known: BTreeSet<Id> = REQUIREMENTS.iter().map(|(id, _)| *id).collect();
    let unknown: Vec<_> = shown.keys().filter(|id| !known.contains(id)).collect();
    assert!(unknown.is_empty(), "there are no such requirements: {unknown:?}");
    let missing: Vec<_> = REQUIREMENTS
        .iter()
        .filter(|(id, _)| !shown.contains_key(id))
        .map(|((letter, number), name)| format!("{letter}{number} ({name})"))
        .collect();
    assert!(missing.is_empty(), "no test shows {}", missing.join(", "));
    // The promises to traffic and host are shown on the simulated and on the Linux kernel.
    let on_both = |id: &Id| ["simulated", "packets"].iter().all(|arm| shown[id].contains_key(arm));
    let of_traffic = (1..=18).map(|number| ('T', number));
    let on_one: Vec<Id> = of_traffic.filter(|id| !on_both(id)).collect();
    assert!(on_one.is_empty(), "one arm alone shows {on_one:?}");
    // Those of the cluster on the simulated and on a real API server.
    let in_both = |id: &Id| ["simulated", "cluster"].iter().all(|arm| shown[id].contains_key(arm));
    let of_cluster = (19..=23).map(|number| ('T', number));
    let in_one: Vec<Id> = of_cluster.filter(|id| !in_both(id)).collect();
    assert!(in_one.is_empty(), "one API server alone shows {in_one:?}");
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

/// One test with the requirements that it names.
#[derive(Debug, PartialEq, Eq)]
struct Test {
    kinds: Vec<&'static str>,
    cited: BTreeSet<Id>,
}

/// Macros that make tests of a description, and the kinds of those; none: as the file says.
const MACROS: [(&str, &[&str]); 2] =
    [("both_flavours!(", &[]), ("on_both_arms!(", &["simulated", "packets"])];

/// The tests of a file. One whose name or module comment begins with a requirement shows it with
/// each of its tests; a fuzz target is one test as a whole.
fn tests_in(path: &Path, text: &str) -> Vec<Test> {
    if path.starts_with("sim/src/fuzz_targets") && !path.ends_with("tests.rs") {
        return vec![Test { kinds: vec!["fuzz"], cited: cited(text) }];
    }
    let of_file = cited_by_file(path, text);
    let lines: Vec<&str> = text.lines().collect();
    let mut property_until = 0;
    let mut tests = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        if words.starts_with("proptest! {") {
            property_until = end_of(&lines, at);
        }
        let by_macro = MACROS.iter().find(|(name, _)| words.starts_with(name));
        if by_macro.is_none() && words != "#[test]" {
            continue;
        }
        let end = end_of(&lines, at);
        let item = &lines[beginning_of(&lines, at)..=end];
        let kinds = match by_macro {
            Some((_, kinds)) if !kinds.is_empty() => kinds.to_vec(),
            _ if at < property_until => vec!["property"],
            _ => vec![kind_of(path, item)],
        };
        let mut cited = cited(&item.join("\n"));
        cited.extend(&of_file);
        tests.push(Test { kinds, cited });
    }
    tests
}

/// What a file is about as a whole: `t11_return_path.rs`, `//! T11: …`.
fn cited_by_file(path: &Path, text: &str) -> BTreeSet<Id> {
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let about = |line: &&str| line.starts_with("//! T") || line.starts_with("//! P");
    let comment = text.lines().next().filter(about).and_then(|line| line.split_once(": "));
    let mut found = cited(comment.map_or("", |(numbers, _)| numbers));
    found.extend(numbers_of_name(&name));
    found
}

/// The first line of the comments and attributes above a test.
fn beginning_of(lines: &[&str], at: usize) -> usize {
    let above = lines[..at].iter().rev();
    let is_of_it = |line: &&&str| {
        let words = line.trim_start();
        words.starts_with("//") && !words.starts_with("//!") || words.starts_with("#[")
    };
    at - above.take_while(is_of_it).count()
}

/// The last line of the item that begins at a line, as rustfmt lays it out.
fn end_of(lines: &[&str], at: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[at]);
    let header = at + lines[at..].iter().take_while(|l| l.trim_start().starts_with("#[")).count();
    if lines.get(header).is_some_and(|line| line.ends_with(");") || line.ends_with('}')) {
        return header;
    }
    let closes = |line: &&str| indent(line) == own && line.trim_start().starts_with(['}', ')']);
    let rest = lines[at + 1..].iter().position(closes);
    rest.map_or(lines.len() - 1, |further| at + 1 + further)
}

fn kind_of(path: &Path, item: &[&str]) -> &'static str {
    let golden = item.iter().any(|line| line.contains("insta::") || line.contains("_snapshot!"));
    if path.starts_with("tests/tests/contract") {
        "packets"
    } else if path.starts_with("tests/tests/parity")
        || path.starts_with("tests/tests/parity_operations")
    {
        "parity"
    } else if path.starts_with("tests/tests/cluster") || path.starts_with("src/cluster/tests") {
        "cluster"
    } else if path.starts_with("tests/tests") || path.starts_with("src/smartnat/tests") {
        "program"
    } else if path.starts_with("src/linux/tests") {
        "kernel"
    } else if path.starts_with("sim/tests/properties") {
        "property"
    } else if golden {
        "golden"
    } else if path.starts_with("sim") {
        "simulated"
    } else {
        "unit"
    }
}

/// Requirements that a text names one by one, in comments or as the beginning of a test's name.
/// A span like T1–T18 shows none of them.
fn cited(text: &str) -> BTreeSet<Id> {
    let name = |line: &str| {
        let words = line.trim_start();
        let mut openings = MACROS.iter().map(|(opening, _)| *opening).chain(["fn "]);
        openings.find_map(|opening| words.strip_prefix(opening)).map(str::to_owned)
    };
    let mut found: BTreeSet<Id> =
        text.lines().filter_map(name).flat_map(|name| numbers_of_name(&name)).collect();
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

/// `t05_t06_ports` is about T5 and T6.
fn numbers_of_name(name: &str) -> BTreeSet<Id> {
    let number = |word: &str| {
        let letter = word.chars().next().filter(|c| matches!(c, 't' | 'p'))?;
        let digits = word[1..].parse().ok().filter(|n| (1..100).contains(n))?;
        Some((letter.to_ascii_uppercase(), digits))
    };
    name.split('_').map_while(number).collect()
}

fn table(shown: &Shown) -> String {
    let mut text = String::from("requirement, shown by so many tests of each kind\n");
    for (id, name) in REQUIREMENTS {
        let tests = shown.get(id);
        let kinds: Vec<String> =
            KINDS.iter().filter_map(|kind| Some(format!("{kind} {}", tests?.get(kind)?))).collect();
        let number = format!("{}{}", id.0, id.1);
        let _ = writeln!(text, "{number:<4} {name:<66} {}", kinds.join(", "));
    }
    text
}

#[test]
fn spans_and_parts_of_words_show_nothing() {
    let named = |text| cited(text).into_iter().collect::<Vec<_>>();
    assert_eq!(named("T1–T18, T14-T18, xT1, T1x, T123, IP4, t7, T0"), []);
    assert_eq!(named("(T3, P10): T16"), [('P', 10), ('T', 3), ('T', 16)]);
}

#[test]
fn a_test_shows_what_it_names_and_no_more() {
    let text = "\
//! T7: what pods see.

/// A helper of T1.
fn helper() {}

// T2
#[test]
fn a_refused_source() {
    let nested = || {
    };
}

#[test]
fn t05_t06_ports() {}

on_both_arms!(p04_replies, |arm| {
    helper(); // T3
});

proptest! {
    /// P1: isolation.
    #[test]
    fn isolation(case in any()) {
    }
}
";
    let found = tests_in(Path::new("sim/tests/walk/pods.rs"), text);
    let named: Vec<_> =
        found.into_iter().map(|t| (t.kinds, t.cited.into_iter().collect::<Vec<_>>())).collect();
    assert_eq!(
        named,
        [
            (vec!["simulated"], vec![('T', 2), ('T', 7)]),
            (vec!["simulated"], vec![('T', 5), ('T', 6), ('T', 7)]),
            (vec!["simulated", "packets"], vec![('P', 4), ('T', 3), ('T', 7)]),
            (vec!["property"], vec![('P', 1), ('T', 7)]),
        ]
    );
}
