//! Building messages: `nlmsghdr`, `nfgenmsg`, attributes.

use netlink_packet_core::NLM_F_REQUEST;

use super::NetlinkError;

/// Size of `nlmsghdr`.
pub(super) const HEADER_SIZE: usize = 16;
/// Size of `nfgenmsg`, which follows it.
pub(super) const FAMILY_HEADER_SIZE: usize = 4;
/// Size of an attribute's header.
pub(super) const ATTRIBUTE_HEADER_SIZE: usize = 4;

/// The value holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
/// The value is in network byte order (`NLA_F_NET_BYTEORDER`).
const NETWORK_ORDER: u16 = 0x4000;
/// What remains of an attribute's type without these flags.
pub(super) const KIND_MASK: u16 = 0x3fff;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`, of no subsystem.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// A subsystem of nfnetlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// `NFNL_SUBSYS_CTNETLINK`.
    Conntrack,
    /// `NFNL_SUBSYS_IPSET`.
    IpSet,
    /// `NFNL_SUBSYS_NFTABLES`.
    NfTables,
    /// What no kernel has (`NFNL_SUBSYS_COUNT` is 13): how one answers without nftables.
    #[cfg(test)]
    Absent,
}

impl Subsystem {
    fn number(self) -> u8 {
        match self {
            Self::Conntrack => 1,
            Self::IpSet => 6,
            Self::NfTables => 10,
            #[cfg(test)]
            Self::Absent => 100,
        }
    }
}

/// Rounds up to the alignment of messages and attributes.
pub(super) fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A finished message; the socket adds its sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Bytes on the wire.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// `NFNL_MSG_BATCH_BEGIN`: what follows, to `end`, is one change of `subsystem`, refused
    /// unless the subsystem's generation is this one.
    pub(super) fn begin(subsystem: Subsystem, generation: u32) -> Result<Self, NetlinkError> {
        const BATCH_GENERATION: u16 = 1;
        let mut begin = MessageBuilder::boundary(BATCH_BEGIN, subsystem);
        begin.be32(BATCH_GENERATION, generation);
        begin.finish()
    }

    /// `NFNL_MSG_BATCH_END`.
    pub(super) fn end(subsystem: Subsystem) -> Result<Self, NetlinkError> {
        MessageBuilder::boundary(BATCH_END, subsystem).finish()
    }

    /// Appends the message to `buffer` as it goes to the kernel.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>, flags: u16, sequence: u32) {
        let start = buffer.len();
        buffer.extend_from_slice(&self.bytes);
        let modifiers = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        let flags = modifiers | flags | NLM_F_REQUEST;
        buffer[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        buffer[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// Collects the attributes of one message. A value that is too long spoils the
/// message, which [`MessageBuilder::finish`] tells.
#[derive(Clone, Debug)]
pub struct MessageBuilder {
    bytes: Vec<u8>,
    too_long: bool,
}

impl MessageBuilder {
    /// A message without attributes. `modifiers` are flags beyond those that the
    /// socket sets, `family` is that of `nfgenmsg` (`AF_INET`, …).
    pub fn new(subsystem: Subsystem, command: u8, modifiers: u16, family: u8) -> Self {
        let kind = u16::from_be_bytes([subsystem.number(), command]);
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&modifiers.to_ne_bytes());
        // nfgenmsg: family, version 0, resource 0.
        bytes.extend_from_slice(&[family, 0, 0, 0]);
        Self { bytes, too_long: false }
    }

    /// A boundary of a batch; `nfgenmsg` names the subsystem as its resource.
    fn boundary(kind: u16, subsystem: Subsystem) -> Self {
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0, 0, 0, subsystem.number()]);
        Self { bytes, too_long: false }
    }

    /// Adds an attribute with these bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        match u16::try_from(ATTRIBUTE_HEADER_SIZE + value.len()) {
            Ok(length) => {
                self.bytes.extend_from_slice(&length.to_ne_bytes());
                self.bytes.extend_from_slice(&kind.to_ne_bytes());
                self.bytes.extend_from_slice(value);
                self.bytes.resize(align(self.bytes.len()), 0);
            }
            Err(_) => self.too_long = true,
        }
        self
    }

    /// Adds a number of one byte.
    pub fn byte(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// Adds a 16-bit number in network byte order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind | NETWORK_ORDER, &value.to_be_bytes())
    }

    /// Adds a 32-bit number in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind | NETWORK_ORDER, &value.to_be_bytes())
    }

    /// Adds a 64-bit number in network byte order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind | NETWORK_ORDER, &value.to_be_bytes())
    }

    /// Adds bytes that are in network byte order, such as an address.
    pub fn network_bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes(kind | NETWORK_ORDER, value)
    }

    /// Adds a string with its terminating NUL.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds an attribute that holds those which `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self
    }

    /// Bytes so far, the header included: where the next attribute begins.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The message, unless something in it was too long.
    pub fn finish(mut self) -> Result<Message, NetlinkError> {
        let length = u32::try_from(self.bytes.len()).map_err(|_| NetlinkError::TooLong)?;
        if self.too_long {
            return Err(NetlinkError::TooLong);
        }
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        Ok(Message { bytes: self.bytes })
    }
}
