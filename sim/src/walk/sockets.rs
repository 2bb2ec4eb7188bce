//! Sockets of a host: what listens, what is connected.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use smartnat_core::model::Protocol;

use super::packet::IcmpError;

/// State of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// An opening packet was sent.
    Opening,
    /// It stands.
    Open,
    /// This side began to close it.
    Closing,
    /// It is closed.
    Closed,
    /// The peer reset it.
    Reset,
    /// An ICMP error came for it.
    Failed(IcmpError),
}

/// One end of a connection, or a connected UDP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who has it.
    pub owner: String,
    /// Whether it was accepted from a listener.
    pub accepted: bool,
    /// Mark of its packets.
    pub mark: u32,
    /// State.
    pub state: ConnectionState,
    /// Numbers of the requests or answers that arrived.
    pub received: Vec<u32>,
}

/// Protocol, own end, peer.
pub(crate) type ConnectionKey = (Protocol, SocketAddr, SocketAddr);

/// All sockets of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    listening: BTreeMap<(Protocol, u16, Option<IpAddr>), String>,
    connections: BTreeMap<ConnectionKey, Connection>,
}

impl Sockets {
    /// Listens on a port, of one address or of all.
    pub fn listen(&mut self, owner: &str, protocol: Protocol, address: Option<IpAddr>, port: u16) {
        self.listening.insert((protocol, port, address), owner.into());
    }

    /// Closes everything that `owner` has.
    pub fn close_all_of(&mut self, owner: &str) {
        self.listening.retain(|_, held| held != owner);
        self.connections.retain(|_, c| c.owner != owner);
    }

    /// Who listens there.
    pub fn listener(&self, protocol: Protocol, at: SocketAddr) -> Option<&str> {
        let specific = self.listening.get(&(protocol, at.port(), Some(at.ip())));
        specific.or_else(|| self.listening.get(&(protocol, at.port(), None))).map(String::as_str)
    }

    /// Whether any socket of a protocol exists.
    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        self.listening.keys().any(|(p, ..)| *p == protocol)
            || self.connections.keys().any(|(p, ..)| *p == protocol)
    }

    /// A connection by protocol, own end and peer.
    pub fn connection(
        &self,
        protocol: Protocol,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<&Connection> {
        self.connections.get(&(protocol, local, peer))
    }

    pub(crate) fn connection_mut(&mut self, key: &ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key)
    }

    pub(crate) fn connect(&mut self, key: ConnectionKey, connection: Connection) {
        self.connections.insert(key, connection);
    }

    pub(crate) fn close(&mut self, key: &ConnectionKey) {
        self.connections.remove(key);
    }
}
