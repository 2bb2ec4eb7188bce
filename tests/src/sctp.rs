//! SCTP by raw sockets: enough of an association that connection tracking follows it, on
//! machines whose kernel has no SCTP of its own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use smartnat::lab::Lab;
use socket2::{Domain, Protocol, Socket, Type};

/// IP protocol number.
const SCTP: i32 = 132;
/// Octets of the common header: ports, verification tag, checksum.
const COMMON_HEADER: usize = 12;
/// What packets to the client carry after [`associate`].
pub const TAG_OF_CLIENT: u32 = 0x0101_0101;
/// What packets to the server carry after [`associate`].
pub const TAG_OF_SERVER: u32 = 0x0202_0202;
/// What the state cookie says.
const COOKIE: [u8; 4] = *b"cook";

/// The one chunk of a packet (RFC 9260, section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Opens an association; carries the tag that the answer must have.
    Init(u32),
    /// Answers with a cookie.
    InitAck(u32),
    /// Returns the cookie.
    CookieEcho,
    /// The association is there.
    CookieAck,
    /// A sign of life.
    Heartbeat,
}

/// A received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpPacket {
    /// Who sent it.
    pub from: SocketAddr,
    /// Its verification tag.
    pub tag: u32,
    /// What it carries.
    pub chunk: Chunk,
}

/// One end of associations: a port of a host's address.
#[derive(Debug)]
pub struct SctpEnd {
    /// A raw socket; the standard library's datagram calls fit it.
    socket: UdpSocket,
    local: SocketAddr,
}

impl SctpEnd {
    /// Opens one in a host of the lab.
    pub fn open(lab: &Lab, host: &str, local: SocketAddr) -> io::Result<Self> {
        let open = || -> io::Result<Self> {
            let protocol = Some(Protocol::from(SCTP));
            let socket = Socket::new(Domain::for_address(local), Type::RAW, protocol)?;
            socket.bind(&SocketAddr::new(local.ip(), 0).into())?;
            Ok(Self { socket: UdpSocket::from(OwnedFd::from(socket)), local })
        };
        lab.run(host, open).map_err(io::Error::other)?
    }

    /// Sends one chunk.
    pub fn send(&self, to: SocketAddr, tag: u32, chunk: Chunk) -> io::Result<()> {
        let packet = encode(self.local.port(), to.port(), tag, chunk);
        self.socket.send_to(&packet, SocketAddr::new(to.ip(), 0)).map(drop)
    }

    /// The next packet to this port with a right checksum, if one comes within `patience`.
    pub fn receive(&self, patience: Duration) -> Option<SctpPacket> {
        let end = Instant::now() + patience;
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout((!left.is_zero()).then_some(left)).ok()?;
            if left.is_zero() {
                return None;
            }
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let found = decode(self.local, from.ip(), &buffer[..length]);
            if found.is_some() {
                return found;
            }
        }
    }
}

/// Performs the four-way handshake; the packets that the server saw first and that the client
/// got back first, or `None` where a packet did not arrive within `patience`.
pub fn associate(
    client: &SctpEnd,
    server: &SctpEnd,
    to: SocketAddr,
    patience: Duration,
) -> Option<(SctpPacket, SctpPacket)> {
    client.send(to, 0, Chunk::Init(TAG_OF_CLIENT)).ok()?;
    let init = server.receive(patience)?;
    server.send(init.from, TAG_OF_CLIENT, Chunk::InitAck(TAG_OF_SERVER)).ok()?;
    let answer = client.receive(patience)?;
    client.send(to, TAG_OF_SERVER, Chunk::CookieEcho).ok()?;
    server.receive(patience).filter(|p| p.chunk == Chunk::CookieEcho)?;
    server.send(init.from, TAG_OF_CLIENT, Chunk::CookieAck).ok()?;
    client.receive(patience).filter(|p| p.chunk == Chunk::CookieAck)?;
    client.send(to, TAG_OF_SERVER, Chunk::Heartbeat).ok()?;
    server.receive(patience).filter(|p| p.chunk == Chunk::Heartbeat)?;
    Some((init, answer))
}

fn encode(source: u16, destination: u16, tag: u32, chunk: Chunk) -> Vec<u8> {
    let (kind, value) = match chunk {
        Chunk::Init(own) => (1, opening(own)),
        Chunk::InitAck(own) => (2, [&opening(own)[..], &[0, 7, 0, 8], &COOKIE].concat()),
        Chunk::Heartbeat => (4, vec![0, 1, 0, 8, 0, 0, 0, 0]),
        Chunk::CookieEcho => (10, COOKIE.to_vec()),
        Chunk::CookieAck => (11, Vec::new()),
    };
    let length = u16::try_from(4 + value.len()).expect("a short chunk").to_be_bytes();
    let header =
        [&source.to_be_bytes()[..], &destination.to_be_bytes(), &tag.to_be_bytes(), &[0; 4]];
    let mut packet = [&header.concat()[..], &[kind, 0], &length, &value].concat();
    let checksum = crc32c::crc32c(&packet);
    packet[8..COMMON_HEADER].copy_from_slice(&checksum.to_le_bytes());
    packet
}

/// Own tag, window, one stream each way, first sequence number.
fn opening(tag: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &65_535_u32.to_be_bytes(), &[0, 1, 0, 1], &1_u32.to_be_bytes()]
        .concat()
}

fn decode(local: SocketAddr, from: IpAddr, octets: &[u8]) -> Option<SctpPacket> {
    // Raw IPv4 sockets deliver the IP header, IPv6 ones do not.
    let header = if local.is_ipv4() { usize::from(octets.first()? & 0x0f) * 4 } else { 0 };
    let packet = octets.get(header..)?;
    let common = packet.first_chunk::<COMMON_HEADER>()?;
    let mut unsummed = packet.to_vec();
    unsummed[8..COMMON_HEADER].fill(0);
    let checksum = u32::from_le_bytes([common[8], common[9], common[10], common[11]]);
    let port = |at: usize| u16::from_be_bytes([common[at], common[at + 1]]);
    if port(2) != local.port() || crc32c::crc32c(&unsummed) != checksum {
        return None;
    }
    let chunk = packet.get(COMMON_HEADER..)?;
    let own_tag = || Some(u32::from_be_bytes(*chunk.get(4..)?.first_chunk::<4>()?));
    let chunk = match chunk.first()? {
        1 => Chunk::Init(own_tag()?),
        2 => Chunk::InitAck(own_tag()?),
        4 => Chunk::Heartbeat,
        10 => Chunk::CookieEcho,
        11 => Chunk::CookieAck,
        _ => return None,
    };
    let tag = u32::from_be_bytes([common[4], common[5], common[6], common[7]]);
    Some(SctpPacket { from: SocketAddr::new(from, port(0)), tag, chunk })
}
