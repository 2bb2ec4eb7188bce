use std::process::{Command, Output};

use super::*;
use crate::cli::Cli;
use crate::logging;

/// Tells the child test what to do; without it, it is no child and does nothing.
const VARIABLE: &str = "TEST_OF_PANIC_REPORT";

/// Runs `child` below in a process of its own.
fn child(what: &str, backtrace: &str) -> Output {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .args(["--exact", "panic_report::tests::child_process", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, what)
        .env("RUST_BACKTRACE", backtrace)
        .output()
        .expect("it starts")
}

#[test]
fn child_process() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let words: Vec<&str> = what.split_ascii_whitespace().collect();
    if let [_, format] = words.as_slice() {
        let cli =
            <Cli as clap::Parser>::try_parse_from(["smartnat", "--log-format", format, "host"]);
        logging::start(&cli.expect("valid").settings([]).expect("valid"));
    }
    install();
    if words.first() == Some(&"thread") {
        let thread = thread::Builder::new().name("kernel".into()).spawn(|| panic!("lost {}", 7));
        let _ = thread.expect("it starts").join();
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _ = runtime.block_on(async { tokio::spawn(async { panic!("lost {}", 7) }).await });
    }
    println!("it went on");
}

fn assert_ended_by_panic(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(EXIT_CODE), "{output:?}");
    // A failed test of libtest ends with the same code, but says so.
    assert!(!out.contains("it went on") && !out.contains("test result"), "{out}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_panic_in_a_thread_is_logged_as_text_and_ends_the_process() {
    let text = assert_ended_by_panic(&child("thread text", "0"));
    for part in ["ERROR", "lost 7", "panic_report/tests.rs:", "kernel", env!("CARGO_PKG_VERSION")] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("set RUST_BACKTRACE=1"), "{text}");
}

#[test]
fn a_panic_in_a_task_is_one_json_object_with_a_backtrace_where_that_is_asked_for() {
    let text = assert_ended_by_panic(&child("task json", "1"));
    let line = text.lines().find(|line| line.contains("lost 7")).expect("a report");
    let report: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(report["level"], "ERROR");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["place"].as_str().is_some_and(|place| place.contains("tests.rs:")), "{line}");
    let backtrace = report["backtrace"].as_str().expect("text");
    assert!(backtrace.contains("child_process"), "{backtrace}");
}

#[test]
fn a_panic_before_there_is_a_log_goes_to_standard_error() {
    let text = assert_ended_by_panic(&child("thread", "0"));
    assert!(text.contains("lost 7") && text.contains("tests.rs:"), "{text}");
}
