//! What the figures depend on.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::error::BenchError;
use crate::processors::allowed;
use crate::results::Machine;

/// Programs whose version matters, and how each is asked.
const PROGRAMS: [(&str, &str); 4] = [
    ("iptables", "--version"),
    ("nft", "--version"),
    ("conntrack", "--version"),
    ("rustc", "--version"),
];

/// This machine, now.
pub(crate) fn describe() -> Result<Machine, BenchError> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut versions: BTreeMap<String, String> = PROGRAMS
        .iter()
        .filter_map(|(program, flag)| Some(((*program).to_owned(), first_line(program, &[flag])?)))
        .collect();
    let mut own = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(commit) = first_line("git", &["describe", "--always", "--dirty"]) {
        own = format!("{own}, commit {commit}");
    }
    versions.insert("smartnat".into(), own);
    Ok(Machine {
        processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").into(),
        processors: allowed()?.len(),
        memory_mib: kib(&read("/proc/meminfo"), "MemTotal").unwrap_or_default() / 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        versions,
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        command: command(std::env::args()),
    })
}

/// The command without the directory of the program.
fn command(words: impl Iterator<Item = String>) -> String {
    let own = std::iter::once("smartnat-bench".to_owned());
    own.chain(words.skip(1)).collect::<Vec<_>>().join(" ")
}

/// First line of what a program says, where it is there and content.
fn first_line(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}

/// The value of `name : value` in a file of /proc.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn kib(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read_by_name() {
        assert_eq!(
            value("processor\t: 0\nmodel name\t: Fast one\n", "model name"),
            Some("Fast one")
        );
        assert_eq!(kib("MemFree: 1 kB\nMemTotal:       2048 kB\n", "MemTotal"), Some(2048));
        assert_eq!(kib("MemTotal: lots\n", "MemTotal"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let machine = describe().unwrap();
        assert!(machine.processors > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert!(machine.date.starts_with("20"), "{}", machine.date);
    }

    #[test]
    fn the_command_does_not_tell_where_the_program_is() {
        let words = ["/home/me/target/release/smartnat-bench", "--runs", "3"];
        assert_eq!(command(words.iter().map(ToString::to_string)), "smartnat-bench --runs 3");
    }
}
