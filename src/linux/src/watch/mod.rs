//! Tells when the host or something of ours in the kernel changed.

pub(crate) mod classify;

#[cfg(test)]
mod classify_tests;

use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::nft::OwnPort;

/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`,
/// `_IPV6_RULE`.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// `NFNLGRP_NFTABLES`.
const NFTABLES_GROUP: u32 = 7;
/// The largest datagram that the kernel sends to a group.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams that one call reads; what remains is read by the next.
const MAX_DATAGRAMS: usize = 4096;
/// What the kernel may queue for us before it drops and says so.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// The same for nftables, which tells of each element: 100,000 in one change of ours have room.
const NFTABLES_BUFFER_BYTES: usize = 32 << 20;

/// What changed since the last look, coalesced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links, addresses or routes of the host.
    pub host: bool,
    /// Rules, routes or tables of ours, or what takes them along.
    pub kernel: bool,
    /// Among them tables of nftables, be it those of iptables' nft flavour.
    pub nftables: bool,
}

impl Changes {
    /// When notifications were lost, anything may have changed.
    pub const EVERYTHING: Self = Self { host: true, kernel: true, nftables: true };

    /// Whether anything changed.
    pub fn any(self) -> bool {
        self.host || self.kernel
    }
}

impl BitOr for Changes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            host: self.host || other.host,
            kernel: self.kernel || other.kernel,
            nftables: self.nftables || other.nftables,
        }
    }
}

impl BitOrAssign for Changes {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// Notifications of the network namespace of the thread that opened it.
///
/// The kernel queues them from [`open`](Self::open) on: what happens after it and before
/// the first call of [`changed`](Self::changed) is not missed. Our own changes are
/// reported like anybody's, except those of [`ignoring`](Self::ignoring). ipset, tables of
/// iptables-legacy, sysctls and rules that fill sets send none.
pub struct ChangeWatch {
    route: Socket,
    netfilter: Option<Socket>,
    own: OwnPort,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for ChangeWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeWatch")
            .field("netfilter", &self.netfilter.is_some())
            .finish_non_exhaustive()
    }
}

impl ChangeWatch {
    /// Subscribes; `nftables` also to changes of our table and of those of iptables' nft flavour.
    pub fn open(nftables: bool) -> io::Result<Self> {
        let route = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS, RECEIVE_BUFFER_BYTES)?;
        let groups = [NFTABLES_GROUP];
        let netfilter = nftables
            .then(|| subscribe(NETLINK_NETFILTER, &groups, NFTABLES_BUFFER_BYTES))
            .transpose()?;
        let (own, buffer) = (OwnPort::default(), vec![0; DATAGRAM_BYTES]);
        Ok(Self { route, netfilter, own, buffer })
    }

    /// From now on without what the client of this address changes in nftables.
    #[must_use]
    pub fn ignoring(self, own: OwnPort) -> Self {
        Self { own, ..self }
    }

    /// Waits until something changed. Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> io::Result<Changes> {
        loop {
            let Self { route, netfilter, own, buffer } = &mut *self;
            // Registered before the queues are read, so that nothing arrives unnoticed between.
            let route_ready = register(route)?;
            let netfilter_ready = match netfilter.as_ref() {
                Some(socket) => Some(register(socket)?),
                None => None,
            };
            let changes = drain_all(route, netfilter.as_ref(), own, buffer)?;
            if changes.any() {
                return Ok(changes);
            }
            let netfilter_readable = async {
                match &netfilter_ready {
                    Some(socket) => socket.readable().await.map(drop),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = route_ready.readable() => ready.map(drop)?,
                ready = netfilter_readable => ready?,
            }
        }
    }

    /// What changed up to now, without waiting.
    pub fn pending(&mut self) -> io::Result<Changes> {
        drain_all(&self.route, self.netfilter.as_ref(), &self.own, &mut self.buffer)
    }
}

#[allow(
    deprecated,
    reason = "sound for a borrowed descriptor; its successor is an unsafe function"
)]
fn register(socket: &Socket) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    AsyncFd::with_interest(socket.as_fd(), Interest::READABLE)
}

fn subscribe(protocol: isize, groups: &[u32], buffer_bytes: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    // Without the privilege the default size serves, with more frequent full reads.
    let _ = set_socket_recv_buffer_size_force(&socket, buffer_bytes);
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn drain_all(
    route: &Socket,
    netfilter: Option<&Socket>,
    own: &OwnPort,
    buffer: &mut [u8],
) -> io::Result<Changes> {
    let mut changes = drain(route, buffer, classify::route_datagram)?;
    if let Some(socket) = netfilter {
        changes |= drain(socket, buffer, |datagram| classify::nftables_datagram(datagram, own))?;
    }
    Ok(changes)
}

fn drain(
    socket: &Socket,
    buffer: &mut [u8],
    classify: impl Fn(&[u8]) -> Changes,
) -> io::Result<Changes> {
    let mut changes = Changes::default();
    for _ in 0..MAX_DATAGRAMS {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length)) => {
                changes |= buffer.get(..length).map_or(Changes::EVERYTHING, &classify);
            }
            Err(Errno::AGAIN) => return Ok(changes),
            Err(Errno::INTR) => {}
            Err(Errno::NOBUFS) => changes |= Changes::EVERYTHING,
            Err(error) => return Err(error.into()),
        }
    }
    // So many at once are worth a look at everything; the rest wakes the next call.
    Ok(Changes::EVERYTHING)
}
