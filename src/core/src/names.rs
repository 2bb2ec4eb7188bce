//! Names of kernel objects: a prefix that tells what it is, a digest that keeps it short.

use std::net::IpAddr;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use sha2::{Digest, Sha256};

use crate::model::{Family, ObjectKey, PortRange, Protocol, ServiceEndpoint};
use crate::objects::{CHAIN_PREFIX, ChainName, SET_PREFIX, SetName};

/// 80 bits: with 100,000 objects a collision has a chance below 10^-14.
const DIGEST_CHARS: usize = 16;

/// The kind of set whose members leave with an external address.
const EGRESS: char = 'e';

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = BASE32_NOPAD.encode(&hash.finalize());
    text.truncate(DIGEST_CHARS);
    text
}

fn chain(kind: &str, parts: &[&str]) -> ChainName {
    let name = format!("{CHAIN_PREFIX}{kind}-{}", digest(parts));
    assert!(name.len() <= ChainName::MAX_LEN, "chain name {name} is too long");
    ChainName(name)
}

fn set(kind: char, family: Family, parts: &[&str]) -> SetName {
    let family = if family == Family::V4 { '4' } else { '6' };
    let name = if parts.is_empty() {
        format!("{SET_PREFIX}{kind}{family}")
    } else {
        format!("{SET_PREFIX}{kind}{family}-{}", digest(parts))
    };
    assert!(name.len() <= SetName::MAX_LEN, "set name {name} is too long");
    SetName(name)
}

/// A chain that exists once.
pub fn fixed_chain(name: &str) -> ChainName {
    let name = format!("{CHAIN_PREFIX}{name}");
    assert!(name.len() <= ChainName::MAX_LEN, "chain name {name} is too long");
    ChainName(name)
}

/// nat: what is exposed on one external address.
pub fn address_chain(address: IpAddr) -> ChainName {
    chain("A", &[&address.to_string()])
}

/// nat: one Mapping.
pub fn mapping_chain(key: &ObjectKey) -> ChainName {
    chain("M", &[&key.namespace, &key.name])
}

/// nat: one port of a Mapping.
pub fn port_chain(key: &ObjectKey, protocol: Protocol, ports: PortRange) -> ChainName {
    chain("P", &[&key.namespace, &key.name, protocol.name(), &ports.to_string()])
}

/// nat: one endpoint of a port with session affinity.
pub fn endpoint_chain(
    key: &ObjectKey,
    protocol: Protocol,
    ports: PortRange,
    endpoint: &ServiceEndpoint,
) -> ChainName {
    let endpoint = endpoint.to_string();
    chain("E", &[&key.namespace, &key.name, protocol.name(), &ports.to_string(), &endpoint])
}

/// Clients that session affinity holds to an endpoint.
pub fn affinity_set(
    key: &ObjectKey,
    protocol: Protocol,
    ports: PortRange,
    endpoint: &ServiceEndpoint,
    seconds: u32,
) -> SetName {
    set(
        'f',
        Family::of(&endpoint.address),
        &[
            &key.namespace,
            &key.name,
            protocol.name(),
            &ports.to_string(),
            &endpoint.to_string(),
            &seconds.to_string(),
        ],
    )
}

/// Allowed sources, named by their content so that equal lists are one set and a set never changes.
pub fn source_set(family: Family, networks: &[ipnet::IpNet]) -> SetName {
    let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
    set('s', family, &texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A list of sources by its content.
pub(crate) fn sources_digest(networks: &[ipnet::IpNet]) -> String {
    let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
    digest(&texts.iter().map(String::as_str).collect::<Vec<_>>()).to_ascii_lowercase()
}

/// A number that two values share with a chance of 2^-32.
pub(crate) fn digest_number(value: &[u8]) -> u32 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(value));
    u32::from_be_bytes([a, b, c, d])
}

/// A name of ASCII in the length of an interface's (`IFNAMSIZ`): of a longer one its first letter
/// and 78 bits of a digest.
pub(crate) fn fitted(name: &str) -> String {
    const BYTES: usize = 15;
    if name.len() <= BYTES {
        return name.to_owned();
    }
    let mut text: String = name.chars().take(1).chain(['~']).collect();
    text += &BASE64URL_NOPAD.encode(&Sha256::digest(name));
    text.truncate(BYTES);
    text
}

/// Pods that leave with an external address.
pub fn egress_set(address: IpAddr) -> SetName {
    set(EGRESS, Family::of(&address), &[&address.to_string()])
}

/// Whether a set of ours holds pods that leave with an external address.
pub(crate) fn is_egress_set(name: &SetName) -> bool {
    name.0.strip_prefix(SET_PREFIX).is_some_and(|rest| rest.starts_with(EGRESS))
}

/// External addresses of this host.
pub fn external_set(family: Family) -> SetName {
    set('x', family, &[])
}

/// Ended connections whose packets must not escape untranslated (T10).
pub fn quarantine_set(family: Family) -> SetName {
    set('q', family, &[])
}
