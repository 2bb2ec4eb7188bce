//! New connections, one after the other.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use smartnat::lab::Lab;

use crate::cluster::TARGET_PORT;
use crate::error::{BenchError, system};
use crate::network::{CLIENT, SERVER, Sources};
use crate::pair::{Ready, beside};
use crate::processors::{Processors, stay_on};
use crate::results::Connects;
use crate::stats::{median, percentile};

/// Connections before the first that counts: caches are another subject's.
pub(crate) const WARM_UP: u32 = 100;
/// One round takes no longer than this, however slow the connections are.
const ROUND_LIMIT: Duration = Duration::from_secs(4);
/// A connection that takes this long is lost. A repeated SYN takes a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Connections that the server keeps waiting; more than a client opens before they are accepted.
const BACKLOG: i32 = 4096;
/// How often the server looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Opens so many connections to `target`, each from the next source, and resets each at once.
pub(crate) fn measure(
    lab: &Lab,
    sources: &mut Sources,
    target: SocketAddr,
    connections: u32,
    processors: Processors,
) -> Result<Connects, BenchError> {
    let server = |ready: Ready<'_>, stop: &AtomicBool| {
        stay_on(processors.server)?;
        let listener = listen().map_err(system("listen"))?;
        ready.tell();
        accept_until(&listener, stop).map_err(system("accept"))
    };
    let client = || {
        stay_on(processors.client)?;
        connect_all(sources, target, connections)
    };
    beside(lab, (SERVER, server), (CLIENT, client))
}

/// A listening socket on the port of all endpoints; `accept` looks up now and then.
pub(crate) fn listen() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, TARGET_PORT)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Takes connections and waits for the end of each, until it is told to stop.
fn accept_until(listener: &Socket, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut connection, _)) => {
                connection.set_read_timeout(Some(PATIENCE))?;
                // It ends by a reset, which is an error.
                let _ = connection.read(&mut [0]);
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Nothing came in the time for which one waits.
pub(crate) fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn connect_all(
    sources: &mut Sources,
    target: SocketAddr,
    connections: u32,
) -> Result<Connects, BenchError> {
    for _ in 0..WARM_UP {
        connect(sources, target)?;
    }
    let mut durations = Vec::new();
    let began = Instant::now();
    for _ in 0..connections {
        if began.elapsed() > ROUND_LIMIT {
            break;
        }
        durations.push(connect(sources, target)?.as_secs_f64() * 1e6);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let count = u32::try_from(durations.len()).unwrap_or(u32::MAX);
    let none = || BenchError::Traffic("no connection was opened".into());
    Ok(Connects {
        count,
        median_us: median(durations.iter().copied()).ok_or_else(none)?,
        p99_us: percentile(durations, 99).ok_or_else(none)?,
        per_second: f64::from(count) / elapsed,
    })
}

/// How long `connect()` takes, from the next source.
fn connect(sources: &mut Sources, target: SocketAddr) -> Result<Duration, BenchError> {
    let source = sources.next().ok_or(BenchError::NoSource)?;
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // The next connection may use the port that a reset one had.
        socket.set_reuse_address(true)?;
        // A reset leaves nothing behind on either side.
        socket.set_linger(Some(Duration::ZERO))?;
        // It bounds `connect` as well.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.bind(&source.into())?;
        let began = Instant::now();
        socket.connect(&target.into())?;
        Ok(began.elapsed())
    };
    open().map_err(|e: io::Error| BenchError::Traffic(format!("{source} to {target}: {e}")))
}
