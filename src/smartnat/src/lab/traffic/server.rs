//! Servers that say who they are and whom they saw.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use crate::lab::{Lab, LabError};

/// Connections that one listener keeps waiting.
const BACKLOG: i32 = 1024;

/// Longest request line.
const REQUEST_MAX: usize = 4096;

/// Answers on TCP and UDP ports of a host until it is dropped; its connections end then.
#[derive(Debug)]
pub struct Server {
    requests: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where a server listens.
#[derive(Debug)]
struct Sockets {
    listeners: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
}

impl Server {
    /// A server named `host` on every address of the host; listening when this returns.
    pub fn start(lab: &Lab, host: &str, tcp: &[u16], udp: &[u16]) -> Result<Self, LabError> {
        Self::start_on(lab, host, host, &lab.addresses(host), tcp, udp)
    }

    /// A server on given addresses of the host.
    pub fn start_on(
        lab: &Lab,
        host: &str,
        name: &str,
        addresses: &[IpAddr],
        tcp: &[u16],
        udp: &[u16],
    ) -> Result<Self, LabError> {
        let ends = |ports: &[u16]| -> Vec<SocketAddr> {
            let of = |a: &IpAddr| ports.iter().map(|&p| SocketAddr::new(*a, p)).collect::<Vec<_>>();
            addresses.iter().flat_map(of).collect()
        };
        let (tcp, udp) = (ends(tcp), ends(udp));
        let requests = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let (told, ready) = std::sync::mpsc::sync_channel(1);
        let (own_name, counter): (Arc<str>, _) = (name.into(), Arc::clone(&requests));
        let thread = lab.spawn_thread(host, move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = told.send(Err(("runtime".into(), error)));
                    return;
                }
            };
            runtime.block_on(async {
                let bound = Sockets::bind(&tcp, &udp).await;
                let ok = bound.is_ok();
                // The starter waits right below.
                let _ = told.send(bound.map(|sockets| sockets.serve(&own_name, &counter)));
                if ok {
                    // An error is a dropped sender: the same wish to end.
                    let _ = stopped.await;
                }
            });
        })?;
        let server = Self { requests, stop: Some(stop), thread: Some(thread) };
        let failed = |(what, error)| LabError::Socket { host: host.into(), what, error };
        let ended = |_| failed(("server".into(), io::Error::other("its thread ended")));
        ready.recv().map_err(ended)?.map_err(failed)?;
        Ok(server)
    }

    /// Requests and connections that it has seen.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It cannot panic in a way that matters to whoever drops this.
            let _ = thread.join();
        }
    }
}

impl Sockets {
    async fn bind(tcp: &[SocketAddr], udp: &[SocketAddr]) -> Result<Self, (String, io::Error)> {
        let mut sockets = Self { listeners: Vec::new(), datagrams: Vec::new() };
        for address in tcp {
            let listener = listen(*address).map_err(|e| (format!("TCP {address}"), e))?;
            sockets.listeners.push(listener);
        }
        for address in udp {
            let socket =
                UdpSocket::bind(address).await.map_err(|e| (format!("UDP {address}"), e))?;
            sockets.datagrams.push(socket);
        }
        Ok(sockets)
    }

    fn serve(self, name: &Arc<str>, requests: &Arc<AtomicU64>) {
        for listener in self.listeners {
            tokio::spawn(accept(listener, Arc::clone(name), Arc::clone(requests)));
        }
        for socket in self.datagrams {
            tokio::spawn(answer_datagrams(socket, Arc::clone(name), Arc::clone(requests)));
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, name: Arc<str>, requests: Arc<AtomicU64>) {
    // A failed accept is a connection that ended before it was taken; the next one counts.
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            requests.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer_lines(stream, peer, Arc::clone(&name), Arc::clone(&requests)));
        }
    }
}

async fn answer_lines(
    mut stream: TcpStream,
    peer: SocketAddr,
    name: Arc<str>,
    requests: Arc<AtomicU64>,
) {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while let Ok(1..=REQUEST_MAX) = reader.read_line(&mut line).await {
        requests.fetch_add(1, Ordering::Relaxed);
        let answer = format!("{name} {peer} {line}");
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}

async fn answer_datagrams(socket: UdpSocket, name: Arc<str>, requests: Arc<AtomicU64>) {
    let mut buffer = [0; REQUEST_MAX];
    // A receive error is an ICMP error for an earlier answer; the next request counts.
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        requests.fetch_add(1, Ordering::Relaxed);
        let request = String::from_utf8_lossy(&buffer[..length]);
        let answer = format!("{name} {peer} {request}");
        // Whether it arrives is what the client finds out.
        let _ = socket.send_to(answer.as_bytes(), peer).await;
    }
}
