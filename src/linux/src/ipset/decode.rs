//! What ipset answers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat_core::model::{Family, Protocol};
use smartnat_core::objects::{IpSet, SetElement, SetKind, SetSpec};

use super::encode::family_number;
use super::protocol::{address, attribute, element, option};
use crate::netlink::{Attributes, ParseError};

/// Which revisions of a set type the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revisions {
    pub(crate) min: u8,
    pub(crate) max: u8,
}

/// Reads the answer to a question for revisions.
pub(crate) fn revisions(attributes: Attributes<'_>) -> Result<Revisions, ParseError> {
    let (mut min, mut max) = (0, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            attribute::REVISION => max = Some(attribute.byte()?),
            attribute::REVISION_MIN => min = attribute.byte()?,
            _ => {}
        }
    }
    Ok(Revisions { min, max: max.ok_or(ParseError::Missing("the revision"))? })
}

/// Reads a message that carries the name of a set.
pub(crate) fn set_name(attributes: Attributes<'_>) -> Result<String, ParseError> {
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == attribute::SET_NAME {
            return Ok(attribute.text());
        }
    }
    Err(ParseError::Missing("the set's name"))
}

/// The number of the element that a refused message stumbled over, from 1.
pub(crate) fn failed_element(echo: &[u8]) -> Option<usize> {
    let line = Attributes::new(echo).flatten().find(|a| a.kind == attribute::LINE_NUMBER)?;
    line.be32().ok().filter(|number| *number > 0)?.try_into().ok()
}

/// A set as its listing builds it up, message by message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    present: bool,
    type_name: String,
    family: u8,
    timeout: Option<u32>,
    max_elements: u32,
    /// It has an option or element that [`IpSet`] cannot tell.
    foreign_shape: bool,
    elements: BTreeSet<SetElement>,
}

impl Listing {
    /// Takes in one message of the listing.
    pub(crate) fn add(&mut self, attributes: Attributes<'_>) -> Result<(), ParseError> {
        self.present = true;
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                attribute::TYPE_NAME => self.type_name = attribute.text(),
                attribute::FAMILY => self.family = attribute.byte()?,
                attribute::DATA => self.add_options(attribute.nested())?,
                // Elements of a set with timeouts come and go; nobody asks for them.
                attribute::ELEMENTS if self.timeout.is_none() => {
                    self.add_elements(attribute.nested())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_options(&mut self, attributes: Attributes<'_>) -> Result<(), ParseError> {
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                option::TIMEOUT => self.timeout = Some(attribute.be32()?),
                option::MAX_ELEMENTS => self.max_elements = attribute.be32()?,
                option::INITIAL_VALUE
                | option::HASH_SIZE
                | option::BUCKET_SIZE
                | option::ELEMENT_COUNT
                | option::REFERENCES
                | option::MEMORY_SIZE => {}
                _ => self.foreign_shape = true,
            }
        }
        Ok(())
    }

    fn add_elements(&mut self, list: Attributes<'_>) -> Result<(), ParseError> {
        for entry in list {
            match element(entry?.nested())? {
                Some(element) => {
                    self.elements.insert(element);
                }
                None => self.foreign_shape = true,
            }
        }
        Ok(())
    }

    /// The set; `None` when the kernel told nothing of it.
    ///
    /// A set of a type, with an option or with an element that [`IpSet`] cannot
    /// tell is none that we made. It is given as one without elements for 0
    /// elements, which nobody wants, so that a comparison always replaces it.
    pub(crate) fn finish(self) -> Option<IpSet> {
        if !self.present {
            return None;
        }
        Some(self.as_ours().unwrap_or(IpSet { spec: UNKNOWN_SHAPE, elements: BTreeSet::new() }))
    }

    fn as_ours(&self) -> Option<IpSet> {
        let kind = [SetKind::HashIp, SetKind::HashNet, SetKind::HashIpPortIp]
            .into_iter()
            .find(|kind| kind.type_name() == self.type_name)?;
        let family = Family::ALL.into_iter().find(|f| family_number(*f) == self.family)?;
        let spec = SetSpec { kind, family, timeout: self.timeout, max_elements: self.max_elements };
        let ours = !self.foreign_shape && self.elements.iter().all(|e| e.fits(&spec));
        ours.then(|| IpSet { spec, elements: self.elements.clone() })
    }
}

/// What a set that we cannot describe is said to be.
const UNKNOWN_SHAPE: SetSpec =
    SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 0 };

/// One element; `None` when it is of no type of ours.
fn element(attributes: Attributes<'_>) -> Result<Option<SetElement>, ParseError> {
    let (mut ip, mut other, mut prefix, mut port, mut protocol) = (None, None, None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            element::IP => ip = ip_address(attribute.nested())?,
            element::IP2 => other = ip_address(attribute.nested())?,
            element::PREFIX_LENGTH => prefix = Some(attribute.byte()?),
            element::PORT => port = Some(attribute.be16()?),
            element::PROTOCOL => protocol = Some(attribute.byte()?),
            // For example the flag by which an element excepts itself.
            _ => return Ok(None),
        }
    }
    Ok(match (ip, prefix, protocol, port, other) {
        (Some(ip), None, None, None, None) => Some(SetElement::Ip(ip)),
        (Some(ip), Some(length), None, None, None) => {
            let net = IpNet::new(ip, length).map_err(|_| ParseError::Range("a prefix length"))?;
            Some(SetElement::Net(net.trunc()))
        }
        (Some(ip), None, Some(protocol), Some(port), Some(other)) => {
            Protocol::from_number(protocol).map(|protocol| SetElement::IpPortIp {
                ip,
                protocol,
                port,
                other,
            })
        }
        _ => None,
    })
}

fn ip_address(attributes: Attributes<'_>) -> Result<Option<IpAddr>, ParseError> {
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            address::IPV4 => return attribute.ipv4().map(Some),
            address::IPV6 => return attribute.ipv6().map(Some),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
