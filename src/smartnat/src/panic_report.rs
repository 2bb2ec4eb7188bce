//! A panic, wherever it happens, is told in the log and ends the process.
//!
//! A task or a thread that is gone would leave a program that looks alive and no longer follows
//! what changes; a new process finds the dataplane serving and goes on from what it reads back.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::process::exit;
use std::thread;

/// How the process ends after a panic, as Rust's own programs do.
pub const EXIT_CODE: i32 = 101;

/// From now on a panic of any thread or task is reported and ends the process.
pub fn install() {
    std::panic::set_hook(Box::new(|panic| {
        report(panic);
        exit(EXIT_CODE);
    }));
}

fn report(panic: &PanicHookInfo<'_>) {
    let what = message(panic.payload());
    let place = panic.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let version = env!("CARGO_PKG_VERSION");
    // Captured only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => backtrace.to_string(),
        _ => "none; set RUST_BACKTRACE=1 for one".into(),
    };
    if tracing::dispatcher::has_been_set() {
        tracing::error!(
            place,
            thread,
            version,
            backtrace,
            "a defect of SmartNat ends it; the dataplane is left serving: {what}"
        );
    } else {
        eprintln!(
            "smartnat {version}: a defect of SmartNat ends it: {what}\nat {place}, thread \
             {thread}\nbacktrace: {backtrace}"
        );
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
