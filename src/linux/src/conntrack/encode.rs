//! Requests to ctnetlink.

use std::net::IpAddr;

use smartnat_core::objects::{FlowFilter, FlowKey, FlowTuple, Layer4};

use super::protocol::{command, entry, ip, layer4, tuple};
use crate::netlink::{Message, MessageBuilder, NetlinkError, Subsystem};

/// `AF_UNSPEC`: entries of both families.
const ANY_FAMILY: u8 = 0;
/// `AF_INET`.
const IPV4: u8 = 2;
/// `AF_INET6`.
const IPV6: u8 = 10;

/// Lists the entries that the filter selects, of both families.
pub(super) fn list(filter: FlowFilter) -> Result<Message, NetlinkError> {
    let mut message = MessageBuilder::new(Subsystem::Conntrack, command::GET, 0, ANY_FAMILY);
    message.be32(entry::MARK, filter.mark).be32(entry::MARK_MASK, filter.mask);
    message.finish()
}

/// Deletes one entry. The tuple must be in it: without one the kernel would
/// flush the whole table.
pub(super) fn delete(key: &FlowKey) -> Result<Message, NetlinkError> {
    let family = if key.original.source.is_ipv4() { IPV4 } else { IPV6 };
    let mut message = MessageBuilder::new(Subsystem::Conntrack, command::DELETE, 0, family);
    message.nest(entry::ORIGINAL, |inner| put_tuple(inner, &key.original)).be32(entry::ID, key.id);
    message.finish()
}

fn put_tuple(message: &mut MessageBuilder, flow: &FlowTuple) {
    message
        .nest(tuple::IP, |addresses| {
            put_address(addresses, flow.source, ip::V4_SOURCE, ip::V6_SOURCE);
            put_address(addresses, flow.destination, ip::V4_DESTINATION, ip::V6_DESTINATION);
        })
        .nest(tuple::LAYER4, |protocol| {
            protocol.byte(layer4::NUMBER, flow.protocol);
            put_layer4(protocol, flow.layer4, flow.source.is_ipv4());
        });
}

fn put_address(message: &mut MessageBuilder, address: IpAddr, v4: u16, v6: u16) {
    match address {
        IpAddr::V4(address) => message.network_bytes(v4, &address.octets()),
        IpAddr::V6(address) => message.network_bytes(v6, &address.octets()),
    };
}

fn put_layer4(message: &mut MessageBuilder, value: Layer4, v4: bool) {
    match value {
        Layer4::Ports { source, destination } => {
            message.be16(layer4::SOURCE_PORT, source).be16(layer4::DESTINATION_PORT, destination);
        }
        Layer4::Icmp { kind, code, id } => {
            let (id_kind, type_kind, code_kind) = if v4 {
                (layer4::ICMP_ID, layer4::ICMP_TYPE, layer4::ICMP_CODE)
            } else {
                (layer4::ICMPV6_ID, layer4::ICMPV6_TYPE, layer4::ICMPV6_CODE)
            };
            message.be16(id_kind, id).byte(type_kind, kind).byte(code_kind, code);
        }
        Layer4::Other => {}
    }
}
