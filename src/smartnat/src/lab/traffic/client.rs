//! Clients: one request, or a conversation that lasts.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use smartnat_core::model::Protocol;
use socket2::{Domain, Socket, Type};

use super::Outcome;
use crate::lab::{Lab, LabError};

/// What a client asks where only the server's name matters.
const QUESTION: &str = "who";

/// Most octets of an answer.
const ANSWER_MAX: usize = 8192;

/// Opens a TCP connection, asks once and closes it.
pub fn connect_tcp(
    lab: &Lab,
    host: &str,
    from: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Outcome {
    ask_once(lab, host, Protocol::Tcp, from, to, patience)
}

/// Sends a datagram from a fresh port and waits for the answer.
pub fn ask_udp(
    lab: &Lab,
    host: &str,
    from: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Outcome {
    ask_once(lab, host, Protocol::Udp, from, to, patience)
}

fn ask_once(
    lab: &Lab,
    host: &str,
    protocol: Protocol,
    from: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Outcome {
    let from = from.map(|address| SocketAddr::new(address, 0));
    match open(lab, host, protocol, from, to, patience) {
        Ok(Ok(mut conversation)) => conversation.ask(QUESTION, patience),
        Ok(Err(outcome)) => outcome,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Opens a TCP connection or binds a UDP port; with a port in `from`, that one.
///
/// The outer error is the lab's, the inner one what became of the attempt.
pub fn open(
    lab: &Lab,
    host: &str,
    protocol: Protocol,
    from: Option<SocketAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Result<Result<Conversation, Outcome>, LabError> {
    lab.run(host, || Conversation::open(protocol, from, to, patience))
}

/// An open connection or UDP port of a client; it stays in its host's namespace.
#[derive(Debug)]
pub struct Conversation {
    transport: Transport,
    local: SocketAddr,
}

#[derive(Debug)]
enum Transport {
    Tcp(BufReader<TcpStream>),
    Udp(UdpSocket),
}

impl Conversation {
    /// Opens one in the namespace of the calling thread.
    pub(super) fn open(
        protocol: Protocol,
        from: Option<SocketAddr>,
        to: SocketAddr,
        patience: Duration,
    ) -> Result<Self, Outcome> {
        let opened = match protocol {
            Protocol::Tcp => open_tcp(from, to, patience),
            Protocol::Udp => open_udp(from, to),
            Protocol::Sctp => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "no SCTP sockets in the lab"))
            }
        };
        opened.map_err(|e| Outcome::of_error(&e))
    }

    /// The client's own end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a request and waits for the answer that repeats it.
    pub fn ask(&mut self, request: &str, patience: Duration) -> Outcome {
        let answer = match &mut self.transport {
            Transport::Tcp(stream) => ask_stream(stream, request, patience),
            Transport::Udp(socket) => ask_datagram(socket, request, patience),
        };
        match answer {
            Ok(text) => Outcome::of_answer(&text, self.local),
            Err(error) => Outcome::of_error(&error),
        }
    }

    /// Whether the peer has ended the connection by now; always false for UDP.
    pub fn is_closed(&self) -> bool {
        let Transport::Tcp(stream) = &self.transport else { return false };
        let stream = stream.get_ref();
        if stream.set_nonblocking(true).is_err() {
            return true;
        }
        let peeked = stream.peek(&mut [0]);
        let blocking = stream.set_nonblocking(false);
        match peeked {
            Ok(octets) => octets == 0 || blocking.is_err(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

fn open_tcp(
    from: Option<SocketAddr>,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<Conversation> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(from) = from {
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&to.into(), patience)?;
    let stream = TcpStream::from(socket);
    let local = stream.local_addr()?;
    Ok(Conversation { transport: Transport::Tcp(BufReader::new(stream)), local })
}

fn open_udp(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conversation> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(from.unwrap_or(SocketAddr::new(any, 0)))?;
    // Connected, so that ICMP errors come back as errors.
    socket.connect(to)?;
    let local = socket.local_addr()?;
    Ok(Conversation { transport: Transport::Udp(socket), local })
}

fn ask_stream(
    stream: &mut BufReader<TcpStream>,
    request: &str,
    patience: Duration,
) -> io::Result<String> {
    stream.get_ref().set_write_timeout(Some(patience))?;
    stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
    let end = Instant::now() + patience;
    let mut answer = String::new();
    loop {
        stream.get_ref().set_read_timeout(Some(remaining(end)?))?;
        answer.clear();
        if stream.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // An answer to an earlier request that came too late for it is passed over.
        if repeats(&answer, request) {
            return Ok(answer);
        }
    }
}

fn ask_datagram(socket: &UdpSocket, request: &str, patience: Duration) -> io::Result<String> {
    let mut buffer = [0; ANSWER_MAX];
    socket.send(request.as_bytes())?;
    let end = Instant::now() + patience;
    loop {
        socket.set_read_timeout(Some(remaining(end)?))?;
        let length = match socket.recv(&mut buffer) {
            // A socket with a time-out is not resumed after the process was stopped for a while.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        let answer = String::from_utf8_lossy(&buffer[..length]);
        if repeats(&answer, request) {
            return Ok(answer.into());
        }
    }
}

fn repeats(answer: &str, request: &str) -> bool {
    answer.splitn(3, ' ').nth(2).is_some_and(|echo| echo.trim_end_matches('\n') == request)
}

fn remaining(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
