//! Expressions of rules. One that does anything which [`NftExpr`] can't tell is unknown.

use smartnat_core::model::Family;
use smartnat_core::objects::RejectWith;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftExpr, PayloadBase, Register, SetUpdate,
};

use super::{value, verdict};
use crate::netlink::{Attribute, Attributes, ParseError};
use crate::nft::encode::{ct_number, family_number, meta_number};
use crate::nft::protocol::{
    bitwise, cmp, ct, dynset, expression, fib, immediate, lookup, meta, nat, numgen, payload,
    register, reject,
};

/// Reads an expression.
pub(super) fn read(attributes: Attributes<'_>) -> Result<NftExpr, ParseError> {
    let (mut name, mut data) = (String::new(), Attributes::new(&[]));
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            expression::NAME => name = attribute.text(),
            expression::DATA => data = attribute.nested(),
            _ => {}
        }
    }
    let known = known(&name, &Fields::collect(data)?)?;
    Ok(known.unwrap_or(NftExpr::Unknown(name)))
}

/// The expression, if it is one of ours in all that it does.
fn known(name: &str, fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    match name {
        "payload" => payload(fields),
        "meta" => meta(fields),
        "ct" => ct(fields),
        "fib" => fib(fields),
        "bitwise" => bitwise(fields),
        "cmp" => compare(fields),
        "lookup" => lookup(fields),
        "numgen" => random(fields),
        "dynset" => dynset(fields),
        "nat" => nat(fields),
        "masq" => Ok(fields.are_among(&[]).then_some(NftExpr::Masquerade)),
        "reject" => reject(fields),
        "counter" => Ok(Some(NftExpr::Counter)),
        "immediate" => immediate(fields),
        _ => Ok(None),
    }
}

/// The attributes of an expression.
struct Fields<'a>(Vec<Attribute<'a>>);

impl<'a> Fields<'a> {
    fn collect(attributes: Attributes<'a>) -> Result<Self, ParseError> {
        attributes.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are no others than these: each changes what an expression does.
    fn are_among(&self, kinds: &[u16]) -> bool {
        self.0.iter().all(|attribute| kinds.contains(&attribute.kind))
    }

    fn get(&self, kind: u16) -> Option<&Attribute<'a>> {
        self.0.iter().find(|attribute| attribute.kind == kind)
    }

    fn number(&self, kind: u16) -> Result<Option<u32>, ParseError> {
        self.get(kind).map(Attribute::be32).transpose()
    }

    /// A number that is 0 where it is absent.
    fn number_or_zero(&self, kind: u16) -> Result<u32, ParseError> {
        self.number(kind).map(Option::unwrap_or_default)
    }

    fn value(&self, kind: u16) -> Result<Option<Box<[u8]>>, ParseError> {
        let Some(attribute) = self.get(kind) else { return Ok(None) };
        Ok(value(attribute)?.map(Into::into))
    }

    fn register(&self, kind: u16) -> Result<Option<Register>, ParseError> {
        Ok(self.number(kind)?.and_then(register_of))
    }
}

/// The register of a number: the kernel tells the four registers of sixteen bytes by numbers of
/// their own, whoever named them otherwise.
fn register_of(number: u32) -> Option<Register> {
    let index = match number {
        register::VERDICT => return None,
        wide @ ..=register::LAST_WIDE => (wide - 1) * 4,
        narrow => narrow.checked_sub(register::FIRST)?,
    };
    let index = u8::try_from(index).ok()?;
    (index < Register::COUNT).then_some(Register(index))
}

fn payload(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    if !fields.are_among(&[payload::TO, payload::BASE, payload::OFFSET, payload::LENGTH]) {
        return Ok(None);
    }
    let base = match fields.number(payload::BASE)? {
        Some(payload::NETWORK) => PayloadBase::Network,
        Some(payload::TRANSPORT) => PayloadBase::Transport,
        _ => return Ok(None),
    };
    let offset = fields.number_or_zero(payload::OFFSET)?;
    let length = fields.number_or_zero(payload::LENGTH)?;
    let to = fields.register(payload::TO)?;
    Ok(to.map(|to| NftExpr::Payload { base, offset, length, to }))
}

fn meta(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    const KEYS: [MetaKey; 5] = [
        MetaKey::NfProto,
        MetaKey::L4Proto,
        MetaKey::InputName,
        MetaKey::OutputName,
        MetaKey::Mark,
    ];
    let number = fields.number(meta::KEY)?;
    let key = KEYS.into_iter().find(|key| Some(meta_number(*key)) == number);
    let (to, from) = (fields.register(meta::TO)?, fields.register(meta::FROM)?);
    Ok(match (key, to, from) {
        (Some(key), Some(to), None) if fields.are_among(&[meta::KEY, meta::TO]) => {
            Some(NftExpr::Meta { key, to })
        }
        (Some(MetaKey::Mark), None, Some(from)) if fields.are_among(&[meta::KEY, meta::FROM]) => {
            Some(NftExpr::SetMark { from })
        }
        _ => None,
    })
}

fn ct(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    const KEYS: [CtKey; 4] = [CtKey::State, CtKey::Direction, CtKey::Status, CtKey::Mark];
    let number = fields.number(ct::KEY)?;
    let key = KEYS.into_iter().find(|key| Some(ct_number(*key)) == number);
    let (to, from) = (fields.register(ct::TO)?, fields.register(ct::FROM)?);
    Ok(match (key, to, from) {
        (Some(key), Some(to), None) if fields.are_among(&[ct::KEY, ct::TO]) => {
            Some(NftExpr::Ct { key, to })
        }
        (Some(CtKey::Mark), None, Some(from)) if fields.are_among(&[ct::KEY, ct::FROM]) => {
            Some(NftExpr::SetCtMark { from })
        }
        _ => None,
    })
}

fn fib(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let asked = (fields.number(fib::RESULT)?, fields.number(fib::FLAGS)?);
    if asked != (Some(fib::ADDRESS_TYPE), Some(fib::DESTINATION)) {
        return Ok(None);
    }
    Ok(fields.register(fib::TO)?.map(|to| NftExpr::DestinationType { to }))
}

fn bitwise(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let only_mask = fields.are_among(&[
        bitwise::FROM,
        bitwise::TO,
        bitwise::LENGTH,
        bitwise::MASK,
        bitwise::XOR,
        bitwise::OPERATION,
    ]);
    if !only_mask || fields.number_or_zero(bitwise::OPERATION)? != bitwise::MASK_XOR {
        return Ok(None);
    }
    let (from, to) = (fields.register(bitwise::FROM)?, fields.register(bitwise::TO)?);
    let (mask, xor) = (fields.value(bitwise::MASK)?, fields.value(bitwise::XOR)?);
    let (Some(from), Some(to), Some(mask), Some(xor)) = (from, to, mask, xor) else {
        return Ok(None);
    };
    Ok(Some(NftExpr::Bitwise { from, to, mask, xor }))
}

fn compare(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let negated = match fields.number(cmp::OPERATION)? {
        Some(cmp::EQUAL) => false,
        Some(cmp::NOT_EQUAL) => true,
        _ => return Ok(None),
    };
    let (from, value) = (fields.register(cmp::FROM)?, fields.value(cmp::DATA)?);
    let (Some(from), Some(value)) = (from, value) else { return Ok(None) };
    Ok(Some(NftExpr::Compare { from, negated, value }))
}

fn lookup(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let (Some(set), Some(key)) = (fields.get(lookup::SET), fields.register(lookup::FROM)?) else {
        return Ok(None);
    };
    let flags = fields.number_or_zero(lookup::FLAGS)?;
    let result = match (fields.number(lookup::TO)?, flags) {
        (None, 0) => LookupResult::Membership { negated: false },
        (None, lookup::INVERTED) => LookupResult::Membership { negated: true },
        (Some(register::VERDICT), 0) => LookupResult::Verdict,
        (Some(number), 0) => match register_of(number) {
            Some(to) => LookupResult::Value(to),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(NftExpr::Lookup { set: set.text().into(), key, result }))
}

fn random(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let plain = fields.number(numgen::KIND)? == Some(numgen::RANDOM)
        && fields.number_or_zero(numgen::OFFSET)? == 0;
    let (modulus, to) = (fields.number(numgen::MODULUS)?, fields.register(numgen::TO)?);
    let (true, Some(modulus), Some(to)) = (plain, modulus, to) else { return Ok(None) };
    Ok(Some(NftExpr::Random { modulus, to }))
}

fn dynset(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let update = match fields.number(dynset::OPERATION)? {
        Some(dynset::UPDATE) => SetUpdate::Update,
        Some(dynset::DELETE) => SetUpdate::Delete,
        _ => return Ok(None),
    };
    // Flags and expressions are none of ours.
    let plain = fields.are_among(&[
        dynset::SET,
        dynset::OPERATION,
        dynset::KEY,
        dynset::VALUE,
        dynset::TIMEOUT,
        dynset::PADDING,
        dynset::FLAGS,
    ]) && fields.number_or_zero(dynset::FLAGS)? == 0;
    let (set, key) = (fields.get(dynset::SET), fields.register(dynset::KEY)?);
    let (true, Some(set), Some(key)) = (plain, set, key) else { return Ok(None) };
    let timeout = fields.get(dynset::TIMEOUT).map(Attribute::be64).transpose()?;
    Ok(Some(NftExpr::Dynset {
        set: set.text().into(),
        update,
        key,
        value: fields.register(dynset::VALUE)?,
        // The kernel tells the set's own as 0.
        timeout_millis: timeout.filter(|millis| *millis > 0),
    }))
}

fn nat(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let kind = match fields.number(nat::KIND)? {
        Some(nat::SOURCE) => NatKind::Source,
        Some(nat::DESTINATION) => NatKind::Destination,
        _ => return Ok(None),
    };
    let number = fields.number(nat::FAMILY)?;
    let family = Family::ALL.into_iter().find(|family| Some(family_number(*family)) == number);
    let address = fields.register(nat::ADDRESS)?;
    let port = fields.register(nat::PORT)?;
    // The kernel tells the end of a range also where there is none but the begin.
    let one_address =
        fields.get(nat::LAST_ADDRESS).is_none() || fields.register(nat::LAST_ADDRESS)? == address;
    let one_port = fields.get(nat::LAST_PORT).is_none() || fields.register(nat::LAST_PORT)? == port;
    let plain = fields.number_or_zero(nat::FLAGS)? & !nat::IMPLIED_FLAGS == 0;
    let (Some(family), Some(address), true) = (family, address, one_address && one_port && plain)
    else {
        return Ok(None);
    };
    Ok(Some(NftExpr::Nat { kind, family, address, port }))
}

fn reject(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let code = fields.get(reject::CODE).map(Attribute::byte).transpose()?;
    Ok(match (fields.number(reject::KIND)?, code) {
        (Some(reject::TCP_RESET), _) => Some(NftExpr::Reject(RejectWith::TcpReset)),
        (Some(reject::ICMPX), Some(reject::PORT_UNREACHABLE)) => {
            Some(NftExpr::Reject(RejectWith::PortUnreachable))
        }
        _ => None,
    })
}

fn immediate(fields: &Fields<'_>) -> Result<Option<NftExpr>, ParseError> {
    let Some(data) = fields.get(immediate::DATA) else { return Ok(None) };
    if let Some(verdict) = verdict(data)? {
        return Ok(Some(NftExpr::Verdict(verdict)));
    }
    let (to, constant) = (fields.register(immediate::TO)?, value(data)?);
    Ok(to.zip(constant).map(|(to, value)| NftExpr::Constant { value: value.into(), to }))
}
