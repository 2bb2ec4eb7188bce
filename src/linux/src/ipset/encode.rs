//! Requests to ipset.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use smartnat_core::model::Family;
use smartnat_core::objects::{SetElement, SetKind, SetName, SetSpec};

use super::protocol::{LIST_NAMES, PROTOCOL, address, attribute, command, element, option};
use crate::netlink::{Message, MessageBuilder, NetlinkError, Subsystem};

/// `NFPROTO_*` of a family.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A command with its obligatory first attribute.
fn begin(command: u8, modifiers: u16) -> MessageBuilder {
    // ipset looks at its own family attribute; that of the header has to be set to some.
    let mut message =
        MessageBuilder::new(Subsystem::IpSet, command, modifiers, family_number(Family::V4));
    message.byte(attribute::PROTOCOL, PROTOCOL);
    message
}

/// Asks which protocol versions the kernel speaks.
pub(super) fn protocol() -> Result<Message, NetlinkError> {
    begin(command::PROTOCOL, 0).finish()
}

/// Asks which revisions of a set type the kernel has.
pub(super) fn type_revisions(kind: SetKind, family: Family) -> Result<Message, NetlinkError> {
    let mut message = begin(command::TYPE, 0);
    message
        .string(attribute::TYPE_NAME, kind.type_name())
        .byte(attribute::FAMILY, family_number(family));
    message.finish()
}

/// Lists the names of all sets.
pub(super) fn list_names() -> Result<Message, NetlinkError> {
    let mut message = begin(command::LIST, 0);
    message.be32(attribute::FLAGS, LIST_NAMES);
    message.finish()
}

/// Lists one set with its elements.
pub(super) fn list(name: &SetName) -> Result<Message, NetlinkError> {
    let mut message = begin(command::LIST, 0);
    message.string(attribute::SET_NAME, &name.0);
    message.finish()
}

/// Creates a set; refused when there is one of the name.
pub(super) fn create(
    name: &SetName,
    spec: &SetSpec,
    revision: u8,
) -> Result<Message, NetlinkError> {
    let mut message = begin(command::CREATE, NLM_F_CREATE | NLM_F_EXCL);
    message
        .string(attribute::SET_NAME, &name.0)
        .string(attribute::TYPE_NAME, spec.kind.type_name())
        .byte(attribute::REVISION, revision)
        .byte(attribute::FAMILY, family_number(spec.family))
        .nest(attribute::DATA, |data| {
            data.be32(option::MAX_ELEMENTS, spec.max_elements);
            if let Some(timeout) = spec.timeout {
                data.be32(option::TIMEOUT, timeout);
            }
        });
    message.finish()
}

/// Destroys a set; refused when there is none.
pub(super) fn destroy(name: &SetName) -> Result<Message, NetlinkError> {
    let mut message = begin(command::DESTROY, NLM_F_EXCL);
    message.string(attribute::SET_NAME, &name.0);
    message.finish()
}

/// Adds or deletes elements. Without `NLM_F_EXCL` neither an existing nor a
/// missing element is an error; the first other failure ends the message.
pub(super) fn elements<'a>(
    command: u8,
    set: &SetName,
    elements: impl Iterator<Item = &'a SetElement>,
) -> Result<Message, NetlinkError> {
    let mut message = begin(command, 0);
    message
        .string(attribute::SET_NAME, &set.0)
        // Where this is present the kernel writes into it which element failed; 0 is none.
        .be32(attribute::LINE_NUMBER, 0)
        .nest(attribute::ELEMENTS, |list| {
            for (element, number) in elements.zip(1..) {
                list.nest(attribute::DATA, |data| put_element(data, element, number));
            }
        });
    message.finish()
}

fn put_element(data: &mut MessageBuilder, element: &SetElement, number: u32) {
    match element {
        SetElement::Ip(ip) => put_address(data, element::IP, *ip),
        SetElement::Net(net) => {
            put_address(data, element::IP, net.addr());
            data.byte(element::PREFIX_LENGTH, net.prefix_len());
        }
        SetElement::IpPortIp { ip, protocol, port, other } => {
            put_address(data, element::IP, *ip);
            data.be16(element::PORT, *port).byte(element::PROTOCOL, protocol.number());
            put_address(data, element::IP2, *other);
        }
    }
    data.be32(element::LINE_NUMBER, number);
}

fn put_address(data: &mut MessageBuilder, kind: u16, ip: IpAddr) {
    data.nest(kind, |inner| {
        match ip {
            IpAddr::V4(ip) => inner.network_bytes(address::IPV4, &ip.octets()),
            IpAddr::V6(ip) => inner.network_bytes(address::IPV6, &ip.octets()),
        };
    });
}
