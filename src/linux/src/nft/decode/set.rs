//! Sets and maps without their elements.

use smartnat_core::objects::nft::{NFT_TABLE, NftData, NftName, NftSetSpec, NftType};

use crate::netlink::{Attribute, Attributes, ParseError};
use crate::nft::protocol::{data, expression, set as attribute, set_flag};
use crate::nft::types;

/// All flags that a set of ours may have.
const OUR_FLAGS: u32 = set_flag::INTERVAL
    | set_flag::MAP
    | set_flag::TIMEOUT
    | set_flag::EVALUATED
    | set_flag::CONCATENATION
    | set_flag::EXPRESSION;

/// What is told of a set.
#[derive(Debug, Default)]
struct Told {
    table: String,
    name: String,
    flags: u32,
    key_type: u32,
    key_length: u32,
    data_type: u32,
    data_length: u32,
    size: Option<u32>,
    timeout_millis: u64,
    /// The expressions of each element.
    expressions: Vec<String>,
}

/// Reads a message of a listing of sets. `None`: it is of another table, or came with a rule
/// and goes with it. One that is of no shape of ours has a key of an unknown type.
pub(crate) fn set(attributes: Attributes<'_>) -> Result<Option<(NftName, NftSetSpec)>, ParseError> {
    let mut told = Told::default();
    for attribute in attributes {
        told.add(&attribute?)?;
    }
    if told.table != NFT_TABLE || told.flags & set_flag::ANONYMOUS != 0 {
        return Ok(None);
    }
    let spec = told.spec();
    Ok(Some((told.name.into(), spec)))
}

impl Told {
    fn add(&mut self, attribute: &Attribute<'_>) -> Result<(), ParseError> {
        match attribute.kind {
            attribute::TABLE => self.table = attribute.text(),
            attribute::NAME => self.name = attribute.text(),
            attribute::FLAGS => self.flags = attribute.be32()?,
            attribute::KEY_TYPE => self.key_type = attribute.be32()?,
            attribute::KEY_LENGTH => self.key_length = attribute.be32()?,
            attribute::DATA_TYPE => self.data_type = attribute.be32()?,
            attribute::DATA_LENGTH => self.data_length = attribute.be32()?,
            attribute::TIMEOUT => self.timeout_millis = attribute.be64()?,
            attribute::DESCRIPTION => {
                for inner in attribute.nested() {
                    let inner = inner?;
                    if inner.kind == attribute::DESCRIPTION_SIZE {
                        self.size = Some(inner.be32()?);
                    }
                }
            }
            attribute::EXPRESSION => self.add_expression(attribute)?,
            attribute::EXPRESSIONS => {
                for item in attribute.nested() {
                    self.add_expression(&item?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add_expression(&mut self, attribute: &Attribute<'_>) -> Result<(), ParseError> {
        let name = super::find(attribute.nested(), expression::NAME)?;
        self.expressions.push(name.map_or_else(String::new, |name| name.text()));
        Ok(())
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn spec(&self) -> NftSetSpec {
        let data = match self.data_type {
            _ if !self.has(set_flag::MAP) => NftData::Nothing,
            data::VERDICT_TYPE => NftData::Verdict,
            number => NftData::Values(types::fields(number)),
        };
        let seconds = u32::try_from(self.timeout_millis / 1000).unwrap_or(u32::MAX);
        let mut spec = NftSetSpec {
            key: types::fields(self.key_type),
            data,
            interval: self.has(set_flag::INTERVAL),
            dynamic: self.has(set_flag::EVALUATED),
            timeout: self.has(set_flag::TIMEOUT).then_some(seconds),
            counter: !self.expressions.is_empty(),
            size: self.size,
        };
        if !self.is_ours(&spec) {
            spec.key = vec![NftType::Unknown(0)];
        }
        spec
    }

    /// Whether [`NftSetSpec`] tells all that matters of it.
    fn is_ours(&self, spec: &NftSetSpec) -> bool {
        let counts = self.expressions.iter().all(|name| name == "counter");
        let concatenated = spec.interval && spec.key.len() > 1;
        let data_length = match &spec.data {
            NftData::Values(fields) => types::length(fields),
            // The kernel tells a verdict's own size.
            NftData::Nothing | NftData::Verdict => self.data_length,
        };
        self.flags & !OUR_FLAGS == 0
            && self.has(set_flag::CONCATENATION) == concatenated
            && self.expressions.len() <= 1
            && counts
            && self.timeout_millis.is_multiple_of(1000)
            && (self.key_length == types::length(&spec.key) || has_unknown(&spec.key))
            && self.data_length == data_length
    }
}

/// Whether that is said already.
fn has_unknown(fields: &[NftType]) -> bool {
    fields.iter().any(|field| matches!(field, NftType::Unknown(_)))
}
