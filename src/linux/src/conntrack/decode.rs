//! What ctnetlink answers.

use smartnat_core::objects::{Flow, FlowKey, FlowTuple, Layer4};

use super::protocol::{counters, entry, ip, layer4, tuple};
use crate::netlink::{Attributes, ParseError};

/// An entry; `None` when it is of a zone other than 0, in which nothing of ours is.
pub(crate) fn flow(attributes: Attributes<'_>) -> Result<Option<Flow>, ParseError> {
    // The kernel leaves out a mark of 0.
    let (mut original, mut reply, mut id, mut mark) = (None, None, None, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            entry::ORIGINAL => original = Some(flow_tuple(attribute.nested())?),
            entry::REPLY => reply = Some(flow_tuple(attribute.nested())?),
            entry::MARK => mark = attribute.be32()?,
            entry::ID => id = Some(attribute.be32()?),
            entry::ZONE if attribute.be16()? != 0 => return Ok(None),
            _ => {}
        }
    }
    let original = original.ok_or(ParseError::Missing("the original tuple"))?;
    let reply = reply.ok_or(ParseError::Missing("the reply tuple"))?;
    let id = id.ok_or(ParseError::Missing("the entry's id"))?;
    // Either direction may have a zone of its own.
    Ok(original.zip(reply).map(|(original, reply)| Flow {
        key: FlowKey { original, id },
        reply,
        mark,
    }))
}

/// What a connection has carried in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCount {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a connection has carried since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowCounters {
    /// The connection.
    pub flow: Flow,
    /// From the client.
    pub original: FlowCount,
    /// To the client.
    pub reply: FlowCount,
}

/// An entry with its counters; `None` when it has none, or is of a zone other than 0.
pub(super) fn flow_counters(
    attributes: Attributes<'_>,
) -> Result<Option<FlowCounters>, ParseError> {
    let Some(flow) = flow(attributes.clone())? else { return Ok(None) };
    let (mut original, mut reply) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            entry::COUNTERS_ORIGINAL => original = Some(count(attribute.nested())?),
            entry::COUNTERS_REPLY => reply = Some(count(attribute.nested())?),
            _ => {}
        }
    }
    Ok(original.zip(reply).map(|(original, reply)| FlowCounters { flow, original, reply }))
}

fn count(attributes: Attributes<'_>) -> Result<FlowCount, ParseError> {
    let mut count = FlowCount::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            counters::PACKETS => count.packets = attribute.be64()?,
            counters::BYTES => count.bytes = attribute.be64()?,
            _ => {}
        }
    }
    Ok(count)
}

/// One direction; `None` when it is of a zone other than 0.
fn flow_tuple(attributes: Attributes<'_>) -> Result<Option<FlowTuple>, ParseError> {
    let (mut addresses, mut transport) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            tuple::IP => addresses = Some(ip_addresses(attribute.nested())?),
            tuple::LAYER4 => transport = Some(protocol(attribute.nested())?),
            tuple::ZONE if attribute.be16()? != 0 => return Ok(None),
            _ => {}
        }
    }
    let (source, destination) = addresses.ok_or(ParseError::Missing("the tuple's addresses"))?;
    let (protocol, layer4) = transport.ok_or(ParseError::Missing("the tuple's protocol"))?;
    Ok(Some(FlowTuple { source, destination, protocol, layer4 }))
}

fn ip_addresses(
    attributes: Attributes<'_>,
) -> Result<(std::net::IpAddr, std::net::IpAddr), ParseError> {
    let (mut source, mut destination) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            ip::V4_SOURCE => source = Some(attribute.ipv4()?),
            ip::V6_SOURCE => source = Some(attribute.ipv6()?),
            ip::V4_DESTINATION => destination = Some(attribute.ipv4()?),
            ip::V6_DESTINATION => destination = Some(attribute.ipv6()?),
            _ => {}
        }
    }
    source.zip(destination).ok_or(ParseError::Missing("an address of the tuple"))
}

/// Protocol number and what it has of ports or an ICMP query.
fn protocol(attributes: Attributes<'_>) -> Result<(u8, Layer4), ParseError> {
    let (mut number, mut source, mut destination) = (None, None, None);
    let (mut kind, mut code, mut id) = (None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            layer4::NUMBER => number = Some(attribute.byte()?),
            layer4::SOURCE_PORT => source = Some(attribute.be16()?),
            layer4::DESTINATION_PORT => destination = Some(attribute.be16()?),
            layer4::ICMP_TYPE | layer4::ICMPV6_TYPE => kind = Some(attribute.byte()?),
            layer4::ICMP_CODE | layer4::ICMPV6_CODE => code = Some(attribute.byte()?),
            layer4::ICMP_ID | layer4::ICMPV6_ID => id = Some(attribute.be16()?),
            _ => {}
        }
    }
    let number = number.ok_or(ParseError::Missing("the protocol number"))?;
    let layer4 = match (source, destination, kind, code, id) {
        (Some(source), Some(destination), ..) => Layer4::Ports { source, destination },
        (_, _, Some(kind), Some(code), Some(id)) => Layer4::Icmp { kind, code, id },
        _ => Layer4::Other,
    };
    Ok((number, layer4))
}

#[cfg(test)]
mod tests;
