//! What a rule consists of: expressions on sixteen registers of four bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NftName;
use crate::model::Family;
use crate::objects::RejectWith;

/// One of the sixteen 32-bit registers (`NFT_REG32_00` is number 0). A value of more than four
/// bytes fills those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Register(pub u8);

impl Register {
    /// How many there are.
    pub const COUNT: u8 = 16;
}

/// Where a packet is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PayloadBase {
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    Network,
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`.
    Transport,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MetaKey {
    /// `meta nfproto`: one byte, 2 or 10.
    NfProto,
    /// `meta l4proto`: one byte.
    L4Proto,
    /// `iifname`: sixteen bytes, padded with zeros.
    InputName,
    /// `oifname`: likewise.
    OutputName,
    /// `meta mark`: four bytes in the host's order.
    Mark,
}

/// What is known of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CtKey {
    /// `ct state`: one bit of four bytes in the host's order. 1 invalid, 2 established, 4 related,
    /// 8 new, 64 untracked; the only key that a packet without connection has.
    State,
    /// `ct direction`: one byte, 0 original, 1 reply.
    Direction,
    /// `ct status`: four bytes in the host's order; bit 8 is `confirmed`.
    Status,
    /// `ct mark`: four bytes in the host's order.
    Mark,
}

/// What a look-up leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LookupResult {
    /// The rule goes on if the key is in the set (`negated`: if it is not).
    Membership {
        /// `NFT_LOOKUP_F_INV`.
        negated: bool,
    },
    /// The verdict of the element; the rule goes on where there is none.
    Verdict,
    /// The value of the element; the rule does not go on where there is none.
    Value(Register),
}

/// What a rule does to a dynamic set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SetUpdate {
    /// Adds if it is not there; refreshes its timeout if it is. Its value stays.
    Update,
    /// Deletes, if it is there; the rule goes on in either case. A map wants a value here too.
    Delete,
}

/// Which end of a connection is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NatKind {
    /// `snat`.
    Source,
    /// `dnat`.
    Destination,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftVerdict {
    /// Ends the base chain.
    Accept,
    /// Ends everything.
    Drop,
    /// Back to the rule after the jump.
    Return,
    /// On with the next rule.
    Continue,
    /// Into a chain and back.
    Jump(NftName),
    /// Into a chain, at whose end the jump to this one ends too.
    Goto(NftName),
}

impl NftVerdict {
    /// The chain that it leads to.
    pub fn chain(&self) -> Option<&NftName> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

impl fmt::Display for NftVerdict {
    /// As `nft` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Continue => f.write_str("continue"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// One expression. A rule's expressions are evaluated in order until one does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftExpr {
    /// Reads bytes of a header. Does not hold where the packet ends before.
    Payload {
        /// From where.
        base: PayloadBase,
        /// Bytes to skip.
        offset: u32,
        /// Bytes to read.
        length: u32,
        /// Where they go, padded with zeros to four bytes.
        to: Register,
    },
    /// Reads what is known of the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Where it goes.
        to: Register,
    },
    /// `meta mark set`.
    SetMark {
        /// The new mark.
        from: Register,
    },
    /// Reads what is known of the connection. Does not hold without one, but for the state.
    Ct {
        /// What.
        key: CtKey,
        /// Where it goes.
        to: Register,
    },
    /// `ct mark set`; nothing without a connection.
    SetCtMark {
        /// The new mark.
        from: Register,
    },
    /// `fib daddr type`: four bytes in the host's order; 2 is local (`RTN_LOCAL`).
    DestinationType {
        /// Where it goes.
        to: Register,
    },
    /// `(value & mask) ^ xor`.
    Bitwise {
        /// The value.
        from: Register,
        /// Where the result goes.
        to: Register,
        /// As many bytes as the value has.
        mask: Box<[u8]>,
        /// Likewise.
        xor: Box<[u8]>,
    },
    /// A constant goes to a register.
    Constant {
        /// At most 16 bytes (`struct nft_data`).
        value: Box<[u8]>,
        /// Where it goes.
        to: Register,
    },
    /// Holds if the register's bytes are equal to `value` (`negated`: if not).
    Compare {
        /// The register.
        from: Register,
        /// `NFT_CMP_NEQ` instead of `NFT_CMP_EQ`.
        negated: bool,
        /// The bytes.
        value: Box<[u8]>,
    },
    /// Looks a key up.
    Lookup {
        /// The set or map.
        set: NftName,
        /// First register of the key.
        key: Register,
        /// What it leads to.
        result: LookupResult,
    },
    /// `numgen random mod`: four bytes in the host's order.
    Random {
        /// The number is below it.
        modulus: u32,
        /// Where it goes.
        to: Register,
    },
    /// Changes a dynamic set or map.
    Dynset {
        /// The set.
        set: NftName,
        /// How.
        update: SetUpdate,
        /// First register of the key.
        key: Register,
        /// First register of the value, for a map.
        value: Option<Register>,
        /// How long a new element lives, milliseconds; the set's own timeout if absent.
        timeout_millis: Option<u64>,
    },
    /// `snat`, `dnat`; holds for the first packet of a connection, and ends the chain.
    Nat {
        /// Which end.
        kind: NatKind,
        /// Of these packets.
        family: Family,
        /// The new address.
        address: Register,
        /// The new port; absent: it stays.
        port: Option<Register>,
    },
    /// `masquerade`.
    Masquerade,
    /// `reject`, for both families (`NFT_REJECT_ICMPX_UNREACH`).
    Reject(RejectWith),
    /// Counts packets and bytes; what was counted is no part of a rule.
    Counter,
    /// The packet's fate.
    Verdict(NftVerdict),
    /// An expression that is none of ours, by name.
    Unknown(String),
}
