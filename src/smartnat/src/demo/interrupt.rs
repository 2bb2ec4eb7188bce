//! Ctrl-C: everything goes before the program does.

use std::path::PathBuf;
use std::process::exit;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::DemoError;
use crate::lab;

/// Exit code of a program that SIGINT ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP remove all labs of this process and `directory`, and end it.
pub(super) fn remove_on_signal(directory: PathBuf) -> Result<(), DemoError> {
    let failed = |e| DemoError::Io("signals".into(), e);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let open = |kind| {
        let _inside = runtime.enter();
        signal(kind).map_err(failed)
    };
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [interrupt, terminate, hangup] = signals.map(open);
    let (interrupt, terminate, hangup) = (interrupt?, terminate?, hangup?);
    let wait = move || {
        runtime.block_on(any(interrupt, terminate, hangup));
        eprintln!("\ninterrupted: removing the network of the demo");
        lab::remove_all();
        // It may be gone already, or not be there yet.
        let _ = std::fs::remove_dir_all(&directory);
        exit(INTERRUPTED);
    };
    std::thread::Builder::new().name("interrupt".into()).spawn(wait).map_err(failed)?;
    Ok(())
}

async fn any(mut one: Signal, mut two: Signal, mut three: Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
        _ = three.recv() => {}
    }
}
