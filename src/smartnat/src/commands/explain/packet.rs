//! The packet that `--from`, `--to` and `--interface` speak of.

use std::net::IpAddr;

use smartnat_core::explain::{Origin, Question};
use smartnat_core::model::{Family, HostState, Protocol};

use crate::error::CommandError;

/// What `--interface` says for the host's own packets.
const LOCAL: &str = "lo";

/// Reads the flags.
pub(super) fn question(
    from: &str,
    to: &str,
    interface: Option<&str>,
) -> Result<Question, CommandError> {
    let (source, source_port) = endpoint("--from", from, from)?;
    let (endpoint_text, protocol_text) = to.rsplit_once('/').unwrap_or((to, "tcp"));
    let protocol: Protocol = protocol_text.parse().map_err(|()| {
        wrong(
            "--to",
            to,
            &format!("has an unknown protocol {protocol_text:?}; write /tcp, /udp or /sctp"),
        )
    })?;
    let (destination, port) = endpoint("--to", to, endpoint_text)?;
    let port = port.ok_or_else(|| {
        let example = written(destination, 8080);
        wrong("--to", to, &format!("has no port; write for example {example}/{protocol}"))
    })?;
    if Family::of(&source) != Family::of(&destination) {
        let text = format!(
            "is {}, but --from {from:?} is {}; give both of one family",
            Family::of(&destination),
            Family::of(&source)
        );
        return Err(wrong("--to", to, &text));
    }
    let origin = interface.map(|name| match name {
        LOCAL => Origin::Local,
        name => Origin::Interface(name.to_owned()),
    });
    Ok(Question { source, source_port, destination, port, protocol, origin })
}

/// Refuses an interface that the host does not have.
pub(super) fn check_interface(question: &Question, host: &HostState) -> Result<(), CommandError> {
    match &question.origin {
        Some(Origin::Interface(name)) if !host.links.contains_key(name) => {
            let known: Vec<&str> = host.links.keys().map(String::as_str).collect();
            let text = format!("is no interface of this host; it has {}", known.join(", "));
            Err(wrong("--interface", name, &text))
        }
        _ => Ok(()),
    }
}

/// `IP`, `IP:PORT`, `[IP]:PORT`.
fn endpoint(flag: &str, value: &str, text: &str) -> Result<(IpAddr, Option<u16>), CommandError> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return unicast(flag, value, address).map(|address| (address, None));
    }
    let no_address = || {
        wrong(
            flag,
            value,
            "is no IP address; names are not resolved: write an address such as 198.51.100.7 or \
             [2001:db8::7]:443",
        )
    };
    let (address, port) = text.rsplit_once(':').ok_or_else(no_address)?;
    let address = match address.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(no_address)?,
        None if address.contains(':') => return Err(no_address()),
        None => address,
    };
    let address = address.parse().map_err(|_| no_address())?;
    // The number parser of the standard library also takes a sign.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let valid = port.parse::<u16>().ok().filter(|port| digits && *port != 0);
    let port = valid.ok_or_else(|| {
        wrong(flag, value, &format!("has no valid port {port:?}; write a number from 1 to 65535"))
    })?;
    Ok((unicast(flag, value, address)?, Some(port)))
}

fn unicast(flag: &str, value: &str, address: IpAddr) -> Result<IpAddr, CommandError> {
    let unusable = address.is_loopback() || address.is_multicast() || address.is_unspecified();
    if unusable {
        let text = "is no address that a packet between hosts has; write a unicast address";
        return Err(wrong(flag, value, text));
    }
    Ok(address)
}

fn written(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn wrong(flag: &str, value: &str, text: &str) -> CommandError {
    CommandError::Usage(format!("{flag}: {value:?} {text}"))
}
