//! A server and a client beside each other, in two namespaces.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use smartnat::lab::Lab;

use crate::error::BenchError;

/// Tells that the server is ready.
pub(crate) struct Ready<'a>(&'a SyncSender<()>);

impl Ready<'_> {
    /// The client may begin.
    pub(crate) fn tell(self) {
        // Whoever waits for it is in `beside`, or has seen the server end.
        let _ = self.0.send(());
    }
}

/// Stops the server also when the client panics: its thread is waited for.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `server` in its host's namespace and, once it is ready, `client` in its own. The server is told to
/// stop when the client has ended. What the server found is in the result of [`beside_both`].
pub(crate) fn beside<T: Send>(
    lab: &Lab,
    server: (&str, impl FnOnce(Ready<'_>, &AtomicBool) -> Result<(), BenchError> + Send),
    client: (&str, impl FnOnce() -> Result<T, BenchError> + Send),
) -> Result<T, BenchError> {
    beside_both(lab, server, client).map(|((), found)| found)
}

/// The same with what both found.
pub(crate) fn beside_both<S: Send, T: Send>(
    lab: &Lab,
    (server_host, server): (
        &str,
        impl FnOnce(Ready<'_>, &AtomicBool) -> Result<S, BenchError> + Send,
    ),
    (client_host, client): (&str, impl FnOnce() -> Result<T, BenchError> + Send),
) -> Result<(S, T), BenchError> {
    let stop = AtomicBool::new(false);
    let (told, ready) = sync_channel(1);
    std::thread::scope(|scope| {
        let stop = &stop;
        let serving = scope.spawn(move || {
            // `told` ends with the server, so that nobody waits for one that failed.
            let told = told;
            lab.run(server_host, || server(Ready(&told), stop))
        });
        let stopper = Stop(stop);
        let found = match ready.recv() {
            Ok(()) => Some(lab.run(client_host, client)),
            Err(_) => None,
        };
        drop(stopper);
        let joined = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let of_server = joined??;
        let early = || BenchError::Traffic("the server ended before it was ready".into());
        Ok((of_server, found.ok_or_else(early)???))
    })
}
