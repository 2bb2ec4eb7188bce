//! Comparisons of what registers hold with constants.

use super::operand::{Operand, concatenation};
use super::payload::Context;
use super::value::{self, Kind};

/// The operands, one after the other, beside the value that they are compared with.
pub(super) fn comparison(
    operands: &[Operand],
    negated: bool,
    bytes: &[u8],
    context: Context,
) -> String {
    match operands {
        [one] => single(one, negated, bytes, context),
        several => concatenated(several, negated, bytes, context),
    }
}

fn concatenated(operands: &[Operand], negated: bool, bytes: &[u8], context: Context) -> String {
    let mut rest = bytes;
    let values = operands.iter().map(|operand| {
        let (own, behind) = rest.split_at(operand.size().min(rest.len()));
        rest = &behind[(own.len().next_multiple_of(4) - own.len()).min(behind.len())..];
        value::text(operand.kind(context), own)
    });
    let values = values.collect::<Vec<_>>().join(" . ");
    let operator = if negated { "!= " } else { "" };
    format!("{} {operator}{values}", concatenation(operands, context))
}

fn single(operand: &Operand, negated: bool, bytes: &[u8], context: Context) -> String {
    let kind = operand.kind(context);
    let unequal = if negated { "!= " } else { "" };
    match operand {
        Operand::Bitwise { of, mask, xor } if xor.iter().all(|byte| *byte == 0) => {
            if kind.is_bitmask() {
                return flags(&of.text(context), kind, mask, negated, bytes);
            }
            if let Some(length) = value::mask_prefix(mask).filter(|_| kind.has_prefixes()) {
                let address = value::text(kind, &whole_address(kind, bytes));
                return format!("{} {unequal}{address}/{length}", of.text(context));
            }
            let equal = if negated { "!=" } else { "==" };
            format!("{} {equal} {}", operand.text(context), value::text(kind, bytes))
        }
        Operand::Bitwise { .. } => {
            let equal = if negated { "!=" } else { "==" };
            format!("{} {equal} {}", operand.text(context), value::text(kind, bytes))
        }
        _ if kind.is_bitmask() => {
            let value = value::text(kind, bytes);
            // Of several bits nft shows no operator.
            let equal = if value.contains(" | ") { "" } else { "== " };
            let operator = if negated { unequal } else { equal };
            format!("{} {operator}{value}", operand.text(context))
        }
        _ => {
            let value = prefixed(operand, kind, bytes);
            format!("{} {unequal}{value}", operand.text(context))
        }
    }
}

/// A comparison of some bits of a set of flags.
fn flags(of: &str, kind: Kind, mask: &[u8], negated: bool, bytes: &[u8]) -> String {
    let list = |bytes: &[u8], separator| {
        value::bits(kind, bytes, separator).unwrap_or_else(|| value::text(Kind::Bytes, bytes))
    };
    if bytes.iter().all(|byte| *byte == 0) {
        let operator = if negated { "" } else { "! " };
        return format!("{of} {operator}{}", list(mask, ","));
    }
    if let Some(name) = value::bits(kind, mask, "|").filter(|n| bytes == mask && !n.contains('|')) {
        let equal = if negated { "!=" } else { "==" };
        return format!("{of} & {name} {equal} {name}");
    }
    let operator = if negated { "!= " } else { "" };
    format!("{of} {operator}{} / {}", list(bytes, ","), list(mask, ","))
}

/// A value; of an address of which fewer bytes were read or compared, the prefix that these are.
fn prefixed(operand: &Operand, kind: Kind, bytes: &[u8]) -> String {
    let length = bytes.len().min(operand.size());
    let whole = whole_address(kind, &bytes[..length]);
    if kind.has_prefixes() && length < whole.len() {
        return format!("{}/{}", value::text(kind, &whole), length * 8);
    }
    value::text(kind, bytes)
}

/// An address of which only the first bytes are known.
fn whole_address(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let size = match kind {
        Kind::Ipv4 => 4,
        Kind::Ipv6 => 16,
        _ => 0,
    };
    let mut whole = bytes.to_vec();
    whole.resize(size.max(bytes.len()), 0);
    whole
}
