//! What the kernel checks of a single rule.

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NftData, NftExpr, NftName, NftRule, NftVerdict, Register,
};
use smartnat_core::ops::{NftOp, OpError};

use super::{HeldSet, HeldTable, check_target};
use crate::kernel::error::{invalid, not_found};

/// Bytes of a register.
const REGISTER: usize = 4;
/// Bytes that a comparison or a bitwise operation takes (`struct nft_data`).
const MAX_OPERAND: usize = 16;
/// Bytes that a rule reads of a header at once (`NFT_REG32_COUNT` registers).
const MAX_PAYLOAD: usize = 64;

type Checked = Result<(), &'static str>;

/// Registers that the rule has written so far.
#[derive(Default)]
struct Written(u16);

impl Written {
    fn write(&mut self, register: Register, length: usize) -> Checked {
        self.0 |= bits(register, length)?;
        Ok(())
    }

    /// `nft_parse_register_load`: what the rule itself did not write is not to be read.
    fn read(&self, register: Register, length: usize) -> Checked {
        let wanted = bits(register, length)?;
        if self.0 & wanted == wanted {
            Ok(())
        } else {
            Err("a register is read that was not written")
        }
    }
}

/// The registers of a value, one bit each.
fn bits(register: Register, length: usize) -> Result<u16, &'static str> {
    let (from, count) = (usize::from(register.0), length.div_ceil(REGISTER));
    if length == 0 || from + count > usize::from(Register::COUNT) {
        return Err("a value does not fit the registers");
    }
    Ok((from..from + count).fold(0, |bits, at| bits | 1 << at))
}

/// Refuses what the kernel refuses of a rule, whatever hook it is reached from.
pub(super) fn check(table: &HeldTable, op: &NftOp, rule: &NftRule) -> Result<(), OpError> {
    if rule.comment.as_ref().is_some_and(|text| text.len() > NftRule::MAX_COMMENT) {
        return invalid(op, "a comment has at most 127 bytes");
    }
    let mut written = Written::default();
    for expression in &rule.expressions {
        match expression {
            NftExpr::Verdict(verdict) => check_verdict(table, op, verdict)?,
            NftExpr::Lookup { set, key, result } => {
                let set = find(table, op, set)?;
                lookup(&mut written, set, *key, *result).or_else(|problem| invalid(op, problem))?;
            }
            NftExpr::Dynset { set, key, value, timeout_millis, .. } => {
                let set = find(table, op, set)?;
                dynset(&written, set, (*key, *value), *timeout_millis)
                    .or_else(|problem| invalid(op, problem))?;
            }
            other => simple(&mut written, other).or_else(|problem| invalid(op, problem))?,
        }
    }
    Ok(())
}

fn check_verdict(table: &HeldTable, op: &NftOp, verdict: &NftVerdict) -> Result<(), OpError> {
    verdict.chain().map_or(Ok(()), |target| check_target(&table.chains, op, target))
}

fn find<'t>(table: &'t HeldTable, op: &NftOp, name: &NftName) -> Result<&'t HeldSet, OpError> {
    match table.set(name) {
        Some(set) => Ok(set),
        None => not_found(op, format_args!("no set {name}")),
    }
}

/// `nft_lookup_init`.
fn lookup(written: &mut Written, set: &HeldSet, key: Register, result: LookupResult) -> Checked {
    written.read(key, set.key_length())?;
    match (result, &set.spec().data) {
        (LookupResult::Membership { .. }, _) | (LookupResult::Verdict, NftData::Verdict) => Ok(()),
        (LookupResult::Value(to), NftData::Values(_)) => written.write(to, set.value_length()),
        _ => Err("the set's elements do not have what is looked for"),
    }
}

/// `nft_dynset_init`.
fn dynset(
    written: &Written,
    set: &HeldSet,
    (key, value): (Register, Option<Register>),
    timeout: Option<u64>,
) -> Checked {
    let spec = set.spec();
    if spec.interval || !(spec.dynamic || spec.timeout.is_some()) {
        return Err("rules can't change the set");
    }
    if spec.size.is_none() {
        return Err("a set that rules fill needs a size");
    }
    if timeout.is_some() && spec.timeout.is_none() {
        return Err("the set has no timeouts");
    }
    written.read(key, set.key_length())?;
    match (value, &spec.data) {
        (None, NftData::Nothing) => Ok(()),
        (Some(value), NftData::Values(_)) => written.read(value, set.value_length()),
        _ => Err("the value is none of the set's"),
    }
}

/// Expressions that refer to no other object.
fn simple(written: &mut Written, expression: &NftExpr) -> Checked {
    match expression {
        NftExpr::Payload { length, to, .. } => match usize::try_from(*length) {
            Ok(length @ 1..=MAX_PAYLOAD) => written.write(*to, length),
            _ => Err("a rule reads 1 to 64 bytes of a header"),
        },
        NftExpr::Meta { key, to } => written.write(*to, meta_length(*key)),
        NftExpr::Ct { key, to } => written.write(*to, ct_length(*key)),
        NftExpr::SetMark { from } | NftExpr::SetCtMark { from } => written.read(*from, REGISTER),
        NftExpr::Bitwise { from, to, mask, xor } => {
            if mask.len() != xor.len() || !(1..=MAX_OPERAND).contains(&mask.len()) {
                return Err("mask and xor have the value's length, 1 to 16 bytes");
            }
            written.read(*from, mask.len())?;
            written.write(*to, mask.len())
        }
        NftExpr::Constant { value, to } => match value.len() {
            length @ 1..=MAX_OPERAND => written.write(*to, length),
            _ => Err("a constant has 1 to 16 bytes"),
        },
        NftExpr::Compare { from, value, .. } => match value.len() {
            length @ 1..=MAX_OPERAND => written.read(*from, length),
            _ => Err("a comparison has 1 to 16 bytes"),
        },
        NftExpr::Random { modulus: 0, .. } => Err("no number is below 0"),
        NftExpr::Random { to, .. } | NftExpr::DestinationType { to } => {
            written.write(*to, REGISTER)
        }
        NftExpr::Nat { family, address, port, .. } => {
            written.read(*address, if *family == Family::V4 { 4 } else { 16 })?;
            port.map_or(Ok(()), |port| written.read(port, 2))
        }
        NftExpr::Masquerade
        | NftExpr::Reject(_)
        | NftExpr::Counter
        | NftExpr::Unknown(_)
        | NftExpr::Lookup { .. }
        | NftExpr::Dynset { .. }
        | NftExpr::Verdict(_) => Ok(()),
    }
}

fn meta_length(key: MetaKey) -> usize {
    match key {
        MetaKey::NfProto | MetaKey::L4Proto => 1,
        MetaKey::InputName | MetaKey::OutputName => 16,
        MetaKey::Mark => 4,
    }
}

fn ct_length(key: CtKey) -> usize {
    match key {
        CtKey::Direction => 1,
        CtKey::State | CtKey::Status | CtKey::Mark => 4,
    }
}

/// Whether the rule makes the kernel track connections.
pub(super) fn needs_tracking(rule: &NftRule) -> bool {
    rule.expressions.iter().any(|expression| {
        matches!(
            expression,
            NftExpr::Ct { .. }
                | NftExpr::SetCtMark { .. }
                | NftExpr::Nat { .. }
                | NftExpr::Masquerade
        )
    })
}
