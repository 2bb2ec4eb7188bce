//! A way from a lab's host to a server outside it: bytes are handed on, and can be cut off.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smartnat::lab::Lab;

/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(5);

/// A listener on the loopback of a lab's host, until it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    closed: AtomicBool,
    connections: AtomicU64,
    /// Both sides of every connection that may still be open.
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Listens on `host` and hands on to `target`, which this process can reach.
    pub fn start(lab: &Lab, host: &str, target: SocketAddr) -> io::Result<Self> {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = lab.run(host, bind).map_err(io::Error::other)??;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(&listener, target, &serving));
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the connections there are; new ones are handed on again.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Ends the connections there are and takes no new ones until [`Relay::open`].
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.shared.closed.store(false, Ordering::SeqCst);
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.cut();
        if let Some(thread) = self.thread.take() {
            // What it panicked of, a client has noticed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn cut(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        let copy = stream.try_clone()?;
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        Ok(())
    }
}

fn serve(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    while !shared.ends.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) if !shared.closed.load(Ordering::SeqCst) => {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                // Who can't be handed on sees a closed connection.
                let _ = hand_on(stream, target, shared);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LOOK),
            Err(_) => return,
        }
    }
}

fn hand_on(near: TcpStream, target: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    near.set_nonblocking(false)?;
    let far = TcpStream::connect(target)?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        shared.keep(stream)?;
    }
    for (mut from, mut to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
