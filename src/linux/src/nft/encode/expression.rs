//! Expressions of rules.

use smartnat_core::model::Family;
use smartnat_core::objects::RejectWith;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftExpr, NftName, PayloadBase, Register, SetUpdate,
};

use super::{put_value, put_verdict};
use crate::netlink::MessageBuilder;
use crate::nft::protocol::{
    bitwise, cmp, ct, dynset, expression, fib, immediate, lookup, meta, nat, numgen, payload,
    register, reject,
};

/// Puts an expression's name and data.
pub(super) fn put(item: &mut MessageBuilder, what: &NftExpr) {
    item.string(expression::NAME, name(what));
    item.nest(expression::DATA, |data| put_data(data, what));
}

/// The kernel's name of the expression.
pub(in crate::nft) fn name(what: &NftExpr) -> &str {
    match what {
        NftExpr::Payload { .. } => "payload",
        NftExpr::Meta { .. } | NftExpr::SetMark { .. } => "meta",
        NftExpr::Ct { .. } | NftExpr::SetCtMark { .. } => "ct",
        NftExpr::DestinationType { .. } => "fib",
        NftExpr::Bitwise { .. } => "bitwise",
        NftExpr::Compare { .. } => "cmp",
        NftExpr::Lookup { .. } => "lookup",
        NftExpr::Random { .. } => "numgen",
        NftExpr::Dynset { .. } => "dynset",
        NftExpr::Nat { .. } => "nat",
        NftExpr::Masquerade => "masq",
        NftExpr::Reject(_) => "reject",
        NftExpr::Counter => "counter",
        NftExpr::Constant { .. } | NftExpr::Verdict(_) => "immediate",
        NftExpr::Unknown(name) => name,
    }
}

fn put_data(data: &mut MessageBuilder, what: &NftExpr) {
    match what {
        NftExpr::Payload { base, offset, length, to } => {
            let base = match base {
                PayloadBase::Network => payload::NETWORK,
                PayloadBase::Transport => payload::TRANSPORT,
            };
            put_register(data, payload::TO, *to)
                .be32(payload::BASE, base)
                .be32(payload::OFFSET, *offset)
                .be32(payload::LENGTH, *length);
        }
        NftExpr::Meta { key, to } => {
            put_register(data, meta::TO, *to).be32(meta::KEY, meta_number(*key));
        }
        NftExpr::SetMark { from } => {
            put_register(data, meta::FROM, *from).be32(meta::KEY, meta_number(MetaKey::Mark));
        }
        NftExpr::Ct { key, to } => {
            put_register(data, ct::TO, *to).be32(ct::KEY, ct_number(*key));
        }
        NftExpr::SetCtMark { from } => {
            put_register(data, ct::FROM, *from).be32(ct::KEY, ct_number(CtKey::Mark));
        }
        NftExpr::DestinationType { to } => {
            put_register(data, fib::TO, *to)
                .be32(fib::RESULT, fib::ADDRESS_TYPE)
                .be32(fib::FLAGS, fib::DESTINATION);
        }
        NftExpr::Bitwise { from, to, mask, xor } => {
            put_register(data, bitwise::FROM, *from);
            put_register(data, bitwise::TO, *to)
                .be32(bitwise::LENGTH, u32::try_from(mask.len()).unwrap_or(u32::MAX))
                .be32(bitwise::OPERATION, bitwise::MASK_XOR);
            put_value(data, bitwise::MASK, mask);
            put_value(data, bitwise::XOR, xor);
        }
        NftExpr::Compare { from, negated, value } => {
            let operation = if *negated { cmp::NOT_EQUAL } else { cmp::EQUAL };
            put_register(data, cmp::FROM, *from).be32(cmp::OPERATION, operation);
            put_value(data, cmp::DATA, value);
        }
        NftExpr::Lookup { set, key, result } => put_lookup(data, set, *key, *result),
        NftExpr::Random { modulus, to } => {
            put_register(data, numgen::TO, *to)
                .be32(numgen::MODULUS, *modulus)
                .be32(numgen::KIND, numgen::RANDOM);
        }
        NftExpr::Dynset { set, update, key, value, timeout_millis } => {
            let operation = match update {
                SetUpdate::Update => dynset::UPDATE,
                SetUpdate::Delete => dynset::DELETE,
            };
            data.string(dynset::SET, set.as_str()).be32(dynset::OPERATION, operation);
            put_register(data, dynset::KEY, *key);
            if let Some(value) = value {
                put_register(data, dynset::VALUE, *value);
            }
            if let Some(millis) = timeout_millis {
                data.be64(dynset::TIMEOUT, *millis);
            }
        }
        NftExpr::Nat { kind, family, address, port } => {
            let kind = match kind {
                NatKind::Source => nat::SOURCE,
                NatKind::Destination => nat::DESTINATION,
            };
            data.be32(nat::KIND, kind).be32(nat::FAMILY, family_number(*family));
            put_register(data, nat::ADDRESS, *address);
            if let Some(port) = port {
                put_register(data, nat::PORT, *port);
            }
        }
        NftExpr::Reject(RejectWith::TcpReset) => {
            data.be32(reject::KIND, reject::TCP_RESET);
        }
        NftExpr::Reject(RejectWith::PortUnreachable) => {
            data.be32(reject::KIND, reject::ICMPX).byte(reject::CODE, reject::PORT_UNREACHABLE);
        }
        NftExpr::Constant { value, to } => {
            put_register(data, immediate::TO, *to);
            put_value(data, immediate::DATA, value);
        }
        NftExpr::Verdict(verdict) => {
            data.be32(immediate::TO, register::VERDICT);
            put_verdict(data, immediate::DATA, verdict);
        }
        NftExpr::Masquerade | NftExpr::Counter | NftExpr::Unknown(_) => {}
    }
}

fn put_lookup(data: &mut MessageBuilder, set: &NftName, key: Register, result: LookupResult) {
    data.string(lookup::SET, set.as_str());
    put_register(data, lookup::FROM, key);
    match result {
        LookupResult::Membership { negated: false } => {}
        LookupResult::Membership { negated: true } => {
            data.be32(lookup::FLAGS, lookup::INVERTED);
        }
        LookupResult::Verdict => {
            data.be32(lookup::TO, register::VERDICT);
        }
        LookupResult::Value(to) => {
            put_register(data, lookup::TO, to);
        }
    }
}

/// Adds a register's number (`NFT_REG32_00` and those after it).
fn put_register(data: &mut MessageBuilder, kind: u16, number: Register) -> &mut MessageBuilder {
    data.be32(kind, register::FIRST + u32::from(number.0))
}

/// `enum nft_meta_keys`.
pub(in crate::nft) fn meta_number(key: MetaKey) -> u32 {
    match key {
        MetaKey::Mark => 3,
        MetaKey::InputName => 6,
        MetaKey::OutputName => 7,
        MetaKey::NfProto => 15,
        MetaKey::L4Proto => 16,
    }
}

/// `enum nft_ct_keys`.
pub(in crate::nft) fn ct_number(key: CtKey) -> u32 {
    match key {
        CtKey::State => 0,
        CtKey::Direction => 1,
        CtKey::Status => 2,
        CtKey::Mark => 3,
    }
}

/// `NFPROTO_*`.
pub(in crate::nft) fn family_number(family: Family) -> u32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}
