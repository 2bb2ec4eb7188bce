//! ICMP echo.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::Outcome;
use super::outcome::Answer;
use crate::lab::Lab;

/// ICMP type of an echo request.
const ECHO_REQUEST: u8 = 8;
/// `ICMPv6` type of an echo request.
const ECHO_REQUEST_V6: u8 = 128;
/// Octets of the header.
const HEADER: usize = 8;

/// Sends one echo request with `size` octets of data; the answer names the address that was asked.
pub fn ping(
    lab: &Lab,
    host: &str,
    from: Option<IpAddr>,
    to: IpAddr,
    size: usize,
    patience: Duration,
) -> Outcome {
    match lab.run(host, || echo(from, to, size, patience)) {
        Ok(Ok(local)) => Outcome::Answered(Answer {
            server: to.to_string(),
            seen_peer: local,
            local,
            echo: String::new(),
        }),
        Ok(Err(error)) => Outcome::of_error(&error),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn echo(
    from: Option<IpAddr>,
    to: IpAddr,
    size: usize,
    patience: Duration,
) -> io::Result<SocketAddr> {
    let (domain, protocol, kind) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ECHO_REQUEST),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ECHO_REQUEST_V6),
    };
    // A datagram socket: the kernel fills in identifier and checksum.
    let mut socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect(&SocketAddr::new(to, 0).into())?;
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut request = vec![0; HEADER + size];
    request[0] = kind;
    socket.write_all(&request)?;
    let end = Instant::now() + patience;
    let mut answer = vec![0; HEADER + size];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        // Echo replies have type 0 and 129; a ping socket receives nothing else of its own.
        if socket.read(&mut answer)? == HEADER + size && matches!(answer[0], 0 | 129) {
            return Ok(local);
        }
    }
}
