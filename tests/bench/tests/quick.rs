//! The whole way once: real namespaces, real packets, a report.

use std::fs;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_smartnat-bench");

#[test]
fn a_smoke_run_measures_every_subject_and_writes_its_report() {
    if !smartnat::lab::available() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM).args(["--quick", "--out"]).arg(out.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let read = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
    let report = read("README.md");
    assert!(!report.contains("not measured"), "{report}");
    for row in [
        "| forwarding without NAT | – | ",
        "| SmartNat, nftables | 1 | ",
        "| SmartNat, nftables | 100 | ",
        "| SmartNat, iptables | 1 | ",
        "| SmartNat, iptables | 100 | ",
        "| a rule for each Mapping, the last one | 100 | ",
        "| one Mapping deleted | SmartNat, nftables | 100 | ",
    ] {
        assert!(report.contains(row), "{row}\n{report}");
    }
    assert!(read("connect.svg").contains("<polyline") && read("change.svg").contains("<polyline"));

    // The same report comes from the file of results.
    let again = Command::new(PROGRAM).arg("--from").arg(out.path().join("results.json")).output();
    let again = again.unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let again = String::from_utf8_lossy(&again.stdout);
    for (first, second) in report.trim().lines().zip(again.trim().lines()) {
        assert_eq!(first, second);
    }
    assert_eq!(report.trim().lines().count(), again.trim().lines().count());
}

#[test]
fn without_results_there_is_no_report() {
    let output = Command::new(PROGRAM).args(["--from", "/nowhere/results.json"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/results.json"));
}

#[test]
fn a_part_that_takes_too_long_is_told_and_leaves_the_rest() {
    if !smartnat::lab::available() {
        return;
    }
    // Nothing can be read of a network of this size within a second in a build without optimisation.
    let words = ["--quick", "--sizes", "1,20000", "--limit", "1", "--runs", "1"];
    let output = Command::new(PROGRAM).args(words).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row = |cells: &str| report.lines().find(|line| line.starts_with(cells)).unwrap().to_owned();
    let late = row("| SmartNat, iptables | 20,000 |");
    assert!(late.contains("not measured: more than 1 s"), "{report}");
    assert!(!row("| SmartNat, iptables | 1 |").contains("not measured"), "{report}");
}
