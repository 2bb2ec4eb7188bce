//! Parsing what the kernel sends. Nothing here panics on malformed bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ParseError;
use super::message::{ATTRIBUTE_HEADER_SIZE, FAMILY_HEADER_SIZE, HEADER_SIZE, KIND_MASK, align};

/// The first `N` bytes from `offset` on.
fn fixed<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawMessage<'a> {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// `nlmsg_flags`.
    pub(crate) flags: u16,
    /// `nlmsg_seq`.
    pub(crate) sequence: u32,
    /// What follows `nlmsghdr`.
    pub(crate) body: &'a [u8],
}

impl<'a> RawMessage<'a> {
    /// The attributes after `nfgenmsg`.
    pub(crate) fn attributes(&self) -> Result<Attributes<'a>, ParseError> {
        let bytes = self.body.get(FAMILY_HEADER_SIZE..);
        bytes.map(Attributes::new).ok_or(ParseError::Truncated("nfgenmsg"))
    }

    /// The status at the head of an error or of the end of a listing, and what follows it.
    pub(crate) fn status(&self) -> Result<(i32, &'a [u8]), ParseError> {
        let error = ParseError::Truncated("nlmsgerr");
        let (status, rest) = self.body.split_first_chunk().ok_or(error)?;
        Ok((i32::from_ne_bytes(*status), rest))
    }
}

/// The messages of one datagram. Ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self) -> Option<RawMessage<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(fixed(self.rest, 0)?)).ok()?;
        let message = RawMessage {
            kind: u16::from_ne_bytes(fixed(self.rest, 4)?),
            flags: u16::from_ne_bytes(fixed(self.rest, 6)?),
            sequence: u32::from_ne_bytes(fixed(self.rest, 8)?),
            body: self.rest.get(HEADER_SIZE..length)?,
        };
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(message)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<RawMessage<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.take().ok_or_else(|| {
            self.rest = &[];
            ParseError::Truncated("nlmsghdr")
        }))
    }
}

/// The attributes that an error message echoes after its status.
pub(crate) fn echoed_attributes(echo: &[u8]) -> Vec<u8> {
    let Some(length) = fixed(echo, 0).map(u32::from_ne_bytes) else { return Vec::new() };
    let Ok(length) = usize::try_from(length) else { return Vec::new() };
    echo.get(HEADER_SIZE + FAMILY_HEADER_SIZE..length).unwrap_or_default().to_vec()
}

/// Where in the refused message the kernel found what it refuses, as an error message with these
/// flags tells after its status and what it echoes (`NLMSGERR_ATTR_OFFS`).
pub(crate) fn refused_offset(flags: u16, echo: &[u8]) -> Option<usize> {
    // NLM_F_CAPPED: the header alone is echoed; NLM_F_ACK_TLVS: attributes follow.
    const CAPPED: u16 = 0x100;
    const ATTRIBUTES_FOLLOW: u16 = 0x200;
    const OFFSET: u16 = 2;
    if flags & ATTRIBUTES_FOLLOW == 0 {
        return None;
    }
    let echoed = if flags & CAPPED == 0 {
        align(usize::try_from(fixed(echo, 0).map(u32::from_ne_bytes)?).ok()?)
    } else {
        HEADER_SIZE
    };
    let offset = Attributes::new(echo.get(echoed..)?).flatten().find(|a| a.kind == OFFSET)?;
    offset.exact().map(u32::from_ne_bytes).ok()?.try_into().ok()
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its number, without flags.
    pub kind: u16,
    /// Its bytes, without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn exact<const N: usize>(&self) -> Result<[u8; N], ParseError> {
        self.value.try_into().map_err(|_| ParseError::AttributeSize {
            kind: self.kind,
            expected: N,
            actual: self.value.len(),
        })
    }

    /// A number of one byte.
    pub fn byte(&self) -> Result<u8, ParseError> {
        self.exact().map(u8::from_ne_bytes)
    }

    /// A 16-bit number in network byte order.
    pub fn be16(&self) -> Result<u16, ParseError> {
        self.exact().map(u16::from_be_bytes)
    }

    /// A 32-bit number in network byte order.
    pub fn be32(&self) -> Result<u32, ParseError> {
        self.exact().map(u32::from_be_bytes)
    }

    /// A 64-bit number in network byte order.
    pub fn be64(&self) -> Result<u64, ParseError> {
        self.exact().map(u64::from_be_bytes)
    }

    /// An IPv4 address.
    pub fn ipv4(&self) -> Result<IpAddr, ParseError> {
        self.exact::<4>().map(|octets| Ipv4Addr::from(octets).into())
    }

    /// An IPv6 address.
    pub fn ipv6(&self) -> Result<IpAddr, ParseError> {
        self.exact::<16>().map(|octets| Ipv6Addr::from(octets).into())
    }

    /// A string up to its NUL; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// A sequence of attributes. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(fixed(self.rest, 0)?));
        let kind = u16::from_ne_bytes(fixed(self.rest, 2)?) & KIND_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER_SIZE..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.take().ok_or_else(|| {
            self.rest = &[];
            ParseError::Truncated("an attribute")
        }))
    }
}

#[cfg(test)]
mod tests;
