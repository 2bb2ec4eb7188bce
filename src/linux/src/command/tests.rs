//! Runs of a shell.

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_secs(20), output: 4 << 20 };

fn shell(script: &str, input: &[u8], limits: Limits) -> Result<Finished, CommandError> {
    run(Path::new("/bin/sh"), &["-c", script], input, limits)
}

#[test]
fn input_goes_in_and_both_outputs_come_out() {
    // More than a pipe holds, both ways at once.
    let input = vec![b'x'; 1 << 20];
    let finished = shell("echo $LC_ALL >&2; cat; exit 3", &input, LIMITS).expect("it ends");
    assert_eq!(finished.status.code(), Some(3));
    assert_eq!(finished.stdout, input);
    assert_eq!(finished.stderr, b"C\n");
}

#[test]
fn input_that_nobody_reads_does_no_harm() {
    let finished = shell("exit 0", &vec![b'x'; 1 << 20], LIMITS).expect("it ends");
    assert!(finished.status.success());
}

#[test]
fn a_child_that_does_not_end_is_killed() {
    let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
    let begin = Instant::now();
    let error = shell("exec sleep 30", b"", limits).expect_err("it is killed");
    assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_child_that_prints_without_end_is_killed() {
    let limits = Limits { output: 1000, ..LIMITS };
    let error = shell("while :; do echo 0123456789; done", b"", limits).expect_err("killed");
    assert!(matches!(error, CommandError::TooMuchOutput { limit: 1000, .. }), "{error}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = run(Path::new("/no/such/program"), &[], b"", LIMITS).expect_err("it is missing");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[test]
fn a_grandchild_that_keeps_the_pipes_open_is_not_waited_for() {
    let begin = Instant::now();
    let finished = shell("echo done; sleep 15 & exit 0", b"", LIMITS).expect("it ends");
    assert_eq!(finished.stdout, b"done\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
}
