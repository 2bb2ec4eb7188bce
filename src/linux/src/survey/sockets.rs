//! Sockets that wait for others, from `/proc`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smartnat_core::model::Protocol;

/// `TCP_LISTEN`.
const TCP_LISTEN: &str = "0A";
/// `TCP_CLOSE`, the state of a datagram socket without a peer.
const UNCONNECTED: &str = "07";

/// TCP listeners and UDP sockets without a peer, of the calling thread's network namespace.
pub(super) fn listening() -> io::Result<BTreeSet<(Protocol, SocketAddr)>> {
    let files = [
        ("tcp", Protocol::Tcp, TCP_LISTEN),
        ("tcp6", Protocol::Tcp, TCP_LISTEN),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ];
    let mut found = BTreeSet::new();
    for (file, protocol, state) in files {
        match std::fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(text) => found.extend(parse(&text, state).map(|address| (protocol, address))),
            // Without IPv6 there is no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Local addresses of the sockets in this state.
fn parse<'a>(text: &'a str, state: &'a str) -> impl Iterator<Item = SocketAddr> + 'a {
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _peer, found) = (words.next()?, words.next()?, words.next()?);
        if found != state {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
        Some(SocketAddr::new(parse_address(address)?, port))
    })
}

/// The kernel prints the words of an address as numbers of the host's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(index * 8..(index + 1) * 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_read_and_connections_left_out() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
             1: 020200C0:0050 070200C0:9C40 01 00000000:00000000\n\
             2: 00000000:0016 00000000:0000 0A 00000000:00000000\n";
        let found: Vec<_> = parse(text, TCP_LISTEN).map(|a| a.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:8080", "0.0.0.0:22"]);
        let text = "header\n\
             0: B80D0120000000000000000002000000:0035 00000000000000000000000000000000:0000 07\n";
        let found: Vec<_> = parse(text, UNCONNECTED).map(|a| a.to_string()).collect();
        assert_eq!(found, ["[2001:db8::2]:53"]);
    }

    #[test]
    fn nonsense_is_passed_over() {
        let text = "header\n\n0:\n0: x:y z 0A\n0: 0100007F:FFFFF 0 0A\n0: 0100007F 0 0A\n0: é00000000000000:1 0 0A";
        assert_eq!(parse(text, TCP_LISTEN).count(), 0);
    }
}
