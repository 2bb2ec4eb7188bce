use super::Changes;
use super::classify::{nftables_datagram, route_datagram};
use crate::nft::OwnPort;

const HOST: Changes = Changes { host: true, kernel: false, nftables: false };
const KERNEL: Changes = Changes { host: false, kernel: true, nftables: false };
const NFTABLES: Changes = Changes { host: false, kernel: true, nftables: true };
const NOTHING: Changes = Changes { host: false, kernel: false, nftables: false };

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(kind: u16, family: u8, flags: u32) -> Vec<u8> {
    let mut body = vec![family, 0, 1, 0, 2, 0, 0, 0];
    body.extend(flags.to_ne_bytes());
    body.extend([0; 4]);
    message(kind, &body)
}

fn route(table: u8, protocol: u8, route_type: u8) -> Vec<u8> {
    message(25, &[2, 24, 0, 0, table, protocol, 0, route_type, 0, 0, 0, 0])
}

fn rule(protocol: u8) -> Vec<u8> {
    let mut body = vec![0; 12];
    body.extend(attribute(6, &20_000_u32.to_ne_bytes()));
    body.extend(attribute(21, &[protocol]));
    message(33, &body)
}

fn nft(command: u16, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(attributes.concat());
    message(10 << 8 | command, &body)
}

#[test]
fn links_and_addresses_are_the_hosts_and_may_take_routes_along() {
    assert_eq!(route_datagram(&link(16, 0, 0x1_0001)), HOST);
    assert_eq!(route_datagram(&link(16, 0, 0x1)), Changes::EVERYTHING);
    assert_eq!(route_datagram(&link(17, 0, 0)), Changes::EVERYTHING);
    assert_eq!(route_datagram(&link(16, 7, 0)), NOTHING);
    assert_eq!(route_datagram(&message(20, &[2; 8])), HOST);
    assert_eq!(route_datagram(&message(21, &[2; 8])), Changes::EVERYTHING);
}

#[test]
fn a_route_is_ours_the_hosts_or_of_no_concern() {
    assert_eq!(route_datagram(&route(0, 83, 1)), KERNEL);
    assert_eq!(route_datagram(&route(254, 4, 1)), HOST);
    assert_eq!(route_datagram(&route(255, 2, 2)), NOTHING);
    assert_eq!(route_datagram(&route(100, 4, 1)), NOTHING);
}

#[test]
fn a_rule_concerns_us_by_its_protocol() {
    assert_eq!(route_datagram(&rule(83)), KERNEL);
    assert_eq!(route_datagram(&rule(0)), NOTHING);
}

#[test]
fn in_nftables_only_our_chains_and_built_in_ones_that_bear_on_them_count() {
    let in_filter = || attribute(1, b"filter\0");
    let chain_of_rule = |name: &str| attribute(2, format!("{name}\0").as_bytes());
    let cases = [
        (nft(6, 2, &[chain_of_rule("SMARTNAT-DNAT")]), NFTABLES),
        (nft(6, 10, &[chain_of_rule("KUBE-SERVICES")]), NOTHING),
        (nft(6, 2, &[chain_of_rule("PREROUTING")]), NOTHING),
        (nft(8, 2, &[chain_of_rule("PREROUTING")]), NFTABLES),
        (nft(8, 2, &[chain_of_rule("KUBE-SERVICES")]), NOTHING),
        (nft(6, 2, &[in_filter(), chain_of_rule("FORWARD")]), NFTABLES),
        (nft(6, 2, &[in_filter(), chain_of_rule("DOCKER")]), NOTHING),
        (nft(3, 2, &[in_filter(), attribute(3, b"FORWARD\0")]), NFTABLES),
        (nft(3, 2, &[attribute(1, b"mangle\0"), attribute(3, b"FORWARD\0")]), NOTHING),
        (nft(5, 2, &[attribute(3, b"SMARTNAT-X\0")]), NFTABLES),
        (nft(5, 2, &[attribute(3, b"KUBE-X\0")]), NOTHING),
        (nft(2, 2, &[attribute(1, b"nat\0")]), NFTABLES),
        (nft(2, 1, &[attribute(1, b"other\0")]), NOTHING),
        (nft(15, 0, &[]), NOTHING),
    ];
    for (datagram, meaning) in cases {
        assert_eq!(nftables_datagram(&datagram, &OwnPort::default()), meaning, "{datagram:?}");
    }
}

#[test]
fn in_our_table_everything_counts_unless_it_was_our_client() {
    let table = |name: &str| attribute(1, format!("{name}\0").as_bytes());
    let from = |port: u32, mut datagram: Vec<u8>| {
        datagram[12..16].copy_from_slice(&port.to_ne_bytes());
        datagram
    };
    let own = OwnPort::default();
    for command in [0, 2, 3, 5, 6, 8, 9, 11, 12, 14] {
        let foreign = from(7, nft(command, 1, &[table("smartnat")]));
        assert_eq!(nftables_datagram(&foreign, &own), NFTABLES, "{command}");
        assert_eq!(nftables_datagram(&nft(command, 1, &[table("other")]), &own), NOTHING);
        assert_eq!(nftables_datagram(&nft(command, 0, &[table("smartnat")]), &own), NOTHING);
    }
    let nobodys = nft(2, 1, &[table("smartnat")]);
    assert_eq!(nftables_datagram(&nobodys, &own), NFTABLES);
    own.set(7);
    let ours = from(7, nft(12, 1, &[table("smartnat")]));
    assert_eq!(nftables_datagram(&ours, &own), NOTHING);
    let both = [ours, from(8, nft(12, 1, &[table("smartnat")]))].concat();
    assert_eq!(nftables_datagram(&both, &own), NFTABLES);
}

#[test]
fn all_messages_of_a_datagram_count() {
    let datagram = [rule(0), route(254, 4, 1), rule(83)].concat();
    assert_eq!(route_datagram(&datagram), HOST | KERNEL);
}

#[test]
fn what_cannot_be_read_may_mean_anything() {
    let mut short = route(254, 4, 1);
    short.truncate(20);
    let mut endless = message(16, &[]);
    endless[..4].copy_from_slice(&[0; 4]);
    for datagram in [short, endless, message(4, &[]), message(24, &[2]), message(33, &[0; 15])] {
        assert_eq!(route_datagram(&datagram), Changes::EVERYTHING, "{datagram:?}");
    }
}
