//! What a failed program means: class and object of an [`OpError`].

use smartnat_core::model::Family;
use smartnat_core::objects::{XtTableId, XtTarget};
use smartnat_core::ops::{NetworkOp, OpError, OpErrorClass};
use smartnat_core::xtables_text::{LineKind, RestoreInput};

/// Exit code for wrong arguments (`PARAMETER_PROBLEM`).
const PARAMETER_PROBLEM: i32 = 2;
/// Longest part of what a program said that goes into an error.
const MAX_DETAIL: usize = 600;

/// What the programs say in the C locale, where their exit code (1: other, 2: parameter,
/// 4: resource) does not tell enough.
const PHRASES: [(&str, OpErrorClass); 16] = [
    ("holding the xtables lock", OpErrorClass::Transient),
    ("Permission denied", OpErrorClass::Denied),
    ("Operation not permitted", OpErrorClass::Denied),
    ("you must be root", OpErrorClass::Denied),
    ("Device or resource busy", OpErrorClass::Busy),
    ("Directory not empty", OpErrorClass::Busy),
    ("File exists", OpErrorClass::Exists),
    ("Chain already exists", OpErrorClass::Exists),
    ("Resource temporarily unavailable", OpErrorClass::Transient),
    ("Cannot allocate memory", OpErrorClass::Transient),
    ("No buffer space available", OpErrorClass::Transient),
    ("Interrupted system call", OpErrorClass::Transient),
    ("No such file or directory", OpErrorClass::NotFound),
    ("does not exist", OpErrorClass::NotFound),
    ("doesn't exist", OpErrorClass::NotFound),
    ("No chain/target/match by that name", OpErrorClass::NotFound),
];

/// A table as people know it.
pub(super) fn table_name(id: XtTableId) -> String {
    format!("table {} ({})", id.table.name(), id.family)
}

/// A save that failed.
pub(super) fn failed_save(object: String, code: Option<i32>, stderr: &str) -> OpError {
    let class = phrase_class(stderr).unwrap_or(OpErrorClass::Transient);
    OpError::new(class, object, detail(code, stderr))
}

/// A restore that failed, by the operation whose line failed.
pub(super) fn failed_restore(
    id: XtTableId,
    ops: &[NetworkOp],
    input: &RestoreInput,
    code: Option<i32>,
    stderr: &str,
) -> OpError {
    let line = failing_line(input, stderr);
    let origin = line.and_then(|number| input.line(number));
    let class = phrase_class(stderr).unwrap_or_else(|| match origin.map(|o| o.kind) {
        _ if code == Some(PARAMETER_PROBLEM) => OpErrorClass::Invalid,
        // Killed by a signal from outside.
        _ if code.is_none() => OpErrorClass::Transient,
        // The legacy flavour gives no reason, but these have one only.
        Some(LineKind::DeleteRule | LineKind::FlushChain) => OpErrorClass::NotFound,
        Some(LineKind::DeleteChain) => OpErrorClass::Busy,
        _ => OpErrorClass::Invalid,
    });
    // One operation alone is the one that failed, also where the kernel refuses the table whole.
    let only = if let [op] = ops { Some(op) } else { None };
    let op = origin.and_then(|o| o.op).and_then(|index| ops.get(index)).or(only);
    let object = op.map_or_else(|| table_name(id), |op| object_name(id, op));
    let mut detail = detail(code, stderr);
    if let Some(text) = line.and_then(|number| input.text.lines().nth(number.checked_sub(1)?)) {
        detail = format!("{detail} (`{}`)", shorten(text));
    }
    OpError::new(class, object, detail)
}

fn object_name(id: XtTableId, op: &NetworkOp) -> String {
    let (table, family): (&str, Family) = (id.table.name(), id.family);
    match op {
        NetworkOp::PutChain { chain, .. } | NetworkOp::DeleteChain { chain } => {
            format!("chain {table}/{chain} ({family})")
        }
        NetworkOp::InsertJump { hook, rule } | NetworkOp::DeleteJump { hook, rule } => {
            let hook = hook.name();
            match &rule.target {
                XtTarget::Jump(chain) => format!("jump {table}/{hook} to {chain} ({family})"),
                _ => format!("rule in {table}/{hook} ({family})"),
            }
        }
        _ => table_name(id),
    }
}

/// Number of the line that failed. Some errors come to light at COMMIT only and name what they
/// are about in quotes; then it is the first line that has that word.
fn failing_line(input: &RestoreInput, stderr: &str) -> Option<usize> {
    let stated = stderr.match_indices("line").find_map(|(at, word)| {
        let rest = stderr.get(at + word.len()..)?.trim_start_matches([':', ' ']);
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    });
    let has_op = |number: usize| input.line(number).is_some_and(|line| line.op.is_some());
    if stated.is_some_and(has_op) {
        return stated;
    }
    let quoted = stderr.split(['\'', '`']).nth(1).filter(|word| !word.is_empty())?;
    let mut lines = input.text.lines().zip(1..);
    let named = lines.find(|(line, _)| line.split_ascii_whitespace().any(|word| word == quoted));
    named.map(|(_, number)| number).or(stated)
}

fn phrase_class(stderr: &str) -> Option<OpErrorClass> {
    PHRASES.iter().find(|(phrase, _)| stderr.contains(phrase)).map(|(_, class)| *class)
}

/// What the program said, on one line.
fn detail(code: Option<i32>, stderr: &str) -> String {
    let hints = |line: &&str| !line.is_empty() && !line.starts_with("Try `");
    let said: Vec<&str> = stderr.lines().map(str::trim).filter(hints).collect();
    let code = code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
    if said.is_empty() { code } else { format!("{} [{code}]", shorten(&said.join("; "))) }
}

fn shorten(text: &str) -> String {
    if text.len() <= MAX_DETAIL { text.to_owned() } else { text.chars().take(MAX_DETAIL).collect() }
}

#[cfg(test)]
mod tests;
