//! Established connections: one TCP stream, and small UDP datagrams.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smartnat::lab::Lab;
use socket2::{Domain, Socket, Type};

use crate::connects::{is_pause, listen};
use crate::error::{BenchError, system};
use crate::network::{CLIENT, SERVER, Sources};
use crate::pair::{Ready, beside_both};
use crate::processors::{Processors, stay_on};

/// Octets that are handed to the kernel at a time.
const CHUNK: usize = 128 << 10;
/// Octets of a small datagram, headers not counted.
const DATAGRAM: usize = 64;
/// First octet of a datagram that wants an answer.
const ASKS: u8 = 1;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the server looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Sends for a while over one TCP connection; what arrives, in Gbit/s.
pub(crate) fn stream(
    lab: &Lab,
    sources: &mut Sources,
    target: SocketAddr,
    length: Duration,
    processors: Processors,
) -> Result<f64, BenchError> {
    let source = sources.next().ok_or(BenchError::NoSource)?;
    let server = |ready: Ready<'_>, stop: &AtomicBool| {
        stay_on(processors.server)?;
        let listener = listen().map_err(system("listen"))?;
        ready.tell();
        take_stream(&listener, stop).map_err(system("receive"))
    };
    let client = || {
        stay_on(processors.client)?;
        let sent = send_stream(source, target, length);
        sent.map_err(|e| BenchError::Traffic(format!("stream from {source} to {target}: {e}")))
    };
    let (rate, ()) = beside_both(lab, (SERVER, server), (CLIENT, client))?;
    rate.ok_or_else(|| BenchError::Traffic(format!("no stream to {target}")))
}

fn send_stream(source: SocketAddr, target: SocketAddr, length: Duration) -> io::Result<()> {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.bind(&source.into())?;
    socket.connect(&target.into())?;
    let chunk = vec![0; CHUNK];
    let began = Instant::now();
    while began.elapsed() < length {
        socket.write_all(&chunk)?;
    }
    Ok(())
}

/// Gbit/s from the first octet to the end of the stream.
fn take_stream(listener: &Socket, stop: &AtomicBool) -> io::Result<Option<f64>> {
    let mut connection = loop {
        match listener.accept() {
            Ok((connection, _)) => break connection,
            Err(error) if !is_pause(&error) => return Err(error),
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(None),
            Err(_) => {}
        }
    };
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut chunk = vec![0; CHUNK];
    let mut octets = connection.read(&mut chunk)?;
    let began = Instant::now();
    loop {
        match connection.read(&mut chunk)? {
            0 => break,
            more => octets += more,
        }
    }
    Ok(Some(count(octets as u64) * 8.0 / began.elapsed().as_secs_f64() / 1e9))
}

/// Sends small datagrams for a while, as fast as it goes, to a target that leads to one of two
/// endpoints; how many arrive in a second.
pub(crate) fn datagrams(
    lab: &Lab,
    sources: &mut Sources,
    (target, endpoints): (SocketAddr, [SocketAddr; 2]),
    length: Duration,
    processors: Processors,
) -> Result<f64, BenchError> {
    let source = sources.next().ok_or(BenchError::NoSource)?;
    let server = |ready: Ready<'_>, stop: &AtomicBool| {
        stay_on(processors.server)?;
        // An answer leaves from the address that its socket is bound to.
        let bind = |endpoint| UdpSocket::bind(endpoint).map_err(system("bind"));
        let (one, other) = (bind(endpoints[0])?, bind(endpoints[1])?);
        let before = arrived()?;
        ready.tell();
        let answered = std::thread::scope(|scope| {
            let beside = scope.spawn(|| answer_until(&other, stop));
            let here = answer_until(&one, stop);
            here.and(beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        answered.map_err(system("receive"))?;
        Ok(arrived()? - before)
    };
    let client = || {
        stay_on(processors.client)?;
        let sent = send_datagrams(source, target, length);
        sent.map_err(|e| BenchError::Traffic(format!("datagrams from {source} to {target}: {e}")))
    };
    let (arrived, elapsed) = beside_both(lab, (SERVER, server), (CLIENT, client))?;
    Ok(count(arrived) / elapsed.as_secs_f64())
}

fn send_datagrams(
    source: SocketAddr,
    target: SocketAddr,
    length: Duration,
) -> io::Result<Duration> {
    let socket = UdpSocket::bind(source)?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut datagram = [0; DATAGRAM];
    // An answer makes it an established connection.
    datagram[0] = ASKS;
    socket.send(&datagram)?;
    socket.recv(&mut [0; DATAGRAM])?;
    datagram[0] = 0;
    let began = Instant::now();
    while began.elapsed() < length {
        socket.send(&datagram)?;
    }
    Ok(began.elapsed())
}

/// Takes datagrams until it is told to stop.
fn answer_until(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    let mut datagram = [0; DATAGRAM];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut datagram) {
            Ok((_, peer)) if datagram[0] == ASKS => drop(socket.send_to(&datagram, peer)?),
            Ok(_) => {}
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Datagrams that reached this namespace, those included that found the receiver's buffer full.
fn arrived() -> Result<u64, BenchError> {
    let path = "/proc/thread-self/net/snmp";
    let text = fs::read_to_string(path).map_err(system(path))?;
    arrived_of(&text).ok_or_else(|| system(path)(io::ErrorKind::InvalidData.into()))
}

fn arrived_of(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse::<u64>().ok()
    };
    Some(of("InDatagrams")? + of("RcvbufErrors")?)
}

#[allow(clippy::cast_precision_loss, reason = "counts of a few seconds stay far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_counted_whether_or_not_they_were_read() {
        let text = "Ip: Forwarding\nIp: 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\n\
                    Udp: 40 1 5 7 4\n";
        assert_eq!(arrived_of(text), Some(44));
        assert_eq!(arrived_of("Udp: InDatagrams\n"), None);
        arrived().unwrap();
    }
}
