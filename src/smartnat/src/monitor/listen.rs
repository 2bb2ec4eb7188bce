//! The socket of the monitor.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::settings::MonitorSettings;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Why the monitor can't listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "monitorPort: another program listens on {0} (`ss -ltnp 'sport = :{port}'` shows it); give \
         health and metrics another port with --monitor-port or SMARTNAT_MONITOR_PORT, or none \
         with --monitor-port 0",
        port = .0.port()
    )]
    Taken(SocketAddr),
    /// Everything else.
    #[error(
        "monitorAddress, monitorPort: can't listen on {address}: {source}; give another address \
         with --monitor-address, another port with --monitor-port, or serve nothing with \
         --monitor-port 0"
    )]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Listens as configured; `None` where nothing is to be served.
///
/// An address that this host does not have yet, as with loopback down in a new network
/// namespace, is served once it is there.
pub fn listen(settings: MonitorSettings) -> Result<Option<TcpListener>, ListenError> {
    if settings.port == 0 {
        return Ok(None);
    }
    let listener = match listen_on(SocketAddr::new(settings.address, settings.port)) {
        Err(ListenError::Refused { address, source })
            if address.ip().is_unspecified() && is_without_ipv6(&source) =>
        {
            listen_on(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), settings.port))?
        }
        other => other?,
    };
    Ok(Some(listener))
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

fn listen_on(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        _ => ListenError::Refused { address, source },
    };
    match open(address, false) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let listener = open(address, true).map_err(refused)?;
            tracing::warn!(
                "monitorAddress: {} is no address of this host now; health and metrics are served \
                 once it is",
                address.ip()
            );
            Ok(listener)
        }
        other => other.map_err(refused),
    }
}

fn open(address: SocketAddr, absent: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(absent)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(absent)?,
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn settings(address: impl Into<IpAddr>, port: u16) -> MonitorSettings {
        MonitorSettings { address: address.into(), port }
    }

    /// A port that is free now.
    fn free_port() -> u16 {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
        probe.local_addr().expect("bound").port()
    }

    #[test]
    fn port_0_serves_nothing() {
        assert!(listen(settings(Ipv4Addr::LOCALHOST, 0)).expect("no error").is_none());
    }

    #[test]
    fn a_port_that_is_taken_is_refused_with_setting_and_mend() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
        let port = taken.local_addr().expect("bound").port();
        let error = listen(settings(Ipv4Addr::LOCALHOST, port)).expect_err("taken");
        let text = error.to_string();
        assert!(matches!(error, ListenError::Taken(_)), "{text}");
        for part in ["monitorPort", &format!("127.0.0.1:{port}"), "--monitor-port 0"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_address_that_is_not_there_yet_is_no_failure() {
        for address in ["192.0.2.77", "2001:db8::77"] {
            let address: IpAddr = address.parse().expect("an address");
            let listener = listen(settings(address, free_port())).expect("it may come");
            assert_eq!(listener.expect("bound").local_addr().expect("bound").ip(), address);
        }
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        let port = free_port();
        let listener = listen(settings(Ipv6Addr::UNSPECIFIED, port)).expect("free").expect("bound");
        assert!(listener.local_addr().expect("bound").ip().is_unspecified());
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4 is served too");
    }
}
