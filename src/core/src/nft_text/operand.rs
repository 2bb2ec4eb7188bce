//! What a register holds, as text.

use std::fmt::Write as _;

use super::payload::{self, Context};
use super::value::{self, Kind};
use crate::objects::nft::{CtKey, MetaKey, NftName, PayloadBase};

/// A value that a rule reads or computes.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// Bytes of a header.
    Payload { base: PayloadBase, offset: u32, length: u32 },
    /// Of the packet.
    Meta(MetaKey),
    /// Of the connection.
    Ct(CtKey),
    /// `fib daddr type`.
    DestinationType,
    /// `numgen random mod`.
    Random(u32),
    /// `(of & mask) ^ xor`.
    Bitwise { of: Box<Operand>, mask: Box<[u8]>, xor: Box<[u8]> },
    /// Itself.
    Constant(Box<[u8]>),
    /// The value of the element with this key.
    LookedUp { key: Vec<Operand>, set: NftName },
    /// A register that nothing was loaded into.
    Unknown(u8),
}

impl Operand {
    /// Bytes of its value; 0 for what was looked up.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Payload { length, .. } => *length as usize,
            Self::Meta(MetaKey::NfProto | MetaKey::L4Proto) | Self::Ct(CtKey::Direction) => 1,
            Self::Meta(MetaKey::InputName | MetaKey::OutputName) => 16,
            Self::Bitwise { mask, .. } => mask.len(),
            Self::Constant(bytes) => bytes.len(),
            Self::LookedUp { .. } => 0,
            _ => 4,
        }
    }

    /// What its bytes mean.
    pub(super) fn kind(&self, context: Context) -> Kind {
        match self {
            Self::Payload { base, offset, length } => {
                payload::field(context, *base, *offset, *length).map_or(Kind::Bytes, |f| f.kind)
            }
            Self::Meta(MetaKey::NfProto) => Kind::NfProto,
            Self::Meta(MetaKey::L4Proto) => Kind::Protocol,
            Self::Meta(MetaKey::InputName | MetaKey::OutputName) => Kind::InterfaceName,
            Self::Meta(MetaKey::Mark) | Self::Ct(CtKey::Mark) => Kind::Mark,
            Self::Ct(CtKey::State) => Kind::State,
            Self::Ct(CtKey::Direction) => Kind::Direction,
            Self::Ct(CtKey::Status) => Kind::Status,
            Self::DestinationType => Kind::AddressType,
            Self::Bitwise { of, .. } => of.kind(context),
            Self::Constant(_) | Self::Random(_) | Self::LookedUp { .. } | Self::Unknown(_) => {
                Kind::Bytes
            }
        }
    }

    /// As nft names it.
    pub(super) fn text(&self, context: Context) -> String {
        match self {
            Self::Payload { base, offset, length } => {
                payload::field(context, *base, *offset, *length)
                    .map_or_else(|| payload::raw(*base, *offset, *length), |f| f.name)
            }
            Self::Meta(MetaKey::NfProto) => "meta nfproto".to_owned(),
            Self::Meta(MetaKey::L4Proto) => "meta l4proto".to_owned(),
            Self::Meta(MetaKey::InputName) => "iifname".to_owned(),
            Self::Meta(MetaKey::OutputName) => "oifname".to_owned(),
            Self::Meta(MetaKey::Mark) => "meta mark".to_owned(),
            Self::Ct(CtKey::State) => "ct state".to_owned(),
            Self::Ct(CtKey::Direction) => "ct direction".to_owned(),
            Self::Ct(CtKey::Status) => "ct status".to_owned(),
            Self::Ct(CtKey::Mark) => "ct mark".to_owned(),
            Self::DestinationType => "fib daddr type".to_owned(),
            Self::Random(modulus) => format!("numgen random mod {modulus}"),
            Self::Bitwise { of, mask, xor } => bitwise(of, mask, xor, context),
            Self::Constant(bytes) => value::text(Kind::Bytes, bytes),
            Self::LookedUp { key, set } => format!("{} map @{set}", concatenation(key, context)),
            Self::Unknown(register) => format!("[ register {register} ]"),
        }
    }

    /// The reads of headers that it consists of.
    pub(super) fn payloads(&self, found: &mut Vec<(PayloadBase, bool)>, context: Context) {
        match self {
            Self::Payload { base, offset, length } => {
                let named = payload::field(context, *base, *offset, *length).is_some();
                found.push((*base, named));
            }
            Self::Bitwise { of, .. } => of.payloads(found, context),
            Self::LookedUp { key, .. } => {
                for part in key {
                    part.payloads(found, context);
                }
            }
            _ => {}
        }
    }
}

/// Operands one after the other. What was looked up is in parentheses, where it is a part.
pub(super) fn concatenation(operands: &[Operand], context: Context) -> String {
    let texts = operands.iter().map(|operand| match operand {
        Operand::LookedUp { .. } => format!("({})", operand.text(context)),
        _ => operand.text(context),
    });
    texts.collect::<Vec<_>>().join(" . ")
}

/// `(of & mask) ^ xor`, with an `or` for the bits that come out set whatever they were. nft does
/// the same (`netlink_parse_bitwise_bool`).
fn bitwise(of: &Operand, mask: &[u8], xor: &[u8], context: Context) -> String {
    let pairs = || mask.iter().zip(xor);
    let set: Vec<u8> = pairs().map(|(m, x)| (m & x) ^ x).collect();
    let flipped: Vec<u8> = pairs().map(|(m, x)| m & x).collect();
    let kept: Vec<u8> = mask.iter().zip(&set).map(|(m, o)| m | o).collect();
    let kind = of.kind(context);
    let mut text = of.text(context);
    for (operator, bytes, absent) in [("&", kept, 0xff), ("^", flipped, 0), ("|", set, 0)] {
        if bytes.iter().any(|byte| *byte != absent) {
            let _ = write!(text, " {operator} {}", constant(kind, &bytes));
        }
    }
    text
}

/// A constant beside an operator: several bits in parentheses.
fn constant(kind: Kind, bytes: &[u8]) -> String {
    let text = value::text(kind, bytes);
    if text.contains(" | ") { format!("({text})") } else { text }
}
